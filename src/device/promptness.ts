/**
 * Whether a disk answers at once, told from how long its last synchronous calls took. A call on
 * warm data takes some microseconds, and then waiting for it is the fastest way; a call that waits
 * for a disk stops everybody else in the thread. Pure: time is an argument.
 *
 * One slow call may be the machine's own hiccup; two of them close together, or one soon after a
 * rest, send the disk to the slow lane for fifty times as long: while it is slow, it costs the thread
 * one part in fifty, and one that has become warm is found out soon.
 */

/** A call on warm data: a part for the call, a part for the bytes (1 ms for each MB), ms. */
export const READ_MS = 0.025;
/**
 * A write takes that in the file system alone (ext4, 4 KiB into 2 MiB that are one folio: 0.03). Threads
 * would gain nothing: one at a time writes to a file.
 */
export const WRITE_MS = 0.1;
const BYTE_MS = 1e-6;
/** So many fast calls, and a slow one is forgotten: the bits of `#slow`. After a rest, fewer. */
const PROBATION_CALLS = 8;
const REST_FACTOR = 50;
const REST_MIN_MS = 5;
const REST_MAX_MS = 2000;

export class Promptness {
  readonly #callMs: number;
  /** The last 32 calls, a bit each: slow. */
  #slow = 0;
  #probation = 0;
  #restsUntil = Number.NEGATIVE_INFINITY;

  /** `callMs`: how long a call without bytes may last. */
  constructor(callMs = READ_MS) {
    this.#callMs = callMs;
  }

  /** `now` in ms, never going back. */
  isPrompt(now: number): boolean {
    return now >= this.#restsUntil;
  }

  /** A synchronous call of so many bytes lasted from `began` to `ended`, ms. */
  took(bytes: number, began: number, ended: number): void {
    const lasted = ended - began;
    if (lasted <= this.#callMs + bytes * BYTE_MS) {
      this.#slow <<= 1;
      if (this.#probation > 0) this.#probation--;
      return;
    }
    if (this.#slow === 0 && this.#probation === 0) {
      this.#slow = 1;
      return;
    }
    this.#slow = 0;
    this.#probation = PROBATION_CALLS;
    const rest = Math.min(Math.max(REST_FACTOR * lasted, REST_MIN_MS), REST_MAX_MS);
    this.#restsUntil = ended + rest;
  }
}
