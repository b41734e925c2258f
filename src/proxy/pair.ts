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
import { type Moment, Settling } from './settling.ts';
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
  readonly #settling = new Settling();
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

  /** True when a region of the run settles. */
  settlesIn(run: Run): boolean {
    return this.#settling.meets(run);
  }

  /** True when no copy is unfinished, and that is durable. */
  get pendingEmpty(): boolean {
    return this.#settling.isEmpty && this.maps.pending.isEmpty();
  }

  /**
   * The regions' content is on the target from now on, not yet durable. Those that are pending no more,
   * because the copy was given up meanwhile, have nothing to settle.
   */
  beginSettling(run: Run): void {
    for (const pending of this.#pendingIn(run)) this.#settling.begin(pending);
  }

  /** Content of the target that is not as it should be: the regions are plainly pending again. */
  pendAgain({ first, count }: Run): void {
    this.maps.pending.set(first, count);
    this.#settling.remove({ first, count });
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
  settlingNow(): Moment {
    return this.#settling.now();
  }

  get settles(): boolean {
    return !this.#settling.isEmpty;
  }

  /**
   * Clears the bits of regions that were settling before both sides were synced, durably. A region
   * that has become pending since, or has settled and begun anew, is left alone.
   */
  async clearSettled(before: Moment, durably: Durably): Promise<void> {
    const runs = this.#settling.of(before);
    if (runs.length === 0) return;
    for (const { first, count } of runs) this.maps.pending.clear(first, count);
    try {
      await durably(this, 'pending');
    } catch (error) {
      // Nobody may take them for durably clear.
      for (const { first, count } of this.#settling.of(before)) {
        this.maps.pending.set(first, count);
      }
      throw error;
    }
    for (const run of this.#settling.of(before)) {
      // Until now a write to the source had to settle it first. Where another call that failed meanwhile has
      // put the bit back it settles later.
      for (const clear of this.#clearIn(run)) this.#settling.remove(clear);
    }
  }

  /** Clears pending bits durably. The caller holds the regions and has synced both sides. */
  async clearPending(runs: readonly Run[], durably: Durably): Promise<void> {
    const pending = runs.flatMap((run) => [...this.#pendingIn(run)]);
    await this.clearSettled(this.#settling.nowOnly(pending), durably);
  }

  /** The parts of a run whose pending bits are set. */
  #pendingIn({ first, count }: Run): Iterable<Run> {
    return this.maps.pending.runs(first, first + count);
  }

  /** The other parts. */
  *#clearIn({ first, count }: Run): Generator<Run> {
    const { pending } = this.maps;
    const end = first + count;
    for (let at = pending.nextClear(first, end); at < end; ) {
      const next = pending.nextSet(at, end);
      yield { first: at, count: next - at };
      at = pending.nextClear(next, end);
    }
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
