/**
 * The engine's side of the link: devices by volume, what a session writes down before its first
 * write, and durable verdicts when a side fails under a client.
 */

import type { HotExtent } from '../bitmap/intent-log.ts';
import type { Run } from '../bitmap/region-map.ts';
import type { ClassRecord, PairRecord, VolumeRecord } from '../catalog/records.ts';
import type { Ground, Strand } from '../proxy/link.ts';
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
    requireIntact: () => state.requireIntact(),
    mirrorFailed: (strand, regions, error, leaving) =>
      mirrorFailed(state, strand, { regions, leaving: leaving ?? [] }, error),
    preserveFailed: (strand, error) => preserveFailed(state, strand, error),
    masterFailed: (strand, regions) => masterFailed(state, strand, regions),
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
  if (!state.written.has(volume.disk)) {
    await state.turn(() => lookAgain(state, state.pairsOf(volume)));
  }
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
      pair.maps.changed.set(lost.regions.first, lost.regions.count);
      giveUpProxy(state, next, { record, pair }, [...log.extents, ...lost.leaving], error);
    },
    { switched: atOnce, cautious: true },
  );
}

/**
 * Parted, the proxy INVALID. What it had not synced may be gone as well: everything hot has changed, and
 * so has everything that was still to be copied.
 */
export function giveUpProxy(
  state: State,
  next: ClassRecord,
  { record, pair }: Strand,
  hot: readonly HotExtent[],
  error: unknown,
): void {
  const halfRestored = record.direction === 'toMaster' && !pair.pendingEmpty;
  pair.maps.changed.or(pair.maps.pending);
  pair.dropPending();
  for (const { volume, extent } of hot) {
    if (volume === record.master) pair.markExtent('changed', extent, state.tuning.extentSize);
  }
  pair.stale.add('changed');
  pair.stale.add('pending');
  fail(state, next, record.id, 'proxy', error);
  // The rest of the master's content was on the proxy alone.
  if (halfRestored) fail(state, next, record.id, 'master', error);
}

async function masterFailed(state: State, { record, pair }: Strand, regions: Run): Promise<void> {
  await state.commit(
    (next) => {
      pair.pendAgain(regions);
      pair.addToIncrement(regions);
      for (const name of ['pending', 'increment'] as const) pair.stale.add(name);
      own(next, record.id).copy ??= {
        verb: 'recovery',
        method: 'differential',
        reason: 'a write to the master failed',
      };
    },
    { cautious: true },
  );
}

async function preserveFailed(
  state: State,
  { record, pair }: Strand,
  error: unknown,
): Promise<void> {
  // While its content is still in the source, others preserve it or come here: nobody may overwrite it
  // before all the world knows that it is lost.
  await state.commit((next) => {
    if (!pair.pendingEmpty) invalidate(state, next, record, targetOf(record.direction), error);
  });
  await state.commit((next) => {
    // Another write has found it before.
    if (pair.pendingEmpty) return;
    pair.maps.changed.or(pair.maps.pending);
    pair.dropPending();
    pair.stale.add('changed');
    pair.stale.add('pending');
    fail(state, next, record.id, targetOf(record.direction), error);
  });
}

function invalidate(
  state: State,
  next: ClassRecord,
  record: PairRecord,
  side: Side,
  error: unknown,
): void {
  const volume = next.volumes.find((v) => v.id === record[side])!;
  const reason = `writing to it failed: ${error instanceof Error ? error.message : error}`;
  volume.invalid ??= { reason, since: state.host.now() };
  volume.started = false;
}

function fail(state: State, next: ClassRecord, id: number, side: Side, error: unknown): void {
  const record = own(next, id);
  invalidate(state, next, record, side, error);
  if (record.joined || record.copy !== null) record.since = state.host.now();
  record.joined = false;
  record.copy = null;
  record.direction = 'toProxy';
}

function own(record: ClassRecord, id: number): PairRecord {
  return record.pairs.find((p) => p.id === id)!;
}
