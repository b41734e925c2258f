/**
 * Brings an opened class into a state in which its records are right: images that were being made,
 * maps that cannot be believed, hot extents of a session that did not end in order (DESIGN
 * section 5, rules 7 and 8).
 */

import { reach } from '../base/faults.ts';
import type { HotExtent } from '../bitmap/intent-log.ts';
import type { MapName, PairRecord } from '../catalog/records.ts';
import { Pair } from '../proxy/pair.ts';
import { recoverHot, targetOf } from '../proxy/transitions.ts';
import type { State } from './state.ts';
import { abandonCopy } from './trust.ts';

/** Opens the maps of all pairs; doubts about them are noted in the record (in memory). */
export async function loadPairs(state: State, readOnly: boolean): Promise<void> {
  for (const record of state.record.pairs) {
    const { size } = state.volumeById(record.master);
    const { pair, doubts } = await Pair.load(state.folder, record, size, state.kernel, {
      clean: state.record.clean,
      readOnly,
    });
    state.pairs.set(record.id, pair);
    doubtMaps(state, record, doubts);
  }
}

function doubtMaps(
  state: State,
  record: PairRecord,
  doubts: Partial<Record<MapName, string>>,
): void {
  const reason = doubts.pending ?? doubts.changed;
  if (reason === undefined) return;
  record.doubt ??= reason;
  // Nobody knows any more which regions of the target have their content in the source. If no copy
  // was under way none had; a joined pair is compared as a whole anyway.
  if (doubts.pending !== undefined && !record.joined) {
    if (record.copy === null) {
      const pair = state.pair(record);
      pair.maps.pending.clearAll();
      pair.stale.add('pending');
      return;
    }
    const target = state.sideVolume(record, targetOf(record.direction));
    target.invalid ??= { reason, since: state.host.now() };
    target.started = false;
    abandonCopy(state, record);
  } else if (doubts.pending !== undefined && record.copy === null) {
    const pair = state.pair(record);
    pair.maps.pending.clearAll();
    pair.stale.add('pending');
  }
}

/** Repairs what the last session left, under the lock. Commits if there was anything. */
export async function recover(state: State): Promise<void> {
  const unmade = await dropUnmadeImages(state);
  const log = state.logIsOpen ? await state.log() : undefined;
  const hot = log?.extents ?? [];
  const doubtful = state.logDoubt !== null && !state.record.clean && state.record.pairs.length > 0;
  if (doubtful) {
    for (const record of state.record.pairs) {
      record.doubt ??= state.logDoubt;
      // Writes that went to both sides are in no increment, and no comparison finds them.
      record.proxyWritten = true;
    }
  }
  if (hot.length === 0 && !unmade && !doubtful) return;
  reach('recovery:begun');
  for (const extent of hot) await recoverExtent(state, extent);
  await state.commit(() => {});
  reach('recovery:pended');
  if (log && hot.length > 0) {
    log.leave(hot);
    await log.save();
  }
}

async function recoverExtent(state: State, { volume, extent }: HotExtent): Promise<void> {
  const records = state.record.pairs.filter((p) => p.master === volume || p.proxy === volume);
  for (const record of records) {
    const pair = state.pair(record);
    const { extentSize } = state.tuning;
    const begin = Math.floor((extent * extentSize) / pair.regionSize);
    const end = Math.min(begin + extentSize / pair.regionSize, pair.regions);
    for (let region = begin; region < end; region++)
      await recoverRegion(state, record, pair, region);
  }
}

async function recoverRegion(
  state: State,
  record: PairRecord,
  pair: Pair,
  region: number,
): Promise<void> {
  const action = recoverHot({
    joined: record.joined,
    direction: record.direction,
    pending: pair.maps.pending.has(region),
  });
  if (record.joined) {
    pair.maps.increment.set(region);
    pair.stale.add('increment');
  }
  if (action === 'mark') {
    pair.maps.changed.set(region);
    pair.stale.add('changed');
  } else if (action === 'pend') {
    pair.maps.pending.set(region);
    pair.stale.add('pending');
    record.copy ??= {
      verb: 'recovery',
      method: 'differential',
      reason: 'regions with writes in flight when the last session ended',
    };
  } else if (action === 'copy-from-master') {
    await copyFromMaster(state, record, pair, region);
  }
}

/** While the master is being restored, a hot region that is not pending goes the other way. */
async function copyFromMaster(
  state: State,
  record: PairRecord,
  pair: Pair,
  region: number,
): Promise<void> {
  const master = state.volumeById(record.master);
  const proxy = state.volumeById(record.proxy);
  if (state.problems.has(master.disk) || state.problems.has(proxy.disk)) {
    record.doubt ??= 'an image was missing when the last session had to be repaired';
    return;
  }
  const offset = region * pair.regionSize;
  const buffer = new Uint8Array(Math.min(pair.regionSize, pair.size - offset));
  await (await state.device(master, 'read')).read(buffer, offset);
  await (await state.device(proxy, 'write')).write(buffer, offset);
  await state.flushVolume(master);
  await state.flushVolume(proxy);
}

/** An image that was recorded but not made is forgotten; one that was made is an ordinary one. */
async function dropUnmadeImages(state: State): Promise<boolean> {
  let any = false;
  for (const disk of state.record.disks.filter((d) => d.creating)) {
    any = true;
    const facts = await state.host.inspect(disk.path);
    if (facts?.kind === 'file' && facts.size === disk.size) {
      disk.creating = false;
      continue;
    }
    if (facts?.kind === 'file' && facts.size === 0) await state.host.removeImage(disk.path);
    state.problems.delete(disk.name);
    state.record.disks = state.record.disks.filter((d) => d !== disk);
    state.record.volumes = state.record.volumes.filter((v) => v.disk !== disk.name);
  }
  return any;
}
