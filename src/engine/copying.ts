/**
 * Runs the copy that a pair's `pending` map asks for, to the end, in the order of COPY_STEPS, and
 * commits what came of it: done, interrupted (the rest stays pending), failed (the target INVALID),
 * or worthless because the source was written meanwhile.
 */

import { KageError } from '../base/errors.ts';
import type { ClassRecord, CopyRecord, PairRecord, VolumeRecord } from '../catalog/records.ts';
import { type Crew, type FileSpec, fileCrew, inlineCrew } from '../copy/crew.ts';
import { interrupted, type JobResult, runJob } from '../copy/job.ts';
import type { CopyMode } from '../copy/task.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Stamp } from '../device/stamp.ts';
import { createKernel } from '../kernel/select.ts';
import { isNbdUri } from '../nbd/uri.ts';
import type { Link } from '../proxy/link.ts';
import { sourceOf, targetOf } from '../proxy/transitions.ts';
import type { CopyEnd, CopyOptions, CopyReport } from './api.ts';
import { guardOf } from './live-copy.ts';
import type { Plan } from './plan.ts';
import type { State } from './state.ts';
import { abandonCopy, rememberDisk, writtenBetween } from './trust.ts';

/** Below this many bytes a thread costs more than it brings. */
const THREADS_FROM = 16 * 1024 * 1024;

type CopyingOptions = CopyOptions & { fresh?: boolean };

/**
 * Copies all pending regions. The record already says `copy`, and so does the root on disk. Whoever
 * watches the class is told of its begin, its course and its end.
 */
export async function runCopy(
  state: State,
  link: Link,
  record: PairRecord,
  plan: Plan,
  options: CopyingOptions,
): Promise<CopyReport> {
  const { verb, direction, method, reason, bytes: totalBytes } = plan;
  const what = { verb, direction, method, reason };
  const sides = sideNames(state, record);
  const ended = (end: CopyEnd, more: { report?: CopyReport; error?: string }) => {
    state.copies.ended(record.id, method, end);
    const { report = null, error = null } = more;
    state.tell({ kind: 'copy-ended', ...sides, ...what, end, report, error });
  };
  state.copies.note(record.id, { ...what, doneBytes: 0, totalBytes });
  state.tell({ kind: 'copy-begun', ...sides, ...what, totalBytes });
  try {
    const report = await copyAndCommit(state, link, record, plan, options);
    ended('done', { report });
    return report;
  } catch (error) {
    const stopped = error instanceof KageError && error.code === 'interrupted';
    ended(stopped ? 'stopped' : 'failed', {
      error: error instanceof Error ? error.message : String(error),
    });
    throw error;
  }
}

async function copyAndCommit(
  state: State,
  link: Link,
  record: PairRecord,
  plan: Plan,
  options: CopyingOptions,
): Promise<CopyReport> {
  const id = record.id;
  const source = state.sideVolume(record, sourceOf(plan.direction));
  const before = await lookAtSource(state, source);
  const target = state.sideVolume(record, targetOf(plan.direction));
  let result: JobResult;
  try {
    result = await state.whileWriting(target.disk, () =>
      copyToTheEnd(state, link, record, plan, options),
    );
  } catch (error) {
    await copyFailed(state, id, plan, error);
    throw error;
  }
  const report = reportOf(plan, result);
  await requireUntouched(state, id, plan, source, before);
  await rememberDisk(state, state.diskOf(target));
  requireValid(state, id, plan);
  if (!result.complete) {
    throw interrupted(`${plan.verb} ${names(state, state.pairRecord(id))}`);
  }
  await state.commit((next) => {
    state.pair(record).takeKnown();
    const pair = next.pairs.find((p) => p.id === id)!;
    // Clients of an instant snapshot may have written to it while it was copied.
    const isUsable = !pair.joined && pair.copy?.instant;
    if (plan.direction === 'toProxy' && !isUsable) pair.proxyWritten = false;
    pair.copy = null;
    pair.direction = 'toProxy';
    pair.lastCopy = { ...(report as CopyRecord), at: state.host.now() };
    if (plan.method !== 'differential') pair.lastWhole = pair.lastCopy;
  });
  return report;
}

/** A client's write may have found first that the target has failed, and given the copy up. */
function requireValid(state: State, id: number, plan: Plan): void {
  const record = state.pairRecord(id);
  const { name, invalid } = state.sideVolume(record, targetOf(plan.direction));
  if (invalid === null) return;
  const what = `${plan.verb} ${names(state, record)}: ${name} is INVALID`;
  throw new KageError('io-error', `${what}: ${invalid.reason}`, { data: { volume: name } });
}

function modeOf(plan: Plan, fresh: boolean): CopyMode {
  if (plan.method === 'differential') return 'write';
  return plan.method === 'full' && fresh ? 'fresh' : 'compare';
}

async function copyToTheEnd(
  state: State,
  link: Link,
  record: PairRecord,
  plan: Plan,
  options: CopyingOptions,
): Promise<JobResult> {
  const mode = modeOf(plan, options.fresh ?? false);
  const pair = state.pair(record);
  let result = await copyPending(state, link, record, plan, mode, options);
  // A client's write that failed, or one that nobody has flushed yet, leaves regions pending.
  while (state.live && result.complete && !pair.pendingEmpty) {
    await link.settle({ record: state.pairRecord(record.id), pair });
    if (pair.pendingEmpty) break;
    result = added(result, await copyPending(state, link, record, plan, mode, options));
  }
  return result;
}

function added(a: JobResult, b: JobResult): JobResult {
  return {
    regions: a.regions,
    regionsWritten: a.regionsWritten + b.regionsWritten,
    bytesRead: a.bytesRead + b.bytesRead,
    bytesWritten: a.bytesWritten + b.bytesWritten,
    seconds: a.seconds + b.seconds,
    complete: b.complete,
  };
}

async function copyPending(
  state: State,
  link: Link,
  record: PairRecord,
  plan: Plan,
  mode: CopyMode,
  options: CopyOptions,
): Promise<JobResult> {
  const pair = state.pair(record);
  const { source, target } = await state.ends(record);
  const crew = await makeCrew(state, {
    source: state.sideVolume(record, sourceOf(plan.direction)),
    target: state.sideVolume(record, targetOf(plan.direction)),
    devices: { source, target },
    mode,
    regionSize: pair.regionSize,
    bytes: plan.bytes,
  });
  const { verb, direction, method, reason } = plan;
  const { master, proxy } = sideNames(state, record);
  try {
    return await runJob({
      ...options,
      crew,
      source,
      target,
      pending: pair.maps.pending,
      regionSize: pair.regionSize,
      size: pair.size,
      guard: state.live ? guardOf(state, link, pair, record.master) : undefined,
      pieceSize: state.tuning.pieceSize,
      clear: (runs) => pair.clearPending(runs, state.saveMap),
      onRegions: (runs) => {
        for (const run of runs) pair.known?.set(run.first, run.count);
      },
      onProgress(p) {
        const { doneBytes, totalBytes } = p;
        state.copies.note(record.id, { verb, direction, method, reason, doneBytes, totalBytes });
        options.onProgress?.({ verb, master, proxy, direction, method, reason, ...p });
      },
      now: () => state.host.now(),
      sleep: (ms) => state.host.sleep(ms),
    });
  } finally {
    await crew.close();
  }
}

/** Threads for files and much work, else this thread. */
export async function makeCrew(
  state: State,
  work: {
    source: VolumeRecord;
    target: VolumeRecord;
    devices: { source: BlockDevice; target: BlockDevice };
    mode: CopyMode;
    regionSize: number;
    bytes: number;
  },
): Promise<Crew> {
  const { mode, regionSize, devices } = work;
  // Beside other calls it needs a memory of its own: one that grows empties every view of it.
  const kernel = state.live ? createKernel(state.kernel.kind) : state.kernel;
  const isRemote = (volume: VolumeRecord) => isNbdUri(state.diskOf(volume).path);
  const files = !isRemote(work.source) && !isRemote(work.target);
  if (state.host.threads && files && work.bytes >= THREADS_FROM) {
    const order = {
      source: await specOf(state, work.source),
      target: await specOf(state, work.target),
      mode,
      regionSize,
      clients: state.rightOfWay(work.target.disk)?.clients,
    };
    return fileCrew(kernel, devices.source, devices.target, order);
  }
  return inlineCrew(kernel, devices.source, devices.target, mode, regionSize);
}

async function specOf(state: State, volume: VolumeRecord): Promise<FileSpec> {
  const disk = state.diskOf(volume);
  const facts = await state.host.inspect(disk.path);
  const identity = facts?.identity ?? '';
  return { path: disk.path, offset: volume.offset, size: volume.size, identity };
}

/** The source before it is copied, and how often it had been used by then. */
type Look = { readonly stamp: Stamp; readonly timesUsed: number };

async function lookAtSource(state: State, source: VolumeRecord): Promise<Look | undefined> {
  const disk = state.diskOf(source);
  // What our own clients write cannot be told from what others write.
  if (disk.exclusive || state.isUsed(disk.name)) return undefined;
  const timesUsed = state.timesUsed(disk.name);
  // Only the coarse file times matter here: wait until a write during the copy must move them.
  return { stamp: await state.host.stamp(disk.path, true), timesUsed };
}

/** DESIGN section 4: a side that is only read is checked before and after. */
async function requireUntouched(
  state: State,
  id: number,
  plan: Plan,
  source: VolumeRecord,
  look: Look | undefined,
): Promise<void> {
  const disk = state.diskOf(source);
  // A client may have come and gone, also while the image is looked at.
  const isOurs = () => look === undefined || state.timesUsed(disk.name) !== look.timesUsed;
  if (look === undefined || isOurs()) return;
  const before = look.stamp;
  const after = await state.host.stamp(disk.path, false);
  if (isOurs()) return;
  const seen = state.seen.get(disk.name);
  // Own writes before the copy are no strangers'.
  const earlier = seen && !state.written.has(disk.name) ? writtenBetween(seen, before) : null;
  if ((writtenBetween(before, after) ?? earlier) === null) return;
  const what = `${disk.path} was written by another program during the copy`;
  state.seen.set(disk.name, after);
  await state.commit(mixed(state, id, plan));
  throw new KageError(
    'written-during-copy',
    `${plan.verb} ${names(state, state.pairRecord(id))}: ${what}`,
    {
      hint: 'the two are not equal; stop whatever writes to it and run the command again',
      data: { path: disk.path },
    },
  );
}

/** The target holds regions from before and after a stranger's write: it must not look good. */
function mixed(state: State, id: number, plan: Plan): (next: ClassRecord) => void {
  const { joined, copy } = state.pairRecord(id);
  const maps = state.pair(state.pairRecord(id)).maps;
  const reason = 'the source was written during the last copy';
  if (joined) {
    // Nobody uses it yet: the copy begins again when the verb is run again.
    state.pair(state.pairRecord(id)).stale.add('pending');
    maps.pending.setAll();
  } else {
    abandonCopy(state, state.pairRecord(id));
  }
  return (next) => {
    const pair = next.pairs.find((p) => p.id === id)!;
    pair.doubt = reason;
    if (joined && !copy?.instant) return;
    const side = targetOf(plan.direction);
    const volume = next.volumes.find((v) => v.id === pair[side])!;
    volume.invalid = { reason, since: state.host.now() };
    volume.started = false;
    if (!joined) pair.direction = 'toProxy';
  };
}

/** The target is neither old nor new: INVALID until a copy completes. The source is untouched. */
async function copyFailed(state: State, id: number, plan: Plan, error: unknown): Promise<void> {
  // No disk failed (a callback of the caller did, a thread died): the rest simply stays pending.
  if (!(error instanceof KageError) || error.code === 'interrupted' || state.broken) return;
  const target = targetOf(plan.direction);
  const text = error instanceof Error ? error.message : String(error);
  await state
    .commit((next) => {
      const pair = next.pairs.find((p) => p.id === id)!;
      const volume = next.volumes.find(
        (v) => v.id === (target === 'master' ? pair.master : pair.proxy),
      )!;
      volume.invalid = { reason: `the copy to it failed: ${text}`, since: state.host.now() };
      volume.started = false;
    })
    // The first error is the one to show; an uncommitted failure leaves the copy pending, which is
    // as unusable as INVALID.
    .catch(() => {});
}

export function reportOf(plan: Plan, result: Partial<JobResult> = {}): CopyReport {
  return {
    direction: plan.direction,
    method: plan.method,
    reason: plan.reason,
    regions: plan.regions,
    regionsWritten: result.regionsWritten ?? 0,
    bytesRead: result.bytesRead ?? 0,
    bytesWritten: result.bytesWritten ?? 0,
    seconds: result.seconds ?? 0,
  };
}

export function sideNames(state: State, record: PairRecord): { master: string; proxy: string } {
  return {
    master: state.volumeById(record.master).name,
    proxy: state.volumeById(record.proxy).name,
  };
}

/** `vm → vm-proxy`, for messages. */
export function names(state: State, record: PairRecord): string {
  const { master, proxy } = sideNames(state, record);
  return `${master} / ${proxy}`;
}
