/**
 * What a server counts. Plain numbers in fixed arrays: counting a request costs no allocation.
 * Readers take what they want at any time; nothing is ever reset.
 */

import { COMMAND } from './wire.ts';

const COMMANDS = 8;
/** Four steps to each doubling, from 1 µs to some 70 minutes; the first is for 1 µs itself. */
const STEPS = 4;
const BUCKETS = 1 + 32 * STEPS;

/** How long requests took, in buckets that are at most a quarter wide; their ends are in them. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #total = 0;
  #sum = 0;

  /** `ms`: 0 or more. */
  add(ms: number): void {
    this.#counts[bucketOf(ms * 1000)]++;
    this.#total++;
    this.#sum += ms;
  }

  get total(): number {
    return this.#total;
  }

  /** Of all times, ms. */
  get sum(): number {
    return this.#sum;
  }

  /** How many took at most 2^power µs, 0 to 31: exact, for a bucket ends there. */
  upTo(power: number): number {
    let count = 0;
    for (let i = 0; i <= power * STEPS; i++) count += this.#counts[i];
    return count;
  }

  /** ms that a share of all (0 to 1) did not exceed, rounded up to the bucket's end; 0 if none. */
  quantile(share: number): number {
    let rest = share * this.#total;
    for (let i = 0; i < BUCKETS; i++) {
      if (this.#counts[i] === 0) continue;
      rest -= this.#counts[i];
      if (rest <= 0) return endOf(i) / 1000;
    }
    return 0;
  }
}

function bucketOf(microseconds: number): number {
  const below = Math.min(Math.max(Math.ceil(microseconds) - 1, 0), 2 ** 32 - 1);
  if (below === 0) return 0;
  const power = 31 - Math.clz32(below);
  // The two bits below the highest one.
  const step = power >= 2 ? (below >>> (power - 2)) & 3 : (below << (2 - power)) & 3;
  return 1 + power * STEPS + step;
}

/** The largest number of µs in a bucket. */
function endOf(bucket: number): number {
  if (bucket === 0) return 1;
  const power = Math.floor((bucket - 1) / STEPS);
  return Math.ceil(2 ** power * (1 + (((bucket - 1) % STEPS) + 1) / STEPS));
}

export type CommandName = keyof typeof COMMAND;

export class NbdMetrics {
  /** Connections that are open now. */
  connections = 0;
  /** All connections that were let in. */
  accepted = 0;
  /** Connections that were closed at once because there were too many. */
  refused = 0;
  /** Connections that were cut off because they kept memory that others waited for. */
  cutOff = 0;
  /** Payloads of the requests that succeeded. */
  bytesRead = 0;
  bytesWritten = 0;
  readonly #requests = new Float64Array(COMMANDS);
  readonly #errors = new Float64Array(COMMANDS);
  readonly #bytes = new Float64Array(COMMANDS);
  readonly #latency = Array.from({ length: COMMANDS }, () => new Histogram());

  /** A request is answered. `length`: of its range, bytes; `ms`: since it was read. */
  add(command: number, length: number, failed: boolean, ms: number): void {
    if (command >= COMMANDS) return;
    this.#requests[command]++;
    this.#latency[command].add(ms);
    if (failed) this.#errors[command]++;
    else this.#bytes[command] += length;
  }

  requests(name: CommandName): number {
    return this.#requests[COMMAND[name]];
  }

  /** Those that were answered with an error. */
  errors(name: CommandName): number {
    return this.#errors[COMMAND[name]];
  }

  /** Lengths of the requests that succeeded. */
  bytes(name: CommandName): number {
    return this.#bytes[COMMAND[name]];
  }

  latency(name: CommandName): Histogram {
    return this.#latency[COMMAND[name]];
  }
}
