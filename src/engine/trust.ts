/**
 * Looks at the images of a class and says which may have been written behind the engine's back, at
 * open and between (DESIGN section 4, Trust). Verdicts go into the record in memory; they become
 * durable with the next commit, and until then the old identities stay on disk, so that nothing is
 * forgotten by not committing.
 */

import { KageError } from '../base/errors.ts';
import type { DiskRecord, PairRecord } from '../catalog/records.ts';
import { differentFile, movedSince, type Stamp } from '../device/stamp.ts';
import { judge } from '../proxy/recovery.ts';
import { targetOf } from '../proxy/transitions.ts';
import { lastAlive, writtenInLife } from './alive.ts';
import type { State } from './state.ts';

/** Takes the identity of every image and judges every pair by it. */
export async function lookAtImages(state: State): Promise<void> {
  const moved = new Map<string, string | null>();
  for (const disk of state.record.disks) moved.set(disk.name, await lookAtDisk(state, disk));
  const otherBoot = state.record.boot === null || state.record.boot !== state.host.boot();
  const unclean = !state.record.clean;
  if (unclean && !otherBoot) await believeOwnWrites(state, moved);
  for (const pair of state.record.pairs) {
    const reasonOf = (volume: number) => {
      const disk = state.diskOf(state.volumeById(volume));
      const reason = moved.get(disk.name) ?? null;
      if (reason !== null || disk.exclusive || !unclean || !otherBoot) return reason;
      return 'may have lost its times: the machine went down while the class was open';
    };
    applyVerdict(state, pair, {
      master: reasonOf(pair.master),
      proxy: reasonOf(pair.proxy),
      unclean,
    });
  }
}

/** After a crash: what was written while the session lived, which served clients, was its own. */
async function believeOwnWrites(state: State, moved: Map<string, string | null>): Promise<void> {
  const alive = await lastAlive(state.folder, state.record.epoch);
  if (alive === null) return;
  for (const disk of state.record.disks) {
    const stamp = state.seen.get(disk.name);
    if (stamp === undefined || disk.stamp === null || disk.stamp.unreliable !== null) continue;
    if (!writtenInLife(stamp, alive)) continue;
    moved.set(disk.name, null);
    // The next commit has another epoch: a kill right after it must not find the note worthless.
    disk.stamp = stamp;
  }
}

/** Why a disk may have been written by others since its recorded identity, or null. */
async function lookAtDisk(state: State, disk: DiskRecord): Promise<string | null> {
  let stamp: Stamp;
  try {
    stamp = await state.host.stamp(disk.path, false);
  } catch (error) {
    if (!(error instanceof KageError)) throw error;
    state.problems.set(
      disk.name,
      new KageError(error.code, `disk ${disk.name}: ${error.message}`, {
        hint: 'bring the image back, or `kage break` and `kage remove` its volumes',
        data: { ...error.data, disk: disk.name },
      }),
    );
    return null;
  }
  state.seen.set(disk.name, stamp);
  const different =
    disk.stamp === null
      ? stamp.size === disk.size
        ? null
        : `has ${stamp.size} bytes, not ${disk.size}`
      : differentFile(disk.stamp, stamp);
  if (different !== null) {
    state.problems.set(disk.name, imageChanged(disk, different));
    return null;
  }
  if (disk.exclusive) return null;
  return disk.stamp === null ? 'has no recorded identity' : movedSince(disk.stamp, stamp);
}

function imageChanged(disk: DiskRecord, how: string): KageError {
  return new KageError('image-changed', `disk ${disk.name}: ${disk.path} ${how}`, {
    hint: 'bring the image back, or `kage break` and `kage remove` its volumes and add it anew',
    data: { path: disk.path, disk: disk.name },
  });
}

/** Changes the record (in memory) as the verdict says. */
export function applyVerdict(
  state: State,
  record: PairRecord,
  moved: { master: string | null; proxy: string | null; unclean: boolean },
): void {
  const pair = state.pair(record);
  const verdict = judge(
    state.view(record),
    { changedEmpty: nobodyWrote(state, record), instant: record.copy?.instant ?? false },
    moved,
  );
  if (verdict.kind === 'trust') return;
  if (moved.proxy !== null) record.proxyWritten = true;
  if (verdict.kind === 'restart') {
    pair.maps.pending.setAll();
    pair.stale.add('pending');
    record.copy = { ...record.copy!, method: 'compare', reason: verdict.reason };
    return;
  }
  record.doubt ??= verdict.reason;
  if (verdict.kind !== 'invalid') return;
  const target = state.sideVolume(record, targetOf(record.direction));
  target.invalid ??= { reason: verdict.reason, since: state.host.now() };
  target.started = false;
  // A joined pair goes on with its copy, from the start, when the verb is run again.
  if (!record.joined) abandonCopy(state, record);
}

/** No client wrote to either side since the copy began, as far as the map and the log tell. */
function nobodyWrote(state: State, record: PairRecord): boolean {
  const hot = state.isHot(record.master) || state.isHot(record.proxy);
  return !hot && state.pair(record).maps.changed.isEmpty();
}

/** The unfinished copy is given up: what was pending is changed, as far as anyone knows. */
export function abandonCopy(state: State, record: PairRecord): void {
  const pair = state.pair(record);
  pair.maps.changed.or(pair.maps.pending);
  pair.dropPending();
  pair.stale.add('changed');
  pair.stale.add('pending');
  record.copy = null;
}

/**
 * Before identities are recorded anew: a disk that this process did not write must still have the
 * identity it had when we looked. `settle`: waits until each stamp can exclude later writes.
 */
export async function takeStamps(state: State): Promise<Map<string, Stamp>> {
  const stamps = new Map<string, Stamp>();
  const seen: { name: string; writes: number }[] = [];
  for (const disk of state.record.disks) {
    if (state.problems.has(disk.name)) continue;
    const writes = state.writesTo(disk.name);
    const idle = !state.isUsed(disk.name);
    let stamp: Stamp;
    try {
      stamp = await state.host.stamp(disk.path, !disk.exclusive);
    } catch {
      continue; // It vanished meanwhile: the recorded identity stays, the next open will see.
    }
    const before = state.seen.get(disk.name);
    // Not the file that was read and written: the next open must find the old identity and say so.
    if (before && differentFile(before, stamp) !== null) continue;
    if (before && !state.written.has(disk.name) && !disk.exclusive) {
      const reason = writtenBetween(before, stamp);
      if (reason !== null) await state.turn(async () => doubtDisk(state, disk.name, reason));
    }
    stamps.set(disk.name, stamp);
    state.seen.set(disk.name, stamp);
    if (idle) seen.push({ name: disk.name, writes });
  }
  for (const { name, writes } of seen) forgetWrites(state, name, writes);
  return stamps;
}

/**
 * Within a turn: looks again, in the middle of a session, at disks that this process has not written since it last
 * looked: what others wrote meanwhile is doubt before we write there ourselves and cannot tell.
 */
export async function lookAgain(state: State, records: readonly PairRecord[]): Promise<void> {
  const volumes = new Set(records.flatMap((r) => [r.master, r.proxy]));
  const disks = new Set([...volumes].map((id) => state.diskOf(state.volumeById(id))));
  for (const disk of disks) {
    const before = state.seen.get(disk.name);
    if (!before || disk.exclusive || state.written.has(disk.name)) continue;
    const writes = state.writesTo(disk.name);
    const stamp = await stampOf(state, disk);
    // What ours have begun to write meanwhile cannot be told from what others wrote.
    if (stamp === undefined || state.writesTo(disk.name) !== writes) continue;
    const different = differentFile(before, stamp);
    if (different !== null) {
      state.problems.set(disk.name, imageChanged(disk, different));
      continue;
    }
    const reason = writtenBetween(before, stamp);
    if (reason !== null) doubtDisk(state, disk.name, reason);
    state.seen.set(disk.name, stamp);
  }
}

/** Everything that we wrote to the disk is synced: from now on strangers can be told again. */
export async function rememberDisk(state: State, disk: DiskRecord): Promise<void> {
  if (!state.written.has(disk.name) || state.isUsed(disk.name)) return;
  const before = state.seen.get(disk.name);
  const writes = state.writesTo(disk.name);
  const stamp = await stampOf(state, disk);
  // Another file by now: `takeStamps` must find that.
  if (stamp === undefined || (before && differentFile(before, stamp) !== null)) return;
  state.seen.set(disk.name, stamp);
  forgetWrites(state, disk.name, writes);
}

/** A look that began after so many of our writes, at a disk that nobody used, has seen them all. */
function forgetWrites(state: State, disk: string, writes: number): void {
  if (state.writesTo(disk) === writes && !state.isUsed(disk)) state.written.delete(disk);
}

async function stampOf(state: State, disk: DiskRecord): Promise<Stamp | undefined> {
  if (state.problems.has(disk.name)) return undefined;
  return await state.host.stamp(disk.path, false).catch(() => undefined);
}

/** Whether a disk changed between two looks of one process, or null. Unreliable stamps may miss it. */
export function writtenBetween(before: Stamp, after: Stamp): string | null {
  return (
    differentFile(before, after) ??
    movedSince({ ...before, unreliable: null, takenAt: Infinity }, { ...after, unreliable: null })
  );
}

function doubtDisk(state: State, disk: string, reason: string): void {
  // Another object, so that whoever has looked at the record looks again.
  state.record = { ...state.record };
  for (const record of state.record.pairs) {
    const on = (volume: number) => state.volumeById(volume).disk === disk;
    if (!on(record.master) && !on(record.proxy)) continue;
    applyVerdict(state, record, {
      master: on(record.master) ? reason : null,
      proxy: on(record.proxy) ? reason : null,
      unclean: false,
    });
  }
}
