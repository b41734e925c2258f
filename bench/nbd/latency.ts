/**
 * Latencies of a client that is not in a hurry: it asks at a steady rate, far from what the server can
 * do, so that what it waits for is the server's and not its own crowd.
 */

import type { Figure } from '../turns.ts';
import type { Counted, Load, Result } from './fio.ts';

/** Reads and as many writes, a second. */
export const STEADY: Load = { rw: 'randrw', bytes: 4096, depth: 16, rate: 2000 };

/** The 99th percentile, the others beside it. */
export function latencies(works: { read: string; write: string }, result: Result): Figure[] {
  return [figure(works.read, result.read), figure(works.write, result.write)];
}

function figure(work: string, { p50, p99, p999 }: Counted): Figure {
  return { work, unit: 'ms', value: p99, beside: { p50, p999 } };
}
