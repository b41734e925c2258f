/**
 * What the commit of a verb changes: maps in memory at once, and the record by the function that comes
 * back. Nothing is written here.
 */

import type { ClassRecord, PairRecord } from '../catalog/records.ts';
import { VERBS, type Verb } from '../proxy/states.ts';
import { mapAfter, spreadsTo, targetOf } from '../proxy/transitions.ts';
import { sideNames } from './copying.ts';
import type { State } from './state.ts';
import { abandonCopy } from './trust.ts';
import { type VerbOptions, type Work, word } from './verb-guards.ts';

/** Changes the maps in memory and returns the change of the record. */
export function effectOf(
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
export function spreadRestore(
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

/** The part of an effect that every copy has in common: maps, method, the target's validity. */
export function startCopy(
  state: State,
  work: Work,
  options: VerbOptions,
): (next: ClassRecord) => void {
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
