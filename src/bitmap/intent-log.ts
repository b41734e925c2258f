/**
 * Hot extents of a class: which parts of which volumes may have writes in flight. An extent is
 * durable here before the first write into it is issued, so that the steady state costs no sync; it
 * leaves only when nothing is lost by that (DESIGN section 5, rule 1). A bounded
 * least-recently-used set in one page, written alternately to two slots:
 *
 *     u64 XXH64 of the rest, u64 sequence, u32 count, u32 reserved, count × (u32 volume, u32 extent)
 */

import { assert } from '../base/assert.ts';
import { reach } from '../base/faults.ts';
import { EXTENTS_MAX } from '../base/limits.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Folder } from '../device/host.ts';
import { HASH_STATE_BYTES, type Kernel } from '../kernel/kernel.ts';
import { hashOf } from './map-file.ts';

const SLOT = 4096;
const ENTRIES = 24;

/** A part of a volume; `extent` counts from 0 in units of `EXTENT_SIZE`. */
export type HotExtent = { readonly volume: number; readonly extent: number };

export class IntentLog {
  readonly #device: BlockDevice;
  readonly #kernel: Kernel;
  readonly #scratch: number;
  /** Least recently used first. */
  readonly #hot = new Map<string, HotExtent>();
  #sequence = 1;
  #slot = 0;
  #stale = false;
  /** Most extents it holds. */
  readonly #most: number;

  private constructor(device: BlockDevice, kernel: Kernel, most: number) {
    this.#device = device;
    this.#kernel = kernel;
    this.#most = most;
    this.#scratch = kernel.allocate(SLOT + HASH_STATE_BYTES);
  }

  static async create(folder: Folder, kernel: Kernel, most = EXTENTS_MAX): Promise<IntentLog> {
    const device = await folder.open('intent', { create: 2 * SLOT });
    await device.flush();
    await folder.sync();
    return new IntentLog(device, kernel, most);
  }

  /**
   * `doubt`: the log cannot be believed; everything may be hot. Null when it can. A missing log is
   * made anew, unless `readOnly`.
   */
  static async open(
    folder: Folder,
    kernel: Kernel,
    most = EXTENTS_MAX,
    readOnly = false,
  ): Promise<{ log: IntentLog | undefined; doubt: string | null }> {
    let device: BlockDevice;
    try {
      device = await folder.open('intent', { readOnly });
      if (device.size !== 2 * SLOT) throw new Error('size');
    } catch {
      const doubt = 'the intent log is missing or truncated';
      return { log: readOnly ? undefined : await IntentLog.create(folder, kernel, most), doubt };
    }
    const log = new IntentLog(device, kernel, most);
    return { log, doubt: await log.#read() };
  }

  get extents(): readonly HotExtent[] {
    return [...this.#hot.values()];
  }

  /** True when every extent is durably in the log (and marks them as used). */
  covers(extents: readonly HotExtent[]): boolean {
    let all = true;
    for (const extent of extents) {
      const key = keyOf(extent);
      if (this.#hot.delete(key)) this.#hot.set(key, extent);
      else all = false;
    }
    return all;
  }

  /** How many extents have to leave before `extents` fit, 0 or more. */
  surplus(extents: readonly HotExtent[]): number {
    const fresh = [...new Set(extents.map(keyOf))].filter((key) => !this.#hot.has(key)).length;
    return Math.max(0, this.#hot.size + fresh - this.#most);
  }

  /**
   * The extents that leave so that `extents` fit, least recently used first, none of them `kept`; too
   * few if there are not enough.
   */
  victims(
    extents: readonly HotExtent[],
    kept: (extent: HotExtent) => boolean = () => false,
  ): readonly HotExtent[] {
    const surplus = this.surplus(extents);
    if (surplus === 0) return [];
    const wanted = new Set(extents.map(keyOf));
    return [...this.#hot.entries()]
      .filter(([key, extent]) => !wanted.has(key) && !kept(extent))
      .slice(0, surplus)
      .map(([, extent]) => extent);
  }

  /** Makes extents durable. They fit: the caller has evicted the `victims`. */
  async enter(extents: readonly HotExtent[]): Promise<void> {
    const all = new Map(this.#hot);
    for (const extent of extents) all.set(keyOf(extent), extent);
    assert(all.size <= this.#most, 'the intent log is full');
    reach('intent:before-write');
    await this.#write([...all.values()]);
    // Only now: whoever finds them in the log writes at once.
    for (const extent of extents) this.#hot.set(keyOf(extent), extent);
    reach('intent:durable');
  }

  /** Takes extents out in memory; durable with the next `enter` or `save`. */
  leave(extents: readonly HotExtent[]): void {
    for (const extent of extents) this.#hot.delete(keyOf(extent));
    this.#stale = true;
  }

  /** What was to leave stays after all. */
  comeBack(extents: readonly HotExtent[]): void {
    const later = [...this.#hot.values()];
    this.#hot.clear();
    for (const extent of [...extents, ...later]) this.#hot.set(keyOf(extent), extent);
  }

  async save(): Promise<void> {
    if (this.#stale) await this.#write(this.extents);
  }

  async close(): Promise<void> {
    this.#kernel.release(this.#scratch);
    await this.#device.close();
  }

  async #write(extents: readonly HotExtent[]): Promise<void> {
    const bytes = this.#kernel.bytes(this.#scratch, SLOT);
    bytes.fill(0);
    const data = new DataView(bytes.buffer, bytes.byteOffset, SLOT);
    data.setBigUint64(8, BigInt(this.#sequence++), true);
    data.setUint32(16, extents.length, true);
    let at = ENTRIES;
    for (const { volume, extent } of extents) {
      data.setUint32(at, volume, true);
      data.setUint32(at + 4, extent, true);
      at += 8;
    }
    const hash = hashOf(this.#kernel, this.#scratch + SLOT, this.#scratch + 8, SLOT - 8);
    data.setBigUint64(0, hash, true);
    // Others may make the memory grow before this is written, which empties every view of it.
    await this.#device.write(bytes.slice(), this.#slot * SLOT);
    await this.#device.flush();
    this.#slot = 1 - this.#slot;
    this.#stale = false;
  }

  /** A torn newest slot means that its write was not finished: the older one is right. */
  async #read(): Promise<string | null> {
    let best = -1;
    let damaged = 0;
    let entries: HotExtent[] = [];
    for (let slot = 0; slot < 2; slot++) {
      const bytes = this.#kernel.bytes(this.#scratch, SLOT);
      await this.#device.read(bytes, slot * SLOT);
      if (bytes.every((value) => value === 0)) continue;
      const data = new DataView(bytes.buffer, bytes.byteOffset, SLOT);
      const hash = hashOf(this.#kernel, this.#scratch + SLOT, this.#scratch + 8, SLOT - 8);
      const count = data.getUint32(16, true);
      if (data.getBigUint64(0, true) !== hash || count > EXTENTS_MAX) {
        damaged++;
        continue;
      }
      const sequence = Number(data.getBigUint64(8, true));
      if (sequence <= best) continue;
      best = sequence;
      this.#slot = 1 - slot;
      entries = Array.from({ length: count }, (_, i) => ({
        volume: data.getUint32(ENTRIES + 8 * i, true),
        extent: data.getUint32(ENTRIES + 8 * i + 4, true),
      }));
    }
    this.#sequence = best + 1 || 1;
    for (const extent of entries) this.#hot.set(keyOf(extent), extent);
    if (damaged > 0 && best < 0) this.#slot = 0;
    return damaged === 2 ? 'the intent log is damaged' : null;
  }
}

/** A name for an extent, for sets. */
export function keyOf({ volume, extent }: HotExtent): string {
  return `${volume}:${extent}`;
}
