/** What a class looks like, from its records: read-only, usable without the lock. */

import type { Holder } from '../catalog/lock.ts';
import type { PairRecord, VolumeRecord } from '../catalog/records.ts';
import { stateOf } from '../proxy/transitions.ts';
import type { ClassInfo, DiskInfo, PairInfo, VolumeInfo } from './api.ts';
import { sideNames } from './copying.ts';
import { type Draft, freeRanges, halfMade } from './members.ts';
import { planCopy } from './plan.ts';
import type { State } from './state.ts';

export function describeClass(
  state: State,
  closed: string | null,
  holder: Holder | undefined,
): ClassInfo {
  const { record } = state;
  return {
    class: record.class,
    folder: state.folder.path,
    generation: record.generation,
    closed,
    holder: holder ? { pid: holder.pid, command: holder.command, since: holder.since } : null,
    disks: record.disks.map((disk) => describeDisk(state, disk.name)),
    volumes: record.volumes.map((volume) => describeVolume(state, volume)),
    pairs: record.pairs.map((pair) => describePair(state, pair)),
  };
}

export function describeDisk(state: State, name: string): DiskInfo {
  const disk = state.disk(name);
  const problem = state.problems.get(name)?.message ?? null;
  const free = freeRanges(disk, state.record.volumes);
  return {
    name,
    type: disk.type,
    path: disk.path,
    size: disk.size,
    status: problem === null ? 'ENABLE' : 'DISABLE',
    problem,
    exclusive: disk.exclusive,
    free: free.reduce((sum, range) => sum + range.length, 0),
  };
}

export function describeVolume(state: State, volume: VolumeRecord): VolumeInfo {
  const pairs = state.pairsOf(volume);
  const problem = volume.invalid?.reason ?? halfMade(state, volume);
  const disk = state.diskOf(volume);
  return {
    name: volume.name,
    disk: volume.disk,
    path: disk.path,
    offset: volume.offset,
    size: volume.size,
    status: problem !== null ? 'INVALID' : volume.started ? 'ACTIVE' : 'STOP',
    problem,
    locked: volume.locked,
    readOnly: volume.started && volume.readOnly,
    role: pairs.length === 0 ? null : pairs[0].master === volume.id ? 'master' : 'proxy',
  };
}

/** A volume that a dry run has only drawn up. */
export function describeDraft({ disk, volume }: Draft): VolumeInfo {
  const { name, offset, size } = volume;
  return {
    name,
    disk: disk.name,
    path: disk.path,
    offset,
    size,
    status: 'ACTIVE',
    problem: null,
    locked: false,
    readOnly: false,
    role: null,
  };
}

export function describePair(state: State, record: PairRecord): PairInfo {
  const pair = state.pair(record);
  const view = state.view(record);
  const { changed, pending, increment } = pair.maps;
  return {
    ...sideNames(state, record),
    state: stateOf(view),
    joined: record.joined,
    direction: record.direction,
    regionSize: record.regionSize,
    regions: pair.regions,
    changedRegions: changed.count(),
    pendingRegions: pending.count(),
    incrementRegions: increment.count(),
    since: record.since,
    lastVerb: record.lastVerb,
    doubt: record.doubt,
    next: nextCopy(state, record),
    lastCopy: record.lastCopy,
  };
}

/** The copy that the natural next verb would make, or null when none is needed. */
function nextCopy(state: State, record: PairRecord): PairInfo['next'] {
  const { pending } = state.pair(record).maps;
  const unfinished = !pending.isEmpty();
  if (record.joined && !unfinished && record.doubt === null) return null;
  const verb =
    unfinished && record.copy !== null ? record.copy.verb : record.joined ? 'part' : 'rejoin';
  const direction = unfinished ? record.direction : 'toProxy';
  const plan = planCopy(state, record, verb, direction, { continues: unfinished });
  return { verb, direction, method: plan.method, reason: plan.reason, bytes: plan.bytes };
}
