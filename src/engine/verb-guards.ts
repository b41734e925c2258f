/**
 * What a verb needs before it begins: the table lets it run on every pair, what it takes content from is
 * whole, what must be stopped is; and the plan of each pair's copy. Nothing is changed here.
 */

import { KageError } from '../base/errors.ts';
import { NEVER_SYNCHRONIZED, type PairRecord } from '../catalog/records.ts';
import { type Direction, VERBS, type Verb } from '../proxy/states.ts';
import { refusal, sourceOf, stateOf, targetOf } from '../proxy/transitions.ts';
import type { CopyOptions } from './api.ts';
import { sideNames } from './copying.ts';
import { type Plan, planCopy, when } from './plan.ts';
import type { Stillness } from './quiesce.ts';
import type { State } from './state.ts';

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
export type Work = {
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

export function word(verb: Verb): string {
  return WORD[verb] ?? verb;
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

/** Guards one pair and plans its copy. Throws `wrong-state` with the reason. */
export function prepare(state: State, verb: Verb, record: PairRecord, options: VerbOptions): Work {
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
export function requireAllowed(
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
export function copiesBefore(
  state: State,
  verb: Verb,
  record: PairRecord,
  options: VerbOptions,
): boolean {
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

export function wrongState(
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
  const { invalid } = state.sideVolume(record, 'proxy');
  if (verb === 'part' && key === 'is-parted' && invalid !== null) {
    text = `${proxy} is INVALID and no snapshot: ${invalid.reason}`;
    advice = `kage rejoin ${proxy}, then kage part ${proxy}`;
  } else if (done || (verb === 'join' && related && record.joined)) {
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
    const stays = 'disconnect its clients first, or let them stay: kage restore --live';
    const hint = side === 'master' && !options.strictStop ? stays : undefined;
    if (!(side === 'master' && options.live)) state.requireUnused(volume, hint);
    if (!options.strictStop || !volume.started) continue;
    throw new KageError('wrong-state', `${volume.name}: the volume is not stopped`, {
      hint: `sdxvolume -F -c ${state.record.class} -v ${volume.name}`,
      data: { volume: volume.name },
    });
  }
}

export function requireOneMaster(state: State, verb: Verb, records: readonly PairRecord[]): void {
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
