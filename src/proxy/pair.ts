/**
 * A pair while its class is open: its record and its three maps, in memory and on disk.
 *
 * A region of `pending` that was filled by a client's write, or brought by the copier, is *settling*:
 * its bit stays set in the map (so that no save of a neighbour clears it too early) and reads already
 * use the target. It settles when both sides were synced since, and its clear bit is durable.
 * Maps that differ from their files in more than settled bits are *stale*; the next commit writes
 * a new generation of them.
 */

import { MapFile } from '../bitmap/map-file.ts';
import { RegionMap, type Run } from '../bitmap/region-map.ts';
import { MAP_NAMES, type MapName, mapFileName, type PairRecord } from '../catalog/records.ts';
import type { Folder } from '../device/host.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { PairView } from './transitions.ts';

export type Maps = Record<MapName, RegionMap>;

export class Pair {
  readonly id: number;
  /** Bytes of each side. */
  readonly size: number;
  readonly regionSize: number;
  readonly regions: number;
  readonly maps: Maps;
  readonly files: Partial<Record<MapName, MapFile>>;
  readonly stale = new StaleMaps();
  /**
   * While a comparison runs everything counts as different from the last part; this is what is known to
   * be, and what `increment` becomes when the comparison has ended.
   */
  known: RegionMap | undefined;
  /** Regions, each with a number of its own for each time it began to settle. */
  readonly #settling = new Map<number, number>();
  #begun = 0;
  #saving: Promise<void> = Promise.resolve();

  constructor(record: PairRecord, size: number, maps: Maps, files: Pair['files'] = {}) {
    this.id = record.id;
    this.size = size;
    this.regionSize = record.regionSize;
    this.regions = regionCount(size, record.regionSize);
    this.maps = maps;
    this.files = files;
  }

  /** A new pair: all maps empty and stale. */
  static fresh(record: PairRecord, size: number, kernel: Kernel): Pair {
    const regions = regionCount(size, record.regionSize);
    const pair = new Pair(record, size, {
      changed: new RegionMap(kernel, regions),
      pending: new RegionMap(kernel, regions),
      increment: new RegionMap(kernel, regions),
    });
    for (const name of MAP_NAMES) pair.stale.add(name);
    return pair;
  }

  /**
   * Reads the maps. Doubts about one of them come back by name; that map is all set then. `clean`:
   * the class was closed in order, so a damaged slot is damage and no trace of a power cut.
   */
  static async load(
    folder: Folder,
    record: PairRecord,
    size: number,
    kernel: Kernel,
    options: { clean: boolean; readOnly: boolean },
  ): Promise<{ pair: Pair; doubts: Partial<Record<MapName, string>> }> {
    const doubts: Partial<Record<MapName, string>> = {};
    const files: Pair['files'] = {};
    const maps = {} as Maps;
    for (const name of MAP_NAMES) {
      const facts = {
        name: mapFileName(record, name),
        regions: regionCount(size, record.regionSize),
        regionSize: record.regionSize,
      };
      const loaded = await MapFile.open(folder, facts, kernel, {
        // An older state of `pending` asks for too much; of the others it would forget.
        tornIsOld: !options.clean && name === 'pending',
        readOnly: options.readOnly,
      });
      maps[name] = loaded.map;
      if (loaded.file) files[name] = loaded.file;
      if (loaded.doubt !== null) doubts[name] = loaded.doubt;
    }
    const pair = new Pair(record, size, maps, files);
    for (const name of Object.keys(doubts)) pair.stale.add(name as MapName);
    return { pair, doubts };
  }

  isPending(region: number): boolean {
    return !this.#settling.has(region) && this.maps.pending.has(region);
  }

  isSettling(region: number): boolean {
    return this.#settling.has(region);
  }

  /** True when no copy is unfinished, and that is durable. */
  get pendingEmpty(): boolean {
    return this.#settling.size === 0 && this.maps.pending.isEmpty();
  }

  /**
   * The regions' content is on the target from now on, not yet durable. Those that are pending no more,
   * because the copy was given up meanwhile, have nothing to settle.
   */
  beginSettling({ first, count }: Run): void {
    for (let region = first; region < first + count; region++) {
      if (this.maps.pending.has(region)) this.#settling.set(region, this.#begun++);
    }
  }

  /** Content of the target that is not as it should be: the regions are plainly pending again. */
  pendAgain({ first, count }: Run): void {
    this.maps.pending.set(first, count);
    if (this.#settling.size === 0) return;
    for (let region = first; region < first + count; region++) this.#settling.delete(region);
  }

  /** Regions whose content the next snapshot has, and the last one may not have had. */
  addToIncrement({ first, count }: Run): void {
    this.maps.increment.set(first, count);
    this.known?.set(first, count);
  }

  /** Everything may differ from the last part, until `known` tells what does. */
  beginComparison(kernel: Kernel): void {
    this.dropKnown();
    this.known = new RegionMap(kernel, this.regions);
    this.known.or(this.maps.increment);
  }

  /** The comparison has ended. */
  takeKnown(): void {
    if (this.known === undefined) return;
    this.stale.add('increment');
    this.maps.increment.clearAll();
    this.maps.increment.or(this.known);
  }

  dropKnown(): void {
    this.known?.release();
    this.known = undefined;
  }

  /** Nobody knows whether the target has what was filled and not synced: it is plainly pending again. */
  unsettle(): void {
    this.#settling.clear();
  }

  /** Sets the bits of all regions of a hot extent. */
  markExtent(name: 'changed' | 'pending', extent: number, extentSize: number): void {
    const perExtent = extentSize / this.regionSize;
    const first = extent * perExtent;
    const count = Math.min(perExtent, this.regions - first);
    if (count > 0) this.maps[name].set(first, count);
  }

  /** The copy is given up: nothing is pending or settling any more. */
  dropPending(): void {
    this.maps.pending.clearAll();
    this.#settling.clear();
  }

  /** What is settling now: a sync of both sides that begins after this covers it. */
  settlingNow(): ReadonlyMap<number, number> {
    return new Map(this.#settling);
  }

  get settles(): boolean {
    return this.#settling.size > 0;
  }

  /**
   * Clears the bits of regions that were settling before both sides were synced, durably. A region
   * that has become pending since, or has settled and begun anew, is left alone.
   */
  async clearSettled(before: ReadonlyMap<number, number>, durably: Durably): Promise<void> {
    const regions: number[] = [];
    for (const [region, begun] of before) {
      if (this.#settling.get(region) === begun) regions.push(region);
    }
    if (regions.length === 0) return;
    for (const run of runsOf(regions)) this.maps.pending.clear(run.first, run.count);
    try {
      await durably(this, 'pending');
    } catch (error) {
      // Nobody may take them for durably clear.
      for (const region of regions) {
        if (this.#settling.get(region) === before.get(region)) this.maps.pending.set(region);
      }
      throw error;
    }
    for (const region of regions) {
      if (this.#settling.get(region) !== before.get(region)) continue;
      // Another call that failed meanwhile has put the bit back: it settles later.
      if (this.maps.pending.has(region)) continue;
      // Until now a write to the source had to settle it first.
      this.#settling.delete(region);
    }
  }

  /** Clears pending bits durably. The caller holds the regions and has synced both sides. */
  async clearPending(runs: readonly Run[], durably: Durably): Promise<void> {
    for (const run of runs) this.beginSettling(run);
    const held = new Map<number, number>();
    for (const { first, count } of runs) {
      for (let region = first; region < first + count; region++) {
        const begun = this.#settling.get(region);
        if (begun !== undefined) held.set(region, begun);
      }
    }
    await this.clearSettled(held, durably);
  }

  /** Saves what was touched of one map. A map without a good file waits for the next commit. */
  async save(name: MapName): Promise<void> {
    const turn = this.#saving.then(async () => {
      if (!this.stale.has(name)) await this.files[name]?.save(this.maps[name]);
    });
    this.#saving = turn.catch(() => {});
    await turn;
  }

  /** A new generation of a map; the older file is closed when nothing is being saved there. */
  async replaceFile(name: MapName, file: MapFile): Promise<void> {
    const turn = this.#saving.then(async () => {
      const before = this.files[name];
      this.files[name] = file;
      await before?.close();
    });
    this.#saving = turn.catch(() => {});
    await turn;
  }

  /** Whether a bit set now is made durable by `save` (false: only a commit can). */
  canSave(name: MapName): boolean {
    return this.files[name] !== undefined && !this.stale.has(name);
  }

  async close(): Promise<void> {
    this.dropKnown();
    for (const name of MAP_NAMES) {
      await this.files[name]?.close();
      this.maps[name].release();
    }
  }
}

/** Makes what was changed of a map durable, by its file or by a commit. */
export type Durably = (pair: Pair, name: MapName) => Promise<void>;

/** Names of maps that the next commit writes anew; each `add` counts, also during a commit. */
export class StaleMaps {
  readonly #added = new Map<MapName, number>();
  #count = 0;

  add(name: MapName): void {
    this.#added.set(name, ++this.#count);
  }

  has(name: MapName): boolean {
    return this.#added.has(name);
  }

  get size(): number {
    return this.#added.size;
  }

  /** How often any map became stale. */
  get marks(): number {
    return this.#count;
  }

  /** As it is now, for `written`. */
  now(): ReadonlyMap<MapName, number> {
    return new Map(this.#added);
  }

  /** A new generation of the map was committed, which held what was added until `added`. */
  written(name: MapName, added: number): void {
    if (this.#added.get(name) === added) this.#added.delete(name);
  }
}

function* runsOf(regions: readonly number[]): Generator<Run> {
  const sorted = [...regions].sort((a, b) => a - b);
  for (let i = 0; i < sorted.length; ) {
    let end = i + 1;
    while (end < sorted.length && sorted[end] === sorted[end - 1] + 1) end++;
    yield { first: sorted[i], count: end - i };
    i = end;
  }
}

export function regionCount(size: number, regionSize: number): number {
  return Math.ceil(size / regionSize);
}

/** The flags that the state table looks at. */
export function viewOf(
  record: PairRecord,
  pair: Pair,
  valid: { master: boolean; proxy: boolean },
): PairView {
  return {
    joined: record.joined,
    direction: record.direction,
    pendingEmpty: pair.pendingEmpty,
    masterValid: valid.master,
    proxyValid: valid.proxy,
  };
}
