/**
 * The one thing that must be true between any two steps of any two operations: a region of which a pair
 * believes that its sides are equal is equal. Looked at from outside, on the disks themselves.
 */

import assert from 'node:assert';
import { setFaultHook } from '../../src/base/faults.ts';
import { type HotExtent, keyOf } from '../../src/bitmap/intent-log.ts';
import type { PairRecord } from '../../src/catalog/records.ts';
import type { MemoryHost } from '../../src/device/memory-host.ts';
import type { State } from '../../src/engine/state.ts';
import type { Pair } from '../../src/proxy/pair.ts';

/** Bytes [from, to) that some client's write is under way for. */
export type Flight = { readonly from: number; readonly to: number };

export class Belief {
  readonly #host: MemoryHost;
  /** Extents that were hot at the last look, or are on their way out of the log. */
  readonly #hot = new Map<string, HotExtent>();
  readonly flights = new Set<Flight>();
  /** A disk has lost what it could not sync: hot extents will be seen to before they leave the log. */
  lostData = false;
  /** Proxy of the pair that is being given up. */
  leaving: string | undefined;

  constructor(host: MemoryHost) {
    this.#host = host;
    setFaultHook((step) => {
      if (step === 'evict:done') this.#hot.clear();
    });
  }

  /** The session has ended. */
  forget(): void {
    this.#hot.clear();
    this.flights.clear();
    this.lostData = false;
    this.leaving = undefined;
  }

  async require(state: State): Promise<void> {
    if (state.broken) return;
    if (state.logIsOpen) {
      for (const extent of (await state.log()).extents) this.#hot.set(keyOf(extent), extent);
    }
    for (const record of state.record.pairs) {
      const pair = state.pairs.get(record.id);
      const name = state.volumeById(record.proxy).name;
      if (pair === undefined || record.doubt !== null || name === this.leaving) continue;
      const region = this.#wrongRegion(state, record, pair);
      if (region === undefined) continue;
      const relation = record.joined ? 'joined' : 'parted';
      assert.fail(`${relation} ${name}: region ${region} is believed equal, and is not`);
    }
  }

  #wrongRegion(state: State, record: PairRecord, pair: Pair): number | undefined {
    const [master, proxy] = [record.master, record.proxy].map(
      (id) => this.#host.disks.get(state.diskOf(state.volumeById(id)).path)!.content,
    );
    const { regionSize, maps, size } = pair;
    for (let region = 0; region < pair.regions; region++) {
      if (maps.pending.has(region) || (!record.joined && maps.changed.has(region))) continue;
      const from = region * regionSize;
      const to = Math.min(from + regionSize, size);
      if (Buffer.compare(master.subarray(from, to), proxy.subarray(from, to)) === 0) continue;
      if (this.lostData && this.#isHot(record, Math.floor(from / state.tuning.extentSize)))
        continue;
      if (![...this.flights].some((flight) => flight.from < to && from < flight.to)) return region;
    }
    return undefined;
  }

  #isHot({ master, proxy }: PairRecord, extent: number): boolean {
    return [master, proxy].some((volume) => this.#hot.has(keyOf({ volume, extent })));
  }
}
