/**
 * How much of a connection is in flight. A request is in flight from the moment it is taken up until
 * the transport has taken its reply, so a slow export and a client that takes no replies are both
 * bounded by it. The largest request finds room whenever nothing else has bytes in flight.
 */

import type { Outbox } from './outbox.ts';
import type { Request } from './requests.ts';
import { COMMAND } from './wire.ts';

const REQUESTS_MAX = 64;
/** Payloads in both directions, and replies that were not taken, bytes. */
const WINDOW_BYTES = 64 * 1024 * 1024;

export class Window {
  readonly #out: Outbox;
  #requests = 0;
  /** Payloads of requests that run; that of a finished read is in the outbox. */
  #bytes = 0;

  constructor(out: Outbox) {
    this.#out = out;
  }

  /** Requests whose replies have not left. */
  get requests(): number {
    return this.#requests;
  }

  /** `request` is undefined for one that is going to be refused. */
  hasRoomFor(request: Request | undefined): boolean {
    if (this.#requests >= REQUESTS_MAX) return false;
    const bytes = this.#bytes + this.#out.unsent;
    return bytes === 0 || bytes + heldBytes(request) <= WINDOW_BYTES;
  }

  /** A request is taken up. */
  enter(request: Request | undefined): void {
    this.#requests++;
    this.#bytes += heldBytes(request);
  }

  /** The work on a request has ended; its reply goes out now. */
  settle(request: Request): void {
    this.#bytes -= heldBytes(request);
  }

  /** So many replies have left. */
  taken(replies: number): void {
    this.#requests -= replies;
  }
}

/** Bytes in memory for a request that is carried out. */
function heldBytes(request: Request | undefined): number {
  if (request === undefined) return 0;
  const { command, length } = request;
  return command === COMMAND.read || command === COMMAND.write ? length : 0;
}
