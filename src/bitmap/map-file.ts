/**
 * A region map on disk. Pages are never updated in place: each has two slots, the older good one
 * survives a torn write of the newer. All integers little-endian.
 *
 *     0      header, one page: "KAGEMAP1", u32 version, u32 fill (0 or 1), u64 regions,
 *            u64 region size, 64 bytes name (UTF-8, zero padded), u64 XXH64 of all before
 *     4096   page 0 slot 0, page 0 slot 1, page 1 slot 0 …, 4096 bytes each:
 *            u64 XXH64 of the rest of the slot, u64 sequence, u64 page index, u64 reserved,
 *            4064 bytes of bits
 *
 * A page whose two slots are zero holds the fill value everywhere: a map that is all clear or all set
 * is a header and a hole, whatever the size of the volume.
 */

import { assert } from '../base/assert.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Folder } from '../device/host.ts';
import { HASH_STATE_BYTES, type Kernel } from '../kernel/kernel.ts';
import { PAGE_BITS, RegionMap } from './region-map.ts';

const PAGE = 4096;
const SLOT_HEADER = 32;
const MAGIC = 'KAGEMAP1';
const VERSION = 1;
const HEADER_HASHED = 96;
/** So many pages are written before others have their turn: half a millisecond. */
const PAGES_AT_ONCE = 32;

export type MapFileFacts = {
  /** Binds the file to its pair, map and generation; at most 64 bytes of UTF-8. */
  readonly name: string;
  readonly regions: number;
  /** Bytes. */
  readonly regionSize: number;
};

export class MapFile {
  readonly #device: BlockDevice;
  readonly #turn: () => Promise<void>;
  readonly #kernel: Kernel;
  readonly #scratch: number;
  readonly #current: Uint8Array;
  #sequence = 1;

  private constructor(folder: Folder, device: BlockDevice, kernel: Kernel, pages: number) {
    this.#turn = () => folder.turn();
    this.#device = device;
    this.#kernel = kernel;
    this.#scratch = kernel.allocate(2 * PAGE + HASH_STATE_BYTES);
    // Slot that holds the newest state of each page; 2 = neither.
    this.#current = new Uint8Array(pages).fill(2);
  }

  /** Makes the file anew with what `map` holds, synced. The caller syncs the folder. */
  static async create(folder: Folder, facts: MapFileFacts, map: RegionMap): Promise<MapFile> {
    const { kernel } = map;
    const pages = pageCount(facts.regions);
    const device = await folder.open(facts.name, { create: PAGE + pages * 2 * PAGE });
    const file = new MapFile(folder, device, kernel, pages);
    // What is touched from now on may come too late for its page, and is saved later.
    const touched = map.takeTouched();
    try {
      // What most bits are costs nothing.
      const fill = map.count() > map.regions / 2 ? 1 : 0;
      await device.write(file.#header(facts, fill), 0);
      await file.#writePages(map, changedPages(map, fill === 1));
      await device.flush();
    } catch (error) {
      map.giveBackTouched(touched);
      await file.close();
      throw error;
    }
    return file;
  }

  /**
   * Opens and reads the file. `doubt` says why its content cannot be believed (then the map is all
   * set), or null. `tornIsOld`: a damaged slot is the trace of a power cut, and the older state is
   * right (pending maps after an unclean end); otherwise any damaged slot is doubt.
   */
  static async open(
    folder: Folder,
    facts: MapFileFacts,
    kernel: Kernel,
    options: { tornIsOld: boolean; readOnly?: boolean },
  ): Promise<{ file: MapFile | null; map: RegionMap; doubt: string | null }> {
    const map = new RegionMap(kernel, facts.regions);
    const fail = (doubt: string) => {
      map.setAll();
      return { file: null, map, doubt };
    };
    let device: BlockDevice;
    try {
      device = await folder.open(facts.name, { readOnly: options.readOnly });
    } catch {
      return fail(`the map ${facts.name} cannot be opened`);
    }
    const pages = pageCount(facts.regions);
    const file = new MapFile(folder, device, kernel, pages);
    let doubt: string | null = null;
    try {
      doubt = await file.#read(facts, map, options.tornIsOld);
    } catch {
      doubt = `the map ${facts.name} cannot be read`;
    }
    if (doubt !== null) {
      await file.close();
      return fail(doubt);
    }
    map.takeTouched();
    return { file, map, doubt: null };
  }

  /** Writes the pages that were touched and syncs. One sync, none if nothing was touched. */
  async save(map: RegionMap): Promise<void> {
    const pages = map.takeTouched();
    if (pages.length === 0) return;
    const durable = pages.map((page) => this.#current[page]);
    try {
      await this.#writePages(map, pages);
      await this.#device.flush();
    } catch (error) {
      // The slots that are durable are still the old ones: the next try must not write over them.
      for (const [i, page] of pages.entries()) this.#current[page] = durable[i];
      map.giveBackTouched(pages);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#kernel.release(this.#scratch);
    await this.#device.close();
  }

  async #read(facts: MapFileFacts, map: RegionMap, tornIsOld: boolean): Promise<string | null> {
    if (this.#device.size !== PAGE + this.#current.length * 2 * PAGE) return 'the map is truncated';
    const head = this.#kernel.bytes(this.#scratch, PAGE);
    await this.#device.read(head, 0);
    const fill = new DataView(head.buffer, head.byteOffset).getUint32(12, true);
    const stored = head.slice(0, HEADER_HASHED + 8);
    const wanted = this.#header(facts, fill).slice(0, HEADER_HASHED + 8);
    if (fill > 1 || !sameBytes(stored, wanted)) return 'the map is damaged or of another pair';
    for (let page = 0; page < this.#current.length; page++) {
      const doubt = await this.#readPage(map, page, fill === 1, tornIsOld);
      if (doubt !== null) return doubt;
    }
    return null;
  }

  async #readPage(
    map: RegionMap,
    page: number,
    fill: boolean,
    tornIsOld: boolean,
  ): Promise<string | null> {
    const both = this.#kernel.bytes(this.#scratch, 2 * PAGE);
    await this.#device.read(both, PAGE + page * 2 * PAGE);
    const slots = [this.#judge(page, 0), this.#judge(page, 1)];
    const damaged = slots.filter((s) => s === 'damaged').length;
    // A power cut tears one slot: the other one is not written before that is synced.
    if (damaged > (tornIsOld ? 1 : 0)) return `page ${page} of the map is damaged`;
    const sequences = slots.map((s) => (typeof s === 'number' ? s : -1));
    const best = sequences[0] >= sequences[1] ? 0 : 1;
    if (sequences[best] < 0) {
      const { first, count } = pageRange(map.regions, page);
      if (fill) map.set(first, count);
      return null;
    }
    this.#sequence = Math.max(this.#sequence, sequences[best] + 1);
    this.#current[page] = best;
    map.load(page, this.#scratch + best * PAGE + SLOT_HEADER);
    return null;
  }

  /** Sequence of a good slot in the scratch window, `empty`, or `damaged`. */
  #judge(page: number, slot: number): number | 'empty' | 'damaged' {
    const at = this.#scratch + slot * PAGE;
    const bits = this.#scratch + 2 * PAGE;
    if (this.#kernel.nonZero(at, PAGE, PAGE, bits, 0) === 0) return 'empty';
    const hash = this.#hash(at + 8, PAGE - 8);
    const view = this.#kernel.bytes(at, PAGE);
    const data = new DataView(view.buffer, view.byteOffset);
    if (data.getBigUint64(0, true) !== hash || data.getBigUint64(16, true) !== BigInt(page)) {
      return 'damaged';
    }
    return Number(data.getBigUint64(8, true));
  }

  async #writePages(map: RegionMap, pages: Iterable<number>): Promise<void> {
    let written = 0;
    for (const page of pages) {
      if (++written % PAGES_AT_ONCE === 0) await this.#turn();
      await this.#writePage(map, page);
    }
  }

  async #writePage(map: RegionMap, page: number): Promise<void> {
    const slot = this.#current[page] === 0 ? 1 : 0;
    const at = this.#scratch;
    const { first, count } = pageRange(map.regions, page);
    this.#kernel.fill(at, 0, PAGE);
    this.#kernel.copy(at + SLOT_HEADER, map.address + first / 8, Math.ceil(count / 8));
    const data = this.#view(at);
    data.setBigUint64(8, BigInt(this.#sequence++), true);
    data.setBigUint64(16, BigInt(page), true);
    const hash = this.#hash(at + 8, PAGE - 8);
    this.#view(at).setBigUint64(0, hash, true);
    // Others may make the memory grow before this is written, which empties every view of it.
    const bytes = this.#kernel.bytes(at, PAGE).slice();
    await this.#device.write(bytes, PAGE + (page * 2 + slot) * PAGE);
    this.#current[page] = slot;
  }

  #header(facts: MapFileFacts, fill: number): Uint8Array {
    const bytes = new Uint8Array(PAGE);
    const name = new TextEncoder().encode(facts.name);
    assert(name.byteLength <= 64, 'name of a map is too long');
    bytes.set(new TextEncoder().encode(MAGIC), 0);
    const data = new DataView(bytes.buffer);
    data.setUint32(8, VERSION, true);
    data.setUint32(12, fill, true);
    data.setBigUint64(16, BigInt(facts.regions), true);
    data.setBigUint64(24, BigInt(facts.regionSize), true);
    bytes.set(name, 32);
    this.#kernel.bytes(this.#scratch + PAGE, HEADER_HASHED).set(bytes.subarray(0, HEADER_HASHED));
    data.setBigUint64(HEADER_HASHED, this.#hash(this.#scratch + PAGE, HEADER_HASHED), true);
    return bytes;
  }

  #view(at: number): DataView {
    const bytes = this.#kernel.bytes(at, PAGE);
    return new DataView(bytes.buffer, bytes.byteOffset, PAGE);
  }

  #hash(address: number, length: number): bigint {
    return hashOf(this.#kernel, this.#scratch + 2 * PAGE, address, length);
  }
}

/** XXH64 of a window, with `state` as scratch of `HASH_STATE_BYTES`. */
export function hashOf(kernel: Kernel, state: number, address: number, length: number): bigint {
  kernel.hashReset(state);
  kernel.hashUpdate(state, address, length);
  return BigInt(`0x${kernel.hashDigest(state)}`);
}

function pageCount(regions: number): number {
  return Math.ceil(regions / PAGE_BITS);
}

function pageRange(regions: number, page: number): { first: number; count: number } {
  const first = page * PAGE_BITS;
  return { first, count: Math.min(PAGE_BITS, regions - first) };
}

/** Pages that hold a bit other than `fill`. */
function* changedPages(map: RegionMap, fill: boolean): Generator<number> {
  const next = (from: number) => (fill ? map.nextClear(from) : map.nextSet(from));
  let region = next(0);
  while (region < map.regions) {
    const page = Math.floor(region / PAGE_BITS);
    yield page;
    const after = (page + 1) * PAGE_BITS;
    region = after < map.regions ? next(after) : map.regions;
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((value, i) => value === b[i]);
}
