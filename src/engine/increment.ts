/**
 * What a backup pulls: where a parted proxy differs from what it was after the part before, frozen for as
 * long as a client has it. What may differ is never told to be equal: all of it differs while nobody
 * can say how the proxy came to its content, and what was written to it since the part differs too.
 */

import { RegionMap } from '../bitmap/region-map.ts';
import type { PairRecord, VolumeRecord } from '../catalog/records.ts';
import type { Increment } from './api.ts';
import type { State } from './state.ts';

/** One that has to be given back: it takes a bit for each region. */
export type FrozenIncrement = Increment & { release(): void };

/** Of a volume as it is now; undefined when it is no parted proxy, or clients may write to it. */
export function freezeIncrement(state: State, volume: VolumeRecord): FrozenIncrement | undefined {
  const record = state.pairOfProxy(volume);
  if (record === undefined || record.joined || !volume.readOnly) return undefined;
  const { regionSize, regions, maps, size } = state.pair(record);
  const map = new RegionMap(state.kernel, regions);
  if (isKnown(record)) {
    map.or(maps.increment);
    if (record.proxyWritten) map.or(maps.changed);
  } else {
    map.setAll();
  }
  return {
    regionSize,
    runs(offset, length) {
      const runs: { length: number; differs: boolean }[] = [];
      const until = Math.min(offset + length, size);
      const end = Math.ceil(until / regionSize);
      for (let at = offset; at < until; ) {
        const region = Math.floor(at / regionSize);
        const differs = map.has(region);
        // Not beyond what is asked for: the map may be large.
        const next = differs ? map.nextClear(region, end) : map.nextSet(region, end);
        const to = Math.min(next * regionSize, size);
        runs.push({ length: to - at, differs });
        at = to;
      }
      return runs;
    },
    release: () => map.release(),
  };
}

/** Whether the maps tell all that has come to the proxy since the part before. */
function isKnown({ doubt, lastVerb }: PairRecord): boolean {
  return doubt === null && (lastVerb === 'part' || lastVerb === 'update');
}
