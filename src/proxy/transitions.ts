/**
 * The state table read as functions: may this verb run, what does it make of the pair, which steps
 * does this write take, how is a state called. Pure: no disk, no clock, no map; the engine and the
 * brute-force model call the same functions. A `Rules` set names rules to leave out; the engine
 * never passes one.
 */

import type { Direction, Rule, Side, Verb, VerbRow, WriteSituation, WriteStep } from './states.ts';
import { VERBS, WAITS_FOR_RESTORE, WRITE_ORDER, WRITE_RULES, WRITES } from './states.ts';

export type Off = ReadonlySet<Rule>;
const NONE_OFF: Off = new Set();

/** The flags of one pair that guards look at. */
export type PairView = {
  /** `false`: two volumes that are no pair (yet); then only their validity means something. */
  readonly related?: boolean;
  readonly joined: boolean;
  readonly direction: Direction;
  readonly pendingEmpty: boolean;
  readonly masterValid: boolean;
  readonly proxyValid: boolean;
};

export type VerbOptions = { readonly instant?: boolean; readonly restore?: boolean };

/** Why a verb cannot run, as a key (for programs) and words (for people). */
export type Refusal = { readonly key: string; readonly reason: string; readonly hint?: string };

export function sourceOf(direction: Direction): Side {
  return direction === 'toProxy' ? 'master' : 'proxy';
}

export function targetOf(direction: Direction): Side {
  return direction === 'toProxy' ? 'proxy' : 'master';
}

/**
 * Null when the table allows `verb` on a pair with these siblings. Two volumes that are no pair: a
 * view with `related: false`, or undefined when it is known that both are valid.
 */
export function refusal(
  verb: Verb,
  pair: PairView | undefined,
  options: VerbOptions = {},
  siblings: readonly PairView[] = [],
  off: Off = NONE_OFF,
): Refusal | null {
  const row = VERBS[verb];
  return (
    relationRefusal(row, pair) ??
    (pair && isRelated(pair) ? unfinishedRefusal(row, pair, options) : null) ??
    (pair ? validityRefusal(verb, row, pair) : null) ??
    siblingRefusal(verb, row, options, siblings, off)
  );
}

function isRelated(pair: PairView | undefined): pair is PairView {
  return pair !== undefined && pair.related !== false;
}

function relationRefusal(row: VerbRow, pair: PairView | undefined): Refusal | null {
  const is = !isRelated(pair) ? 'unrelated' : pair.joined ? 'joined' : 'parted';
  if (row.from === is || (row.from === 'related' && isRelated(pair))) return null;
  const key = `is-${is}`;
  if (is === 'unrelated') return { key, reason: 'it is not the proxy of any volume' };
  if (row.from === 'unrelated') return { key, reason: `it is a proxy already (${is})` };
  return { key, reason: `it is ${is}, and this needs it ${row.from}` };
}

function unfinishedRefusal(row: VerbRow, pair: PairView, options: VerbOptions): Refusal | null {
  if (pair.pendingEmpty || row.unfinished === 'any') return null;
  const allowed =
    row.unfinished === pair.direction ||
    (row.unfinished === 'instant' && options.instant && pair.direction === 'toProxy') ||
    (row.unfinished === 'restore' && (pair.direction === 'toProxy' || options.restore));
  if (allowed) return null;
  return pair.direction === 'toProxy'
    ? { key: 'copying-to-proxy', reason: 'a copy from the master to the proxy is unfinished' }
    : {
        key: 'copying-to-master',
        reason: 'a copy from the proxy to the master is unfinished',
        hint:
          row.unfinished === 'restore'
            ? 'finish it with `kage restore`, or give the master up with `--restore`'
            : 'finish it with `kage restore`',
      };
}

function validityRefusal(verb: Verb, row: VerbRow, pair: PairView): Refusal | null {
  if (row.source === 'master' && !pair.masterValid) {
    return { key: 'master-invalid', reason: 'the master is INVALID and cannot be copied from' };
  }
  if (row.source === 'proxy' && !pair.proxyValid) {
    return { key: 'proxy-invalid', reason: 'the proxy is INVALID and cannot be copied from' };
  }
  if ((verb === 'part' || verb === 'swap') && !pair.proxyValid) {
    return { key: 'proxy-invalid', reason: 'the proxy is INVALID' };
  }
  return null;
}

function siblingRefusal(
  verb: Verb,
  row: VerbRow,
  options: VerbOptions,
  siblings: readonly PairView[],
  off: Off,
): Refusal | null {
  const restoring = siblings.some((s) => !s.pendingEmpty && s.direction === 'toMaster');
  const waits = WAITS_FOR_RESTORE.includes(verb) || (verb === 'part' && options.instant);
  if (restoring && (waits || row.spreads || verb === 'swap')) {
    return {
      key: 'sibling-restoring',
      reason: 'the master is being restored from another proxy',
      hint: 'finish that with `kage restore`',
    };
  }
  const snapshotting = siblings.some(
    (s) => !s.joined && !s.pendingEmpty && s.direction === 'toProxy' && s.proxyValid,
  );
  if (row.spreads && snapshotting && !off.has('restore-waits')) {
    return {
      key: 'sibling-copying',
      reason: 'another proxy is still taking its snapshot from this master',
      hint: 'finish that with `kage update`, or give it up with `kage cancel`',
    };
  }
  return null;
}

/** Steps of a write, in the order of `WRITE_ORDER`. */
export function writeSteps(situation: WriteSituation, off: Off = NONE_OFF): readonly WriteStep[] {
  const row = WRITES.find(
    (r) =>
      r.joined === situation.joined && r.pending === situation.pending && r.role === situation.role,
  );
  if (!row) throw new Error('the write table has a hole');
  return row.steps.filter((step) => {
    if (step === 'settle' && !situation.settling) return false;
    const rule = WRITE_RULES[step];
    if (rule !== undefined && off.has(rule)) return false;
    return !(step === 'sync-source' && off.has('sync-source'));
  });
}

/** The steps of a list in `states.ts`, without those whose rule is left out. */
export function keptSteps<Step extends string>(
  steps: readonly Step[],
  rules: Readonly<Record<string, Rule>>,
  off: Off = NONE_OFF,
): readonly Step[] {
  return steps.filter((step) => !off.has(rules[step]));
}

/** True when `steps` keep the order of the table; used by the engine to merge pairs. */
export function stepIndex(step: WriteStep): number {
  return WRITE_ORDER.indexOf(step);
}

/** Where a read of a volume's region comes from, given the pair in which it is the target. */
export function readFrom(side: Side, direction: Direction, pending: boolean): Side {
  return pending && targetOf(direction) === side ? sourceOf(direction) : side;
}

export type CopierSituation = {
  readonly direction: Direction;
  readonly sourceValid: boolean;
  /** The source is itself a target of another pair, and there the region is durably pending. */
  readonly sourcePending: boolean;
  /** The verb of this pair that has switched in memory and is not committed. */
  readonly switching: Verb | null;
};

/** True when the copier must leave a region for later. */
export function copierWaits(situation: CopierSituation, off: Off = NONE_OFF): boolean {
  const { direction, sourceValid, sourcePending, switching } = situation;
  if (!sourceValid && !off.has('copier-source')) return true;
  if (sourcePending && !off.has('copier-waits')) return true;
  return (
    switching !== null &&
    VERBS[switching].target === targetOf(direction) &&
    !off.has('switch-holds-target')
  );
}

/** True when a write by these steps must wait for the commit of `verb`, switched in memory. */
export function writeWaits(
  verb: Verb,
  written: Side,
  steps: readonly WriteStep[],
  off: Off = NONE_OFF,
): boolean {
  const { target, joined } = VERBS[verb];
  if (target === null || off.has('switch-holds-target')) return false;
  // Writes of a pair that will be joined go to both sides, or leave an unfinished snapshot behind.
  return target === written || joined === true || steps.includes('preserve');
}

/** True when no extent may leave the log; `switching`: any pair of the class is. */
export function evictionWaits(switching: boolean, off: Off = NONE_OFF): boolean {
  return switching && !off.has('switch-holds-log');
}

/** What a sibling makes of the regions that a restore brings to the master. */
export function spreadsTo(
  sibling: { readonly joined: boolean },
  off: Off = NONE_OFF,
): { readonly map: 'pending' | 'changed'; readonly direction: Direction | 'keep' } {
  if (!sibling.joined) return { map: 'changed', direction: 'keep' };
  return { map: 'pending', direction: off.has('spread-turns') ? 'keep' : 'toProxy' };
}

/** What recovery does with a hot region of a pair. */
export function recoverHot(
  pair: { readonly joined: boolean; readonly direction: Direction; readonly pending: boolean },
  off: Off = NONE_OFF,
): 'leave' | 'pend' | 'copy-from-master' | 'mark' {
  if (off.has('recover-hot') || (pair.pending && !off.has('recover-pending'))) return 'leave';
  if (!pair.joined) return 'mark';
  if (pair.direction === 'toProxy' || off.has('recover-direction')) return 'pend';
  return 'copy-from-master';
}

/** Which maps the union of a verb is made of, with the rules that guard it. */
export function mapAfter(
  expression: 'keep' | 'none' | 'all' | 'pending|changed',
  own: 'pending' | 'changed',
  verb: Verb,
  off: Off = NONE_OFF,
): readonly ('pending' | 'changed' | 'all')[] {
  if (expression === 'none') return [];
  if (expression === 'all') return ['all'];
  if (expression === 'keep') return [own];
  if (verb === 'cancel') return off.has('cancel-keeps') ? ['changed'] : ['pending', 'changed'];
  return off.has('union-maps') ? ['changed'] : ['pending', 'changed'];
}

export type PairState = 'joining' | 'joined' | 'parted' | 'copying' | 'restoring' | 'invalid';

/** The word for a pair's state (DESIGN section 7). */
export function stateOf(pair: PairView): PairState {
  if (!pair.masterValid || !pair.proxyValid) return 'invalid';
  if (pair.pendingEmpty) return pair.joined ? 'joined' : 'parted';
  if (pair.direction === 'toMaster') return 'restoring';
  return pair.joined ? 'joining' : 'copying';
}
