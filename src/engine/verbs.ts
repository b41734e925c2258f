/**
 * The verbs of pairs: guard by the table, plan, settle and sync (VERB_STEPS), commit the row's
 * effect for all pairs of the command at once, then copy what became pending.
 */

import { KageError } from '../base/errors.ts';
import { reach } from '../base/faults.ts';
import type { IntentLog } from '../bitmap/intent-log.ts';
import type { ClassRecord, PairRecord, VolumeRecord } from '../catalog/records.ts';
import { isNbdUri } from '../nbd/uri.ts';
import type { Link } from '../proxy/link.ts';
import { VERBS, type Verb } from '../proxy/states.ts';
import { sourceOf, stateOf, targetOf } from '../proxy/transitions.ts';
import type { PairReport, VerbReport } from './api.ts';
import { names, reportOf, runCopy, sideNames } from './copying.ts';
import { giveUpProxy } from './ground.ts';
import { type Expectation, expect, requireDifferential } from './plan.ts';
import type { Stillness } from './quiesce.ts';
import type { State } from './state.ts';
import { lookAgain, rememberDisk } from './trust.ts';
import { effectOf, spreadRestore, startCopy } from './verb-effects.ts';
import {
  prepare,
  requireAllowed,
  requireOneMaster,
  type VerbOptions,
  type Work,
  word,
} from './verb-guards.ts';

/** A verb whose commit is durable: what it still has to copy, and what it can say then. */
export type Begun = {
  /** Pairs that `copy` will copy. */
  readonly copies: readonly number[];
  copy(signal?: AbortSignal): Promise<void>;
  report(): VerbReport;
};

/**
 * A disk behind a server that was lost and did not come back in time: a verb may reach it anew, whether its
 * side has become INVALID or nobody has used it since. What was not synced there may be gone: what
 * settled is pending again, and so is all that is hot of a joined pair.
 */
async function forgetFault(state: State, link: Link, record: PairRecord): Promise<void> {
  for (const side of ['master', 'proxy'] as const) {
    const volume = state.sideVolume(record, side);
    if (!isNbdUri(state.diskOf(volume).path)) continue;
    // One that nobody has open yet is reached anew in any case.
    if (volume.invalid === null && !state.isOpen(volume)) continue;
    if ((await errorOf(() => state.flushVolume(volume))) === undefined) continue;
    // Nobody is in the middle of anything with the device that goes.
    await link.whilePaused([record.master], async () => {
      const log = await state.log();
      await state.commit((next) => {
        for (const own of next.pairs) {
          if (own.master === volume.id || own.proxy === volume.id) pendHot(state, own, log, volume);
        }
      });
      await state.closeDevices(volume.disk);
    });
  }
}

function pendHot(state: State, record: PairRecord, log: IntentLog, lost: VolumeRecord): void {
  const pair = state.pair(record);
  pair.unsettle();
  const hot = log.extents.filter((extent) => extent.volume === record.master);
  if (!record.joined || hot.length === 0) return;
  for (const { extent } of hot) pair.markExtent('pending', extent, state.tuning.extentSize);
  pair.stale.add('pending');
  record.copy ??= {
    verb: 'recovery',
    method: 'differential',
    reason: `regions with writes in flight when ${lost.name} was lost`,
  };
}

/** Guards, plans and commits the verb; with `dryRun` only plans. */
export async function beginVerb(
  state: State,
  link: Link,
  verb: Verb,
  records: readonly PairRecord[],
  options: VerbOptions,
): Promise<Begun> {
  let works = await prepareAll(state, link, verb, records, options);
  if (options.dryRun) {
    const dry = await dryReport(state, verb, works);
    return { copies: [], copy: async () => {}, report: () => dry };
  }
  const { still } = options;
  const reports: Reports = new Map();
  // Without a server nobody tracks what the service writes: it stands still for the copy, too.
  if (!still || state.live) await copyBefore(state, link, verb, works, options, reports);
  if (still && rowsOf(verb, works).length > 0) {
    works = await freezeAll(state, link, verb, works, { ...options, still }, reports);
  } else if (still) {
    for (const { notes } of works) notes.push('nothing was frozen for that');
  }
  const rows = rowsOf(verb, works);
  if (rows.length > 0) {
    const change = (next: ClassRecord) => {
      still?.requireTime();
      // A side may have failed under a client since the verb was let in.
      for (const { id } of rows) requireAllowed(state, verb, state.pairRecord(id), options);
      for (const work of rows) effectOf(state, verb, work, options)(next);
    };
    await switchOver(state, link, verb, rows, change, still);
    for (const work of rows) {
      if (VERBS[verb].joined === 'gone') await dropPair(state, work.id);
    }
  }
  const copying = works.filter(
    ({ plan, rest, id }) => plan !== null && (rest || !copiesFirst(verb)) && !reports.has(id),
  );
  const pairs = works.map((_, i) => nameOf(records[i], state));
  return {
    copies: copying.map(({ id }) => id),
    copy: (signal) =>
      copyAll(state, link, verb, copying, works.length, { ...options, signal }, reports),
    report: () => ({
      verb: verb === 'restoreKeep' ? 'restore' : verb,
      class: state.record.class,
      dryRun: false,
      pairs: works.map((work, i) => ({
        ...pairs[i],
        state: stateNow(state, work.id),
        copy: reports.get(work.id),
        notes: work.notes,
      })),
    }),
  };
}

/** Looks at the images again, guards every pair and plans its copy; nothing is changed. */
async function prepareAll(
  state: State,
  link: Link,
  verb: Verb,
  records: readonly PairRecord[],
  options: VerbOptions,
): Promise<Work[]> {
  await state.turn(() => lookAgain(state, records));
  if (!options.dryRun) for (const record of records) await forgetFault(state, link, record);
  const works = records.map((record) => prepare(state, verb, record, options));
  requireOneMaster(state, verb, records);
  for (const { plan, id } of works) {
    if (plan === null) continue;
    const record = state.pairRecord(id);
    if (options.differentialOnly) {
      requireDifferential(plan, `${word(verb)} ${names(state, record)}`);
    }
    // What cannot be opened is refused now, while nothing is changed.
    await state.device(state.sideVolume(record, sourceOf(plan.direction)), 'read');
    await state.requireWritable(state.sideVolume(record, targetOf(plan.direction)));
  }
  return works;
}

/** What is slow is done; a side that has failed meanwhile, or was written by others, is seen after the freeze. */
async function freezeAll(
  state: State,
  link: Link,
  verb: Verb,
  before: readonly Work[],
  options: VerbOptions & { still: Stillness },
  reports: Reports,
): Promise<Work[]> {
  const { still } = options;
  await makeReady(state, link, rowsOf(verb, before));
  await still.freeze();
  const records = before.map(({ id }) => state.pairRecord(id));
  const now = await prepareAll(state, link, verb, records, options);
  const works = before.map((work, i) => (work.takenUp && work.continues ? work : now[i]));
  const { signal } = still;
  await copyBefore(state, link, verb, works, { ...options, signal }, reports);
  return works;
}

/** Copies that come before the verb's row, or are all that is left of it. */
async function copyBefore(
  state: State,
  link: Link,
  verb: Verb,
  works: readonly Work[],
  options: VerbOptions,
  reports: Reports,
): Promise<void> {
  for (const work of works) {
    if (work.plan === null || work.rest || work.takenUp) continue;
    if (!work.continues && !copiesFirst(verb)) continue;
    await takeUp(state, link, work, options);
    work.takenUp = true;
    // Stopped in here, the same command does all of it when it is run again.
    if (copiesFirst(verb) || !state.live) {
      reports.set(work.id, await copyOf(state, link, work, options));
    }
  }
}

function copiesFirst(verb: Verb): boolean {
  return verb === 'part' || verb === 'swap';
}

/** Those of which the row is applied. */
function rowsOf(verb: Verb, works: readonly Work[]): readonly Work[] {
  return works.filter((work) => !work.continues || copiesFirst(verb));
}

type Reports = Map<number, PairReport['copy']>;

/** Copies pair by pair. One that fails does not keep the others from theirs: then `partly`. */
async function copyAll(
  state: State,
  link: Link,
  verb: Verb,
  rows: readonly Work[],
  asked: number,
  options: VerbOptions,
  reports: Reports,
): Promise<void> {
  const failed: Failure[] = [];
  for (const work of rows) {
    try {
      reports.set(work.id, await copyOf(state, link, work, options));
    } catch (error) {
      const stopped = error instanceof KageError && error.code === 'interrupted';
      if (stopped || state.broken || !(error instanceof KageError)) throw error;
      failed.push({ name: sideNames(state, state.pairRecord(work.id)).proxy, error });
    }
  }
  requireNone(verb, failed, asked);
}

type Failure = { readonly name: string; readonly error: unknown };

/** Throws what has failed of a verb that did the rest of `asked` pairs. */
function requireNone(verb: Verb, failed: readonly Failure[], asked: number): void {
  if (failed.length === 0) return;
  if (failed.length === asked) throw failed[0].error;
  const text = failed.map(({ name, error }) => `${name}: ${(error as Error).message}`).join('; ');
  const done = `${asked - failed.length} of ${asked} done`;
  throw new KageError('partly', `${word(verb)}: ${done}; failed: ${text}`, {
    hint: 'the same command for those that failed goes on when the cause is gone',
    data: { failed: failed.map(({ name }) => name).join(',') },
  });
}

function nameOf(record: PairRecord, state: State): { master: string; proxy: string } {
  return sideNames(state, record);
}

function stateNow(state: State, id: number): PairReport['state'] {
  const record = state.record.pairs.find((p) => p.id === id);
  return record ? stateOf(state.view(record)) : 'unrelated';
}

/** Commits that an unfinished (or outdated) copy is taken up again. */
async function takeUp(state: State, link: Link, work: Work, options: VerbOptions): Promise<void> {
  const record = state.pairRecord(work.id);
  await link.settle({ record, pair: state.pair(record) });
  const { plan } = work;
  await state.commit((next) => {
    requireUnfailed(state, work);
    const pair = state.pair(record);
    if (plan?.direction === 'toProxy' && !plan.all && record.joined) {
      // What a sibling's restore or a recovery left pending is news for the proxy.
      pair.stale.add('increment');
      pair.maps.increment.or(pair.maps.pending);
    }
    startCopy(state, work, options)(next);
    // More is brought to the master now than the siblings were told when the copy began.
    const more = plan?.direction === 'toMaster' && plan.all;
    if (more) for (const change of spreadRestore(state, record, true)) change(next);
  });
}

/** A client's write may have found that a side fails: then the copy was given up since it was planned. */
function requireUnfailed(state: State, { id, joined, plan }: Work): void {
  const now = state.pairRecord(id);
  if (now.joined === joined && (joined || now.copy !== null)) return;
  const { name, invalid } = state.sideVolume(now, targetOf(plan!.direction));
  const what = `${plan!.verb} ${names(state, now)}: ${name} is INVALID`;
  throw new KageError('io-error', `${what}: ${invalid?.reason}`, { data: { volume: name } });
}

async function copyOf(
  state: State,
  link: Link,
  work: Work,
  options: VerbOptions,
): Promise<PairReport['copy']> {
  const record = state.pairRecord(work.id);
  try {
    return await runCopy(state, link, record, work.plan!, options);
  } finally {
    state.pairs.get(work.id)?.dropKnown();
  }
}

/**
 * VERB_STEPS around the commit of `change`. Clients of the pairs are paused from the moment at which
 * nothing of theirs is under way until the commit; at a part only until the switch is made in memory, since
 * what they write then is in the intent log (`writeWaits` in `proxy/transitions.ts`).
 */
async function switchOver(
  state: State,
  link: Link,
  verb: Verb,
  works: readonly Work[],
  change: (next: ClassRecord) => void,
  still: Stillness | undefined,
): Promise<void> {
  // Most of what is dirty is synced while clients go on.
  if (state.inUse && still === undefined) await makeReady(state, link, works);
  const families = [...new Set(works.map((work) => state.pairRecord(work.id).master))];
  await link.whilePaused(
    families.sort((a, b) => a - b),
    async (resume) => {
      // The last client may have left only now.
      if (!state.inUse || verb !== 'part') {
        await settleAndSync(state, link, works);
        await state.commit(change);
        if (state.live) still?.thaw();
        return;
      }
      const records = works.map((work) => state.pairRecord(work.id));
      for (const record of records) await link.settle({ record, pair: state.pair(record) });
      const log = await state.log();
      const failed: Failure[] = [];
      await state.commit(change, {
        async switched(next) {
          resume();
          still?.thaw();
          for (const { id } of works) {
            const record = state.pairRecord(id);
            const error = await errorOf(() => flushSides(state, record));
            if (error === undefined) continue;
            failed.push({ name: sideNames(state, record).proxy, error });
            // Its clients write on: what they had written is not all on both sides.
            giveUpProxy(state, next, { record, pair: state.pair(record) }, log.extents, error);
          }
        },
      });
      requireNone(verb, failed, works.length);
    },
  );
}

/** Before a pause or a freeze: what can be done by then is done. */
async function makeReady(state: State, link: Link, works: readonly Work[]): Promise<void> {
  await settleAndSync(state, link, works);
  // A state folder that cannot be written is found while nothing depends on it.
  if (state.inUse) await state.commit(() => {});
}

async function flushSides(state: State, record: PairRecord): Promise<void> {
  for (const id of sidesOf([record])) await state.flushVolume(state.volumeById(id));
}

/** What was thrown, an Error in any case. */
async function errorOf(work: () => Promise<void>): Promise<Error | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function sidesOf(records: readonly PairRecord[]): Set<number> {
  return new Set(records.flatMap((r) => [r.master, r.proxy]));
}

/** VERB_STEPS before the commit: what settles is durably clear, both sides of every pair are synced. */
async function settleAndSync(state: State, link: Link, works: readonly Work[]): Promise<void> {
  const records = works.map((work) => state.pairRecord(work.id));
  const families = new Set(records.flatMap((r) => [r, ...state.siblings(r)]).map((r) => r.id));
  for (const id of families) {
    const record = state.pairRecord(id);
    await link.settle({ record, pair: state.pair(record) });
  }
  reach('verb:settled');
  for (const id of sidesOf(records)) {
    const volume = state.volumeById(id);
    if (state.problems.has(volume.disk)) continue;
    await state.flushVolume(volume);
    await rememberDisk(state, state.diskOf(volume));
  }
  reach('verb:synced');
}

async function dropPair(state: State, id: number): Promise<void> {
  await state.pairs.get(id)?.close();
  state.pairs.delete(id);
  state.copies.forget(id);
}

async function dryReport(state: State, verb: Verb, works: readonly Work[]): Promise<VerbReport> {
  const seconds = new Map<number, Expectation>();
  for (const { id, plan } of works) {
    if (plan) seconds.set(id, await expect(state, state.pairRecord(id), plan));
  }
  return {
    verb: verb === 'restoreKeep' ? 'restore' : verb,
    class: state.record.class,
    dryRun: true,
    pairs: works.map(({ id, plan, notes }) => {
      const record = state.pairRecord(id);
      const expected = seconds.get(id);
      return {
        ...sideNames(state, record),
        state: afterwards(verb, record),
        copy: plan === null ? undefined : { ...reportOf(plan), ...expected },
        notes,
      };
    }),
  };
}

function afterwards(verb: Verb, record: PairRecord): PairReport['state'] {
  const { joined } = VERBS[verb];
  if (joined === 'gone') return 'unrelated';
  return (joined === 'keep' ? record.joined : joined) ? 'joined' : 'parted';
}
