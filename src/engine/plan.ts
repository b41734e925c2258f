/** What a copy would be, before it runs: method, reason, size. The user sees it first and last. */

import { KageError } from '../base/errors.ts';
import { formatSize, plural } from '../base/units.ts';
import type { PairRecord } from '../catalog/records.ts';
import type { Direction } from '../proxy/states.ts';
import { sourceOf } from '../proxy/transitions.ts';
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
  const { copy } = record;
  // Of a parted pair only the rest: where the copy has been, clients may have written since.
  const onlyRest = options.continues && copy !== null && !record.joined;
  if (options.compare && !onlyRest) {
    return { ...base, ...whole, method: 'compare', reason: 'asked for with --compare' };
  }
  const part = counted(state, record, options.continues ?? false);
  if (options.continues && copy !== null) {
    const method = options.compare ? 'compare' : copy.method;
    return { ...base, ...part, all: false, method, reason: goesOn(record) };
  }
  if (copy !== null && copy.method !== 'differential' && !pair.maps.pending.isEmpty()) {
    return {
      ...base,
      ...part,
      all: false,
      method: copy.method,
      reason: `takes over ${copy.verb}: ${copy.reason}`,
    };
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
  const regions = pendingOnly ? pending.count() : pending.countUnion(changed);
  const last = pending.regions - 1;
  const hasLast = pending.has(last) || (!pendingOnly && changed.has(last));
  const lastShort = hasLast ? pending.regions * pair.regionSize - pair.size : 0;
  return { regions, bytes: regions * pair.regionSize - lastShort };
}

/** What a dry run says of a copy, as far as it can be known before. */
export type Expectation = { bytesRead: number; bytesWritten: number; seconds: number };

/** Bytes that are read to learn the speed of a disk that nothing was copied from yet. */
const PROBE_BYTES = 8 * 1024 * 1024;
const PROBE_READS = 8;

/**
 * Bytes that the copy will read, the most it can write (of a comparison that is not known: 0), and
 * how long that takes at the speed of the pair's last copy, or of a few reads of the source.
 */
export async function expect(state: State, record: PairRecord, plan: Plan): Promise<Expectation> {
  const compares = plan.method === 'compare';
  const bytesRead = compares ? 2 * plan.bytes : plan.bytes;
  const bytesWritten = compares ? 0 : plan.bytes;
  const last = record.lastCopy;
  const moved = last ? last.bytesRead + last.bytesWritten : 0;
  const rate =
    last && last.seconds > 0.1 && moved > PROBE_BYTES
      ? moved / last.seconds
      : await probeRate(state, record, plan);
  return { bytesRead, bytesWritten, seconds: (bytesRead + bytesWritten) / rate };
}

async function probeRate(state: State, record: PairRecord, plan: Plan): Promise<number> {
  const source = state.sideVolume(record, sourceOf(plan.direction));
  const device = await state.device(source, 'read');
  const piece = new Uint8Array(Math.min(PROBE_BYTES / PROBE_READS, source.size));
  const begin = state.host.now();
  for (let i = 0; i < PROBE_READS; i++) {
    await device.read(piece, Math.floor(((source.size - piece.byteLength) * i) / PROBE_READS));
  }
  return (piece.byteLength * PROBE_READS) / (Math.max(1, state.host.now() - begin) / 1000);
}

/** Throws `differential-refused` when the user wants nothing else and the plan is something else. */
export function requireDifferential(plan: Plan, names: string): void {
  if (plan.method === 'differential') return;
  throw new KageError(
    'differential-refused',
    `${names}: the copy would be ${plan.method}, ${plan.reason}`,
    {
      hint: 'run it without --differential-only',
      data: { method: plan.method, reason: plan.reason },
    },
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
