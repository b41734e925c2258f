/**
 * A pair while its class is open: its record and its three maps, in memory and on disk.
 *
 * A region of `pending` that was filled by a client's write is *settling*: its bit stays set in the
 * map (so that no save of a neighbour clears it too early) and reads already use the target.
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
  readonly stale = new Set<MapName>();
  readonly settling = new Set<number>();
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
    return !this.settling.has(region) && this.maps.pending.has(region);
  }

  /**
   * Clears pending bits and makes that durable. The caller has synced both sides. When it fails the
   * regions are what they were, so that nobody takes them for durably clear.
   */
  async clearPending(runs: readonly Run[]): Promise<void> {
    const settled: number[] = [];
    for (const { first, count } of runs) {
      this.maps.pending.clear(first, count);
      if (this.settling.size === 0) continue;
      for (let region = first; region < first + count; region++) {
        if (this.settling.delete(region)) settled.push(region);
      }
    }
    try {
      await this.save('pending');
    } catch (error) {
      for (const { first, count } of runs) this.maps.pending.set(first, count);
      for (const region of settled) this.settling.add(region);
      throw error;
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

  /** Whether a bit set now is made durable by `save` (false: only a commit can). */
  canSave(name: MapName): boolean {
    return this.files[name] !== undefined && !this.stale.has(name);
  }

  async close(): Promise<void> {
    for (const name of MAP_NAMES) {
      await this.files[name]?.close();
      this.maps[name].release();
    }
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
    pendingEmpty: pair.maps.pending.isEmpty(),
    masterValid: valid.master,
    proxyValid: valid.proxy,
  };
}
