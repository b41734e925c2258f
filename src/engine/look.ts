/**
 * How a class looks at this moment, out of memory: for those who watch it. Needs no turn and reads
 * nothing from a disk, so it answers whatever runs. While a commit is being written, what it will have
 * made of records and maps is what is shown: the two always belong together.
 */

import type { ClassRecord, PairRecord, VolumeRecord } from '../catalog/records.ts';
import { bytesOf } from '../copy/plan.ts';
import { viewOf } from '../proxy/pair.ts';
import { stateOf } from '../proxy/transitions.ts';
import type { ClassLook, PairLook, VolumeLook } from './api.ts';
import type { State } from './state.ts';

/** Verbs that make the proxy a snapshot of the moment. */
const SNAPSHOTS: readonly string[] = ['part', 'update'];

export function lookAt(state: State): ClassLook {
  const record = state.latest;
  return {
    class: record.class,
    broken: state.whyBroken,
    volumes: record.volumes.map((volume) => volumeLook(state, record, volume)),
    // One that is being made or broken has no maps for a moment.
    pairs: record.pairs.flatMap((pair) => pairLook(state, record, pair) ?? []),
  };
}

function volumeLook(state: State, record: ClassRecord, volume: VolumeRecord): VolumeLook {
  const of = record.pairs.find((p) => p.master === volume.id || p.proxy === volume.id);
  const problem = volume.invalid?.reason ?? state.problems.get(volume.disk)?.message ?? null;
  return {
    name: volume.name,
    status: volume.invalid !== null ? 'INVALID' : volume.started ? 'ACTIVE' : 'STOP',
    problem,
    role: of === undefined ? null : of.master === volume.id ? 'master' : 'proxy',
    users: state.usersOf(volume.id),
  };
}

function pairLook(state: State, record: ClassRecord, own: PairRecord): PairLook | undefined {
  const pair = state.pairs.get(own.id);
  const master = record.volumes.find((v) => v.id === own.master);
  const proxy = record.volumes.find((v) => v.id === own.proxy);
  if (pair === undefined || master === undefined || proxy === undefined) return undefined;
  const valid = { master: master.invalid === null, proxy: proxy.invalid === null };
  const { changed, pending } = pair.maps;
  const { lastCopy, lastWhole = null } = own;
  return {
    master: master.name,
    proxy: proxy.name,
    state: stateOf(viewOf(own, pair, valid)),
    joined: own.joined,
    doubt: own.doubt,
    changedBytes: bytesOf(changed, pair.regionSize, pair.size),
    pendingBytes: bytesOf(pending, pair.regionSize, pair.size),
    snapshotAt: own.snapshotAt ?? (SNAPSHOTS.includes(own.lastVerb) ? own.since : null),
    lastCopyAt: lastCopy?.at ?? null,
    lastWhole:
      lastWhole ?? (lastCopy !== null && lastCopy.method !== 'differential' ? lastCopy : null),
    ...state.copies.of(own.id),
  };
}
