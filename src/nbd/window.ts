/**
 * How much of a connection is in flight. A request is in flight from the moment it is taken up until
 * the transport has taken its reply, so a slow export and a client that takes no replies are both
 * bounded by it. The largest request finds room whenever nothing else has bytes in flight, and all
 * connections together leave it (`budget.ts`).
 */

import { ALLOWANCE_BYTES, type Budget, type Holder } from './budget.ts';
import type { Outbox } from './outbox.ts';
import type { Request } from './requests.ts';
import { COMMAND } from './wire.ts';

const REQUESTS_MAX = 64;
/** Payloads in both directions, and replies that were not taken, bytes. */
const WINDOW_BYTES = 64 * 1024 * 1024;

export class Window implements Holder {
  readonly #out: Outbox;
  readonly #budget: Budget;
  readonly #clock: () => number;
  readonly #onRoom: () => void;
  #requests = 0;
  /** Payloads of requests that run; that of a finished read is in the outbox. */
  #bytes = 0;
  /** Of the request that has room and was not taken up yet: its payload is arriving. */
  #claimed = 0;
  /** What this connection has of the budget. */
  #charged = 0;
  /** Since when nothing has moved that the client has to move; undefined: it owes nothing. */
  #owesSince: number | undefined;

  /** `onRoom` is called when a request that found none should be tried again. */
  constructor(out: Outbox, budget: Budget, clock: () => number, onRoom: () => void) {
    this.#out = out;
    this.#budget = budget;
    this.#clock = clock;
    this.#onRoom = onRoom;
  }

  /** Requests whose replies have not left. */
  get requests(): number {
    return this.#requests;
  }

  /**
   * Keeps room for a request, which is to be taken up next. `request` is undefined for one that is going
   * to be refused. False: there is none yet; `onRoom` or a reply that has left is the time to ask again.
   */
  makeRoomFor(request: Request | undefined): boolean {
    if (this.#requests >= REQUESTS_MAX) return false;
    const bytes = this.#bytes + this.#out.unsent;
    const wanted = bytes + heldBytes(request);
    if (bytes > 0 && wanted > WINDOW_BYTES) return false;
    const more = Math.max(0, chargeOf(wanted) - this.#charged);
    if (more === 0) this.#budget.leave(this);
    else if (!this.#budget.take(this, more)) return false;
    this.#charged += more;
    this.#claimed = heldBytes(request);
    this.#look();
    return true;
  }

  /** The request that has room is taken up; all of its payload is here. */
  enter(request: Request | undefined): void {
    this.#requests++;
    this.#bytes += heldBytes(request);
    this.#claimed = 0;
    // With replies to take, sending more is no progress.
    if (this.#out.unsent === 0) this.#moved();
  }

  /** The work on a request has ended; its reply goes out now. */
  settle(request: Request): void {
    this.#bytes -= heldBytes(request);
  }

  /** So many replies have left. */
  taken(replies: number): void {
    this.#requests -= replies;
    this.#moved();
  }

  /** Gives back what is not needed any more. Between `settle` and the reply it would be too early. */
  update(): void {
    const needed = chargeOf(this.#bytes + this.#claimed + this.#out.unsent);
    const less = this.#charged - needed;
    this.#charged = needed;
    this.#look();
    this.#budget.give(less);
  }

  /** The client is gone: it wants nothing any more, and only what runs is still held. */
  close(): void {
    this.#claimed = 0;
    this.#budget.leave(this);
    this.update();
  }

  wake(): void {
    this.#onRoom();
  }

  /** ms for which it has held some of the budget, and the client neither sent nor took what it has to. */
  stalledMs(now: number): number {
    return this.#charged > 0 && this.#owesSince !== undefined ? now - this.#owesSince : 0;
  }

  #moved(): void {
    this.#owesSince = undefined;
    this.#look();
  }

  #look(): void {
    const owes = this.#claimed > 0 || this.#out.unsent > 0;
    if (!owes) this.#owesSince = undefined;
    else this.#owesSince ??= this.#clock();
  }
}

function chargeOf(bytes: number): number {
  return Math.max(0, bytes - ALLOWANCE_BYTES);
}

/** Bytes in memory for a request that is carried out. */
function heldBytes(request: Request | undefined): number {
  if (request === undefined) return 0;
  const { command, length } = request;
  return command === COMMAND.read || command === COMMAND.write ? length : 0;
}
