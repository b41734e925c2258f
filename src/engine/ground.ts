/**
 * The engine's side of the link: devices by volume, what a session writes down before its first
 * write, and durable verdicts when a side fails under a client.
 */

import type { HotExtent } from '../bitmap/intent-log.ts';
import type { Run } from '../bitmap/region-map.ts';
import type { ClassRecord, PairRecord, VolumeRecord } from '../catalog/records.ts';
import type { Ground, Strand } from '../proxy/link.ts';
import type { Pair } from '../proxy/pair.ts';
import type { Side } from '../proxy/states.ts';
import { targetOf } from '../proxy/transitions.ts';
import type { State } from './state.ts';
import { lookAgain } from './trust.ts';

export function groundOf(state: State): Ground {
  let seen: ClassRecord | undefined;
  const strands = new Map<number, readonly Strand[]>();
  return {
    strands(volume) {
      if (seen !== state.record) {
        strands.clear();
        seen = state.record;
      }
      let found = strands.get(volume);
      if (found === undefined) {
        found = state.record.pairs
          .filter((p) => p.master === volume || p.proxy === volume)
          .map((record) => ({ record, pair: state.pair(record) }));
        strands.set(volume, found);
      }
      return found;
    },
    family: (volume) => state.record.pairs.find((p) => p.proxy === volume)?.master ?? volume,
    ready(volume, access) {
      const record = state.volumeById(volume);
      if (state.problems.has(record.disk)) return undefined;
      if (access === 'write' && !hasBegun(state, record)) return undefined;
      return state.openDevice(record, access);
    },
    device: (volume, access) => state.device(state.volumeById(volume), access),
    beginWrite: (volume) => beginWrite(state, state.volumeById(volume)),
    flushVolume: (volume) => state.flushVolume(state.volumeById(volume)),
    log: () => state.log(),
    saveMap: (pair, name) => state.saveMap(pair, name),
    extentSize: state.tuning.extentSize,
    extentsMax: state.tuning.extentsMax,
    mirrorFailed: (strand, regions, error, leaving) =>
      mirrorFailed(state, strand, { regions, leaving: leaving ?? [] }, error),
    preserveFailed: (strand, error) => preserveFailed(state, strand, error),
    masterFailed: ({ record, pair }, regions) =>
      state.commit((next) => {
        pair.pendAgain(regions);
        pair.addToIncrement(regions);
        for (const name of ['pending', 'increment'] as const) pair.stale.add(name);
        own(next, record.id).copy ??= {
          verb: 'recovery',
          method: 'differential',
          reason: 'a write to the master failed',
        };
      }),
  };
}

function hasBegun(state: State, volume: VolumeRecord): boolean {
  return state.written.has(volume.disk) && isNoted(state, volume);
}

/** The root says that the class is in use, and which proxies clients have written. */
function isNoted(state: State, volume: VolumeRecord): boolean {
  const asProxy = state.pairOfProxy(volume);
  return state.changed && (asProxy === undefined || asProxy.proxyWritten === true);
}

/** The first write of a session comes after a root that says so, and after what others wrote was seen. */
async function beginWrite(state: State, volume: VolumeRecord): Promise<void> {
  if (hasBegun(state, volume)) return;
  if (!state.written.has(volume.disk)) await lookAgain(state, state.pairsOf(volume));
  const stale = [...state.pairs.values()].some((pair) => pair.stale.size > 0);
  if (!stale && isNoted(state, volume)) return;
  await state.commit((next) => {
    for (const pair of next.pairs) if (pair.proxy === volume.id) pair.proxyWritten = true;
  });
}

/** For verdicts that are in force before they are durable. */
const atOnce = () => {};

async function mirrorFailed(
  state: State,
  { record, pair }: Strand,
  lost: { regions: Run; leaving: readonly HotExtent[] },
  error: unknown,
): Promise<void> {
  const log = await state.log();
  await state.commit(
    (next) => {
      const { changed, pending } = pair.maps;
      const halfRestored = record.direction === 'toMaster' && !pair.pendingEmpty;
      changed.set(lost.regions.first, lost.regions.count);
      changed.or(pending);
      pair.dropPending();
      // What the failing side had not synced may be gone as well: everything hot has changed.
      for (const { volume, extent } of [...log.extents, ...lost.leaving]) {
        if (volume === record.master) markExtent(pair, extent, state.tuning.extentSize);
      }
      pair.stale.add('changed');
      pair.stale.add('pending');
      fail(state, next, record.id, 'proxy', error);
      // The rest of the master's content was on the proxy alone.
      if (halfRestored) fail(state, next, record.id, 'master', error);
    },
    { switched: atOnce },
  );
}

async function preserveFailed(
  state: State,
  { record, pair }: Strand,
  error: unknown,
): Promise<void> {
  await state.commit(
    (next) => {
      // Another write has found it before.
      if (!pair.pendingEmpty) {
        pair.maps.changed.or(pair.maps.pending);
        pair.dropPending();
        pair.stale.add('changed');
        pair.stale.add('pending');
        fail(state, next, record.id, targetOf(record.direction), error);
      }
    },
    { switched: atOnce },
  );
}

function fail(state: State, next: ClassRecord, id: number, side: Side, error: unknown): void {
  const record = own(next, id);
  const volume = next.volumes.find((v) => v.id === record[side])!;
  const reason = `writing to it failed: ${error instanceof Error ? error.message : error}`;
  volume.invalid ??= { reason, since: state.host.now() };
  volume.started = false;
  if (record.joined || record.copy !== null) record.since = state.host.now();
  record.joined = false;
  record.copy = null;
  record.direction = 'toProxy';
}

function own(record: ClassRecord, id: number): PairRecord {
  return record.pairs.find((p) => p.id === id)!;
}

function markExtent(pair: Pair, extent: number, extentSize: number): void {
  const perExtent = extentSize / pair.regionSize;
  const first = extent * perExtent;
  const count = Math.min(perExtent, pair.regions - first);
  if (count > 0) pair.maps.changed.set(first, count);
}
