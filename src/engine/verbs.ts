/**
 * The verbs of pairs: guard by the table, plan, settle and sync (VERB_STEPS), commit the row's
 * effect for all pairs of the command at once, then copy what became pending.
 */

import { KageError } from '../base/errors.ts';
import { reach } from '../base/faults.ts';
import type { IntentLog } from '../bitmap/intent-log.ts';
import {
  type ClassRecord,
  NEVER_SYNCHRONIZED,
  type PairRecord,
  type VolumeRecord,
} from '../catalog/records.ts';
import { isNbdUri } from '../nbd/uri.ts';
import type { Link } from '../proxy/link.ts';
import { type Direction, VERBS, type Verb } from '../proxy/states.ts';
import { mapAfter, refusal, sourceOf, spreadsTo, stateOf, targetOf } from '../proxy/transitions.ts';
import type { CopyOptions, PairReport, VerbReport } from './api.ts';
import { names, reportOf, runCopy, sideNames } from './copying.ts';
import { giveUpProxy } from './ground.ts';
import {
  type Expectation,
  expect,
  type Plan,
  planCopy,
  requireDifferential,
  when,
} from './plan.ts';
import type { Stillness } from './quiesce.ts';
import type { State } from './state.ts';
import { abandonCopy, lookAgain, rememberDisk } from './trust.ts';

export type VerbOptions = CopyOptions & {
  instant?: boolean;
  restore?: boolean;
  unlock?: boolean;
  /** Access mode of what the verb starts. */
  readOnly?: boolean;
  /** The volumes that the manual wants stopped must be, instead of being stopped by the verb. */
  strictStop?: boolean;
  /** Clients of the master go on using it while it is restored. */
  live?: boolean;
  /** Whether somebody copies for the pair now. */
  isCopying?: (pair: number) => boolean;
  /** The proxy image was made by this very call. */
  fresh?: boolean;
  /** The service stands still around the switch. */
  still?: Stillness;
};

/** What one pair goes through in one call. */
type Work = {
  readonly id: number;
  /** When it was planned. */
  readonly joined: boolean;
  readonly plan: Plan | null;
  /** The row is not applied: its unfinished or outdated copy is taken up again. */
  readonly continues: boolean;
  /** Parted in the middle of its copy, which nobody runs now: the rest is copied after the commit. */
  readonly rest?: boolean;
  readonly notes: string[];
  takenUp?: boolean;
};

/** The word the user typed for a verb of the table. */
const WORD: Partial<Record<Verb, string>> = { restoreKeep: 'restore --keep' };

/** A verb whose commit is durable: what it still has to copy, and what it can say then. */
export type Begun = {
  /** Pairs that `copy` will copy. */
  readonly copies: readonly number[];
  copy(signal?: AbortSignal): Promise<void>;
  report(): VerbReport;
};

/**
 * A disk behind a server that was lost: its side is INVALID, and a verb may reach it anew. What was not
 * synced there may be gone: what settled is pending again, and so is all that is hot of a joined pair.
 */
async function forgetFault(state: State, link: Link, record: PairRecord): Promise<void> {
  for (const side of ['master', 'proxy'] as const) {
    const volume = state.sideVolume(record, side);
    if (volume.invalid === null || !isNbdUri(state.diskOf(volume).path)) continue;
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

/** Throws what would keep the verb from beginning now. */
export function guardVerb(
  state: State,
  verb: Verb,
  records: readonly PairRecord[],
  options: VerbOptions,
): void {
  for (const record of records) prepare(state, verb, record, options);
  requireOneMaster(state, verb, records);
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
  for (const record of records) await forgetFault(state, link, record);
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

function word(verb: Verb): string {
  return WORD[verb] ?? verb;
}

function nameOf(record: PairRecord, state: State): { master: string; proxy: string } {
  return sideNames(state, record);
}

function stateNow(state: State, id: number): PairReport['state'] {
  const record = state.record.pairs.find((p) => p.id === id);
  return record ? stateOf(state.view(record)) : 'unrelated';
}

/** Guards one pair and plans its copy. Throws `wrong-state` with the reason. */
function prepare(state: State, verb: Verb, record: PairRecord, options: VerbOptions): Work {
  const view = state.view(record);
  const row = VERBS[verb];
  const notes: string[] = [];
  const work = { id: record.id, joined: record.joined, notes };
  if (row.source !== null || row.target !== null || verb === 'part') {
    state.usable(state.volumeById(record.master));
    state.usable(state.volumeById(record.proxy));
  }
  const unfinished =
    !view.pendingEmpty || record.doubt !== null || state.volumeById(record.proxy).invalid !== null;
  const continues = continuesOwn(verb, record, view.pendingEmpty, unfinished);
  // A copy that part and swap need is made first, so the guard looks at what will be then.
  const copiesFirst = copiesBefore(state, verb, record, options);
  const seen =
    copiesFirst && view.joined && view.direction === 'toProxy'
      ? { ...view, pendingEmpty: true }
      : view;
  if (!continues) {
    requireAllowed(state, verb, record, options, seen);
    requireStopped(state, verb, record, options);
    // It becomes INVALID: nobody must be reading it.
    if (row.abandons && !view.pendingEmpty) {
      state.requireUnused(state.sideVolume(record, targetOf(view.direction)));
    }
  }
  if (options.instant && !state.live && (row.pending !== 'keep' || copiesFirst)) {
    notes.push('no server is running, so nobody waits: the copy was made to the end');
  }
  const copies = continues || row.pending === 'pending|changed';
  const needed = copiesFirst && record.joined && (!view.pendingEmpty || record.doubt !== null);
  // The rest of the copy goes on beside the parted pair.
  const rest = verb === 'part' && !copiesFirst && !view.pendingEmpty;
  if ((!copies && !needed && !rest) || (rest && options.isCopying?.(record.id))) {
    return { ...work, plan: null, continues: false };
  }
  const direction: Direction =
    continues || needed || row.direction === 'keep' ? record.direction : row.direction;
  requireWholeSource(state, verb, record, direction);
  const plan = planCopy(state, record, word(verb), direction, {
    ...options,
    continues: continues || needed || rest,
  });
  if (continues && !record.joined) {
    notes.push(
      `this finishes what was begun at ${when(record.since)}; run it again for a newer state`,
    );
  }
  return { ...work, plan, continues, rest };
}

/** Throws `wrong-state` unless the table lets the verb run on a pair that looks like this. */
function requireAllowed(
  state: State,
  verb: Verb,
  record: PairRecord,
  options: VerbOptions,
  view = state.view(record),
): void {
  const siblings = state.siblings(record).map((s) => state.view(s));
  const no = refusal(verb, view, options, siblings);
  if (no !== null) throw wrongState(state, verb, record, no.key, no.reason, no.hint);
}

/**
 * Part and swap make the two equal first, unless clients wait for an instant part: then the rest of the
 * copy goes on beside it. What is in doubt has to be compared all the same.
 */
function copiesBefore(state: State, verb: Verb, record: PairRecord, options: VerbOptions): boolean {
  if (verb === 'swap') return true;
  return verb === 'part' && !(state.live && options.instant && record.doubt === null);
}

/** An INVALID side, or a master that is being restored from a sibling, is no source for anybody. */
function requireWholeSource(
  state: State,
  verb: Verb,
  record: PairRecord,
  direction: Direction,
): void {
  const source = state.sideVolume(record, sourceOf(direction));
  if (source.invalid !== null) {
    const side = sourceOf(direction);
    const reason = `the ${side} is INVALID and cannot be copied from: ${source.invalid.reason}`;
    throw wrongState(state, verb, record, `${side}-invalid`, reason);
  }
  if (direction === 'toMaster' && record.doubt === NEVER_SYNCHRONIZED) {
    const reason = 'the proxy was never made equal to the master';
    const { proxy } = sideNames(state, record);
    const hint = `the first copy is the other way: kage update ${proxy}`;
    throw wrongState(state, verb, record, 'never-synchronized', reason, hint);
  }
  if (direction !== 'toProxy') return;
  const restoring = state
    .siblings(record)
    .find((s) => s.direction === 'toMaster' && !state.pair(s).maps.pending.isEmpty());
  if (!restoring) return;
  const from = sideNames(state, restoring).proxy;
  throw wrongState(
    state,
    verb,
    record,
    'sibling-restoring',
    `the master is being restored from ${from}`,
    `finish that with: kage restore ${from}`,
  );
}

/** A verb that is run again: its own unfinished, failed or outdated copy goes on. */
function continuesOwn(
  verb: Verb,
  record: PairRecord,
  pendingEmpty: boolean,
  unfinished: boolean,
): boolean {
  if (!record.joined) {
    const own = !pendingEmpty && record.copy?.verb === word(verb);
    return own && (verb === 'update' || verb === 'restoreKeep');
  }
  if (!unfinished) return false;
  if (verb === 'join' || verb === 'rejoin') return record.direction === 'toProxy' || pendingEmpty;
  return verb === 'restore' && record.direction === 'toMaster' && !pendingEmpty;
}

function wrongState(
  state: State,
  verb: Verb,
  record: PairRecord,
  key: string,
  reason: string,
  hint?: string,
): KageError {
  const { proxy } = sideNames(state, record);
  const done =
    (verb === 'part' && key === 'is-parted') || (verb === 'rejoin' && key === 'is-joined');
  const related = key.startsWith('is-');
  let text = reason;
  let advice = hint;
  if (done || (verb === 'join' && related && record.joined)) {
    text = `it is ${record.joined ? 'joined' : 'parted'} already, since ${when(record.since)}`;
    advice = verb === 'part' ? 'for a new snapshot: `kage rejoin`, then `kage part`' : hint;
  } else if (verb === 'join' && related) {
    text = `it is parted, since ${when(record.since)}`;
    advice = `make it equal again: kage rejoin ${proxy}`;
  } else if ((verb === 'restore' || verb === 'restoreKeep') && key === 'is-joined') {
    text = 'it is joined: it has followed the master and has the same damage';
    advice = 'restore from a proxy that was parted before';
  }
  return new KageError('wrong-state', `${word(verb)} ${proxy}: ${text}`, {
    hint: advice,
    data: { proxy, state: stateOf(state.view(record)), since: record.since, reason: key },
  });
}

function requireStopped(state: State, verb: Verb, record: PairRecord, options: VerbOptions): void {
  for (const side of VERBS[verb].stopped) {
    const volume = state.sideVolume(record, side);
    if (!(side === 'master' && options.live)) state.requireUnused(volume);
    if (!options.strictStop || !volume.started) continue;
    throw new KageError('wrong-state', `${volume.name}: the volume is not stopped`, {
      hint: `sdxvolume -F -c ${state.record.class} -v ${volume.name}`,
      data: { volume: volume.name },
    });
  }
}

function requireOneMaster(state: State, verb: Verb, records: readonly PairRecord[]): void {
  const restores = verb === 'restore' || verb === 'restoreKeep';
  const masters = new Set<number>();
  for (const { master } of records) {
    if (restores && masters.has(master)) {
      const { name } = state.volumeById(master);
      throw new KageError('usage', `${name}: can be restored from one proxy at a time`);
    }
    masters.add(master);
  }
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

/** The part of an effect that every copy has in common: maps, method, the target's validity. */
function startCopy(state: State, work: Work, options: VerbOptions): (next: ClassRecord) => void {
  const plan = work.plan!;
  const pair = state.pair(state.pairRecord(work.id));
  if (plan.all) {
    const { increment, pending } = pair.maps;
    // Until the comparison has ended, everything may differ from the last part.
    if (plan.direction === 'toProxy' && !state.pairRecord(work.id).proxyWritten) {
      pair.beginComparison(state.kernel);
    }
    for (const name of ['increment', 'pending'] as const) pair.stale.add(name);
    increment.setAll();
    pending.setAll();
  }
  return (next) => {
    const record = next.pairs.find((p) => p.id === work.id)!;
    const target = next.volumes.find(
      (v) => v.id === (targetOf(plan.direction) === 'master' ? record.master : record.proxy),
    )!;
    record.direction = plan.direction;
    // Who was promised a usable target keeps it when the copy is taken up again.
    const instant = options.instant || (work.continues && record.copy?.instant) || false;
    record.copy = { verb: plan.verb, method: plan.method, reason: plan.reason, instant };
    if (plan.all) record.doubt = null;
    target.invalid = null;
    if (options.strictStop === undefined && record.joined) {
      next.volumes.find((v) => v.id === record.proxy)!.started = false;
    }
  };
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

/** Changes the maps in memory and returns the change of the record. */
function effectOf(
  state: State,
  verb: Verb,
  work: Work,
  options: VerbOptions,
): (next: ClassRecord) => void {
  const row = VERBS[verb];
  const record = state.pairRecord(work.id);
  const pair = state.pair(record);
  if (row.abandons && !pair.maps.pending.isEmpty()) return abandonEffect(state, verb, work);
  changeMaps(state, verb, record);
  const start =
    work.plan && row.pending === 'pending|changed' ? startCopy(state, work, options) : null;
  const spread = row.spreads ? spreadRestore(state, record, work.plan?.all ?? false) : [];
  const now = state.host.now();
  return (next) => {
    const own = next.pairs.find((p) => p.id === work.id)!;
    own.since = now;
    own.lastVerb = word(verb);
    if (verb === 'part' || verb === 'update') {
      own.proxyWritten = false;
      own.snapshotAt = now;
    }
    // Its snapshot can be used before its copy has ended, which an update goes on with if need be.
    if (verb === 'part' && own.copy !== null) {
      own.copy = { ...own.copy, verb: 'update', instant: true };
    }
    if (row.joined === 'gone') next.pairs = next.pairs.filter((p) => p !== own);
    else if (row.joined !== 'keep') own.joined = row.joined;
    start?.(next);
    for (const change of spread) change(next);
    startVolumes(next, own, verb, options);
    if (verb === 'swap') swapSlices(next, own);
  };
}

function changeMaps(state: State, verb: Verb, record: PairRecord): void {
  const row = VERBS[verb];
  const pair = state.pair(record);
  const { pending, changed, increment } = pair.maps;
  // Durable with the commit: a crash right after it would find no hot extent of a joined pair.
  if (row.increment === 'frozen') pair.stale.add('increment');
  if (row.pending === 'pending|changed') {
    // Else more has gone between the two since the last whole snapshot than `changed` tells.
    const whole = ['part', 'update'].includes(record.lastVerb) && pending.isEmpty();
    const union = mapAfter(row.pending, 'pending', verb);
    pair.stale.add('pending');
    if (!union.includes('pending')) pending.clearAll();
    if (union.includes('changed')) pending.or(changed);
    if (row.increment === 'pending|changed') {
      pair.stale.add('increment');
      increment.clearAll();
      increment.or(pending);
      if (!whole) increment.setAll();
    }
  }
  if (row.changed === 'none') {
    pair.stale.add('changed');
    changed.clearAll();
  }
}

/** Cancel or break of an unfinished copy: its target is neither old nor new. */
function abandonEffect(state: State, verb: Verb, work: Work): (next: ClassRecord) => void {
  const record = state.pairRecord(work.id);
  const side = targetOf(record.direction);
  const now = state.host.now();
  abandonCopy(state, record);
  work.notes.push(`the ${side} is INVALID: the copy to it was not finished`);
  return (next) => {
    const own = next.pairs.find((p) => p.id === work.id)!;
    const id = side === 'master' ? own.master : own.proxy;
    const volume = next.volumes.find((v) => v.id === id)!;
    volume.invalid = { reason: `${word(verb)} ended the copy to it unfinished`, since: now };
    volume.started = false;
    own.copy = null;
    own.direction = 'toProxy';
    own.since = now;
    own.lastVerb = word(verb);
    if (VERBS[verb].joined === 'gone') next.pairs = next.pairs.filter((p) => p !== own);
  };
}

/** Siblings of a restored master: what changes under them is pending or changed for them. */
function spreadRestore(
  state: State,
  record: PairRecord,
  all: boolean,
): ((next: ClassRecord) => void)[] {
  const restored = state.pair(record).maps.pending;
  const { proxy } = sideNames(state, record);
  return state.siblings(record).map((sibling) => {
    const { map, direction } = spreadsTo(sibling);
    const pair = state.pair(sibling);
    pair.stale.add(map);
    pair.maps[map].or(restored);
    if (map === 'pending') {
      pair.stale.add('increment');
      pair.maps.increment.or(restored);
    }
    return (next: ClassRecord) => {
      const own = next.pairs.find((p) => p.id === sibling.id)!;
      if (direction !== 'keep') own.direction = direction;
      if (all) own.doubt ??= `the master was restored from ${proxy} by comparison`;
      else if (sibling.joined) {
        own.copy ??= {
          verb: 'restore',
          method: 'differential',
          reason: `regions that the restore from ${proxy} brought to the master`,
        };
      }
    };
  });
}

function startVolumes(
  next: ClassRecord,
  record: PairRecord,
  verb: Verb,
  options: VerbOptions,
): void {
  const proxy = next.volumes.find((v) => v.id === record.proxy)!;
  if (verb === 'part') {
    proxy.started = !proxy.locked || (options.unlock ?? false);
    proxy.readOnly = options.readOnly ?? false;
  }
  if (verb === 'rejoin' || verb === 'restore') proxy.started = false;
}

/** The two volumes exchange their slices: the master lives on the proxy's disk from now on. */
function swapSlices(next: ClassRecord, record: PairRecord): void {
  const master = next.volumes.find((v) => v.id === record.master)!;
  const proxy = next.volumes.find((v) => v.id === record.proxy)!;
  [master.disk, proxy.disk] = [proxy.disk, master.disk];
  [master.offset, proxy.offset] = [proxy.offset, master.offset];
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
