/** What a copy would be, before it runs: method, reason, size. The user sees it first and last. */

import { KageError } from '../base/errors.ts';
import { formatSize, plural } from '../base/units.ts';
import type { PairRecord } from '../catalog/records.ts';
import { bytesOf } from '../copy/plan.ts';
import type { Direction } from '../proxy/states.ts';
import type { Method } from './api.ts';
import type { State } from './state.ts';

export type Plan = {
  readonly verb: string;
  readonly direction: Direction;
  readonly method: Method;
  readonly reason: string;
  readonly regions: number;
  /** Bytes of the volume that the copy looks at. */
  readonly bytes: number;
  /** The maps are not believed: everything is looked at. */
  readonly all: boolean;
};

type PlanOptions = {
  readonly compare?: boolean;
  /** Only what is pending counts: the copy goes on, it does not begin. */
  readonly continues?: boolean;
};

/** Plans the copy of `verb` on a pair whose maps say what is to be copied by `pending ∪ changed`. */
export function planCopy(
  state: State,
  record: PairRecord,
  verb: string,
  direction: Direction,
  options: PlanOptions = {},
): Plan {
  const pair = state.pair(record);
  const whole = { regions: pair.regions, bytes: pair.size, all: true };
  const base = { verb, direction };
  if (record.doubt !== null) {
    return { ...base, ...whole, method: 'compare', reason: record.doubt };
  }
  if (options.compare) {
    return { ...base, ...whole, method: 'compare', reason: 'asked for with --compare' };
  }
  const part = counted(state, record, options.continues ?? false);
  const { copy } = record;
  if (options.continues && copy !== null) {
    return { ...base, ...part, all: false, method: copy.method, reason: goesOn(record) };
  }
  if (copy !== null && copy.method !== 'differential' && !pair.maps.pending.isEmpty()) {
    return { ...base, ...part, all: false, method: copy.method, reason: `takes over ${copy.verb}: ${copy.reason}` };
  }
  const size = `${plural(part.regions, 'region')} (${formatSize(part.bytes)})`;
  const reason = `tracked: ${size} changed since ${when(record.since)}`;
  return { ...base, ...part, all: false, method: 'differential', reason };
}

/** `continues update of 2026-11-22 20:15:03: …`, however often it was taken up again. */
function goesOn({ copy, since }: PairRecord): string {
  if (copy === null || copy.reason.startsWith('continues ')) return copy?.reason ?? '';
  return `continues ${copy.verb} of ${when(since)}: ${copy.reason}`;
}

/** Size of `pending ∪ changed` of a pair, or of `pending` alone. */
function counted(
  state: State,
  record: PairRecord,
  pendingOnly: boolean,
): { regions: number; bytes: number } {
  const pair = state.pair(record);
  const { pending, changed } = pair.maps;
  if (changed.isEmpty() || pendingOnly) return sizeOf(pending);
  if (pending.isEmpty()) return sizeOf(changed);
  let regions = changed.count();
  let bytes = bytesOf(changed, pair.regionSize, pair.size);
  for (const run of pending.runs()) {
    for (let region = run.first; region < run.first + run.count; region++) {
      if (changed.has(region)) continue;
      regions++;
      bytes += Math.min(pair.regionSize, pair.size - region * pair.regionSize);
    }
  }
  return { regions, bytes };

  function sizeOf(map: typeof pending) {
    return { regions: map.count(), bytes: bytesOf(map, pair.regionSize, pair.size) };
  }
}

/** Throws `differential-refused` when the user wants nothing else and the plan is something else. */
export function requireDifferential(plan: Plan, names: string): void {
  if (plan.method === 'differential') return;
  throw new KageError(
    'differential-refused',
    `${names}: the copy would be ${plan.method}, ${plan.reason}`,
    { hint: 'run it without --differential-only', data: { method: plan.method, reason: plan.reason } },
  );
}

/** `2026-11-22 20:15:03` in local time. */
export function when(ms: number): string {
  const two = (n: number) => String(n).padStart(2, '0');
  const d = new Date(ms);
  return (
    `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ` +
    `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`
  );
}
