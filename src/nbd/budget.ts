/**
 * Memory that the connections of one server share: payloads of requests in flight, and replies that were
 * not taken. Each connection has an allowance of its own, so that small requests never wait for others;
 * what goes beyond is taken from one budget, first come first served. So all together never hold more
 * than `BUDGET_BYTES` and the allowances.
 *
 * A request waits until all of its room is there, and asks for no more afterwards: those who hold room
 * never wait for each other.
 */

/** Of all connections together, beyond their allowances, bytes: eight full windows. */
export const BUDGET_BYTES = 512 * 1024 * 1024;
/** Of each connection, bytes. */
export const ALLOWANCE_BYTES = 1024 * 1024;

/** One connection's part. */
export interface Holder {
  /** Room may have come; to be asked for anew. */
  wake(): void;
}

export class Budget {
  #free: number;
  /** In the order in which they came. The first one is woken, and stays first until it has what it needs. */
  readonly #waiting: Holder[] = [];
  readonly #onWait: () => void;

  /** `onWait` is called whenever somebody begins to wait. */
  constructor(bytes = BUDGET_BYTES, onWait: () => void = () => {}) {
    this.#free = bytes;
    this.#onWait = onWait;
  }

  get free(): number {
    return this.#free;
  }

  /** True while a holder waits for room. */
  get isShort(): boolean {
    return this.#waiting.length > 0;
  }

  /** Takes so many bytes, or waits in line for them and answers false. */
  take(holder: Holder, bytes: number): boolean {
    const isNext = this.#waiting.length === 0 || this.#waiting[0] === holder;
    if (isNext && bytes <= this.#free) {
      this.#free -= bytes;
      this.leave(holder);
      return true;
    }
    if (!this.#waiting.includes(holder)) {
      this.#waiting.push(holder);
      this.#onWait();
    }
    return false;
  }

  /** `bytes` below 0: more was needed than was taken, as replies have headers. */
  give(bytes: number): void {
    this.#free += bytes;
    if (bytes > 0) this.#waiting[0]?.wake();
  }

  /** The holder waits no more. */
  leave(holder: Holder): void {
    const at = this.#waiting.indexOf(holder);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    if (at === 0) this.#waiting[0]?.wake();
  }
}
