/** Throttle of a copy: at most so many bytes a second, or a pause after each transfer. */

export type PaceOptions = {
  readonly rateBytesPerSec?: number;
  readonly delayMs?: number;
  readonly now: () => number;
  readonly sleep: (ms: number) => Promise<void>;
  readonly signal?: AbortSignal;
};

/** Longest sleep before the stop signal is looked at again, ms. */
const NAP_MS = 200;

export class Pace {
  readonly #o: PaceOptions;
  #nextAt: number;

  constructor(options: PaceOptions) {
    this.#o = options;
    this.#nextAt = options.now();
  }

  /** Waits until the next transfer may begin, or the signal is given. */
  async wait(): Promise<void> {
    for (;;) {
      const left = this.#nextAt - this.#o.now();
      if (left <= 0 || this.#o.signal?.aborted) return;
      await this.#o.sleep(Math.min(left, NAP_MS));
    }
  }

  async done(bytes: number): Promise<void> {
    const now = this.#o.now();
    const { rateBytesPerSec, delayMs } = this.#o;
    if (rateBytesPerSec) {
      this.#nextAt = Math.max(this.#nextAt, now - 1000) + (bytes / rateBytesPerSec) * 1000;
    }
    if (delayMs) this.#nextAt = now + delayMs;
  }
}
