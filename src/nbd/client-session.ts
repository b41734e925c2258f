/**
 * Requests in flight to one export, over as many connections as it takes, one at a time. A lost
 * connection is opened again for the requests that wait; those that were not answered are sent
 * again.
 *
 * That is allowed only while nothing can be lost unseen. The session ends with a fault, and all
 * that waits and all that follows fails with it, when a connection is lost
 * - with writes that were answered and not flushed: a server that was started anew has forgotten
 *   them, so that even a read could lie;
 * - with writes under way, and nobody ended it (no answer in time, no way to the host): the server
 *   may carry them out later, over what is written by then;
 * - because the server broke the protocol, or comes back with another size or other abilities;
 * and when a flush fails, or the attempts to connect are used up.
 */

import { KageError } from '../base/errors.ts';
import type { Connection, ConnectionEvents, Loss } from './client-connection.ts';
import type { Negotiated } from './client-handshake.ts';
import { freshReply, type Reply, type Request } from './client-protocol.ts';
import { type Clock, createTicker, TICK_MS } from './client-ticks.ts';
import { COMMAND, ERRNO } from './wire.ts';

/** A request that a server ends its connection upon that often is given up. */
const SENDS_MAX = 5;

export type SessionOptions = {
  /** What messages call the server. */
  readonly server: string;
  readonly clock: Clock;
  /** Requests in flight. */
  readonly window: number;
  /**
   * Without an answer for so long, ms, a connection is lost; data on the way counts as an answer.
   */
  readonly answerMs: number;
  /** The same for a flush, which has as much to do as the server has put off. */
  readonly flushMs: number;
  /** Attempts to connect again, in one go; 0: a lost connection is the end. */
  readonly attempts: number;
  /** Wait before the first of them; each further one waits twice as long, up to `longestMs`. */
  readonly firstMs: number;
  readonly longestMs: number;
};

type Connect = (events: ConnectionEvents) => Promise<Connection>;

type Waiting = Request & {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: KageError) => void;
  sends: number;
  /** Since it was sent or its data came last, ms. */
  waited: number;
  /** `reply.arrived` at the last tick. */
  arrived: number;
  /** Of a flush: `#answeredWrites` when it was sent. */
  covers: number;
};

export class NbdSession {
  // Fixed at creation
  readonly #options: SessionOptions;
  readonly #connect: Connect;
  readonly #tick: () => void;

  // Changes while running
  /** What the first connection found. */
  #agreed: Negotiated | undefined;
  #connection: Connection | undefined;
  #connecting = false;
  /** The server takes no more requests. */
  #stopping = false;
  readonly #queue: Waiting[] = [];
  /** By cookie, in the order of sending. */
  readonly #inFlight = new Map<number, Waiting>();
  #lastCookie = 0;
  #answeredWrites = 0;
  #flushedWrites = 0;
  #generation = 0;
  #fault: KageError | undefined;

  private constructor(options: SessionOptions, connect: Connect) {
    this.#options = options;
    this.#connect = connect;
    this.#tick = createTicker(options.clock, () => this.#passTick());
  }

  /** Connects once; later connections must find the same export. */
  static async open(options: SessionOptions, connect: Connect): Promise<NbdSession> {
    const session = new NbdSession(options, connect);
    await session.#openOne();
    return session;
  }

  get agreed(): Negotiated {
    return this.#agreed!;
  }

  /** How often the connection was opened again. */
  get generation(): number {
    return this.#generation;
  }

  /** Why nothing goes any more. */
  get fault(): KageError | undefined {
    return this.#fault;
  }

  /**
   * Sends a request and resolves with its whole reply, be it an error of the server. Rejects with
   * the fault. Until then the request's memory belongs to the session.
   */
  submit(request: Omit<Request, 'reply'>): Promise<Reply> {
    if (this.#fault !== undefined) return Promise.reject(this.#fault);
    return new Promise((resolve, reject) => {
      this.#queue.push({
        ...request,
        resolve,
        reject,
        reply: freshReply(),
        sends: 0,
        waited: 0,
        arrived: 0,
        covers: 0,
      });
      this.#pump();
    });
  }

  /** A failed flush stays failed, whoever asks again. */
  fail(fault: KageError): void {
    if (this.#fault !== undefined) return;
    this.#fault = fault;
    this.#connection?.destroy();
    this.#connection = undefined;
    const all = [...this.#inFlight.values(), ...this.#queue.splice(0)];
    this.#inFlight.clear();
    for (const { reject } of all) reject(fault);
  }

  /** Says good-bye. Nothing waits any more, and nothing may be submitted again. */
  async end(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.end();
  }

  #pump(): void {
    const connection = this.#connection;
    if (connection === undefined) {
      // An idle session has no use for a connection.
      if (!this.#connecting && this.#queue.length > 0) void this.#reconnect();
      return;
    }
    const { window } = this.#options;
    while (!this.#stopping && this.#queue.length > 0 && this.#inFlight.size < window) {
      const request = this.#queue.shift()!;
      request.sends++;
      request.waited = request.arrived = 0;
      request.reply = freshReply();
      request.covers = this.#answeredWrites;
      const cookie = ++this.#lastCookie;
      this.#inFlight.set(cookie, request);
      connection.send(cookie, request);
    }
    if (this.#inFlight.size > 0) this.#tick();
  }

  #answered(cookie: number): void {
    const request = this.#inFlight.get(cookie)!;
    const { command, reply } = request;
    this.#inFlight.delete(cookie);
    if (reply.errno === ERRNO.ESHUTDOWN) {
      // Not carried out: the server's successor will do it. The rest it may still finish.
      this.#stopping = true;
      this.#queue.unshift(request);
    } else {
      if (reply.errno === 0 && command === COMMAND.flush) {
        this.#flushedWrites = Math.max(this.#flushedWrites, request.covers);
      } else if (reply.errno === 0 && changes(request)) this.#answeredWrites++;
      request.resolve(reply);
    }
    if (this.#stopping && this.#inFlight.size === 0) {
      this.#connection?.destroy();
      this.#lost({ kind: 'closed', error: this.#error('the server is stopping') });
    } else this.#pump();
  }

  #lost(loss: Loss): void {
    this.#connection = undefined;
    this.#stopping = false;
    const again = [...this.#inFlight.values()];
    const fault = this.#faultOf(loss, again);
    if (fault !== undefined) {
      this.fail(fault);
      return;
    }
    this.#inFlight.clear();
    this.#queue.unshift(...again);
    this.#pump();
  }

  #faultOf({ kind, error }: Loss, again: readonly Waiting[]): KageError | undefined {
    if (kind === 'broken') return error;
    const cause = { cause: error };
    if (this.#answeredWrites > this.#flushedWrites) {
      return this.#error('the server was lost with writes it had not flushed', cause);
    }
    if (kind === 'silent' && again.some(changes)) {
      const what = 'the server was lost with writes of which nobody knows whether they are done';
      return this.#error(what, cause);
    }
    if (this.#options.attempts === 0) return error;
    if ([...again, ...this.#queue].some(({ sends }) => sends >= SENDS_MAX)) {
      return this.#error(`the server was lost ${SENDS_MAX} times upon the same request`, cause);
    }
    return undefined;
  }

  async #reconnect(): Promise<void> {
    const { attempts, firstMs, longestMs, clock } = this.#options;
    this.#connecting = true;
    let delay = firstMs;
    for (let attempt = 1; this.#connecting && this.#fault === undefined; attempt++) {
      await clock.sleep(delay);
      delay = Math.min(longestMs, 2 * delay);
      try {
        await this.#openOne();
      } catch (error) {
        if (attempt < attempts) continue;
        const what = `the server was lost and could not be reached again in ${attempt} attempts`;
        this.fail(this.#error(what, { cause: error }));
      }
    }
  }

  async #openOne(): Promise<void> {
    let connection: Connection | undefined;
    let early: Loss | undefined;
    connection = await this.#connect({
      find: (cookie) => this.#inFlight.get(cookie),
      answered: (cookie) => this.#answered(cookie),
      lost: (loss) => {
        if (connection === undefined) early = loss;
        else if (connection === this.#connection) this.#lost(loss);
      },
    });
    if (early !== undefined) throw early.error;
    this.#install(connection);
  }

  #install(connection: Connection): void {
    this.#connecting = false;
    const now = connection.negotiated;
    const change = this.#agreed && differenceOf(this.#agreed, now);
    if (this.#fault !== undefined || change !== undefined) {
      connection.destroy();
      const text = `${this.#options.server}: the server came back with another ${change}`;
      const data = { path: this.#options.server };
      this.fail(new KageError('image-changed', text, { data }));
      return;
    }
    if (this.#agreed !== undefined) this.#generation++;
    this.#agreed ??= now;
    this.#connection = connection;
    this.#pump();
  }

  /** Looks for requests that have waited too long; false when there are none at all. */
  #passTick(): boolean {
    for (const request of this.#inFlight.values()) {
      const moved = request.reply.arrived !== request.arrived;
      request.arrived = request.reply.arrived;
      request.waited = moved ? 0 : request.waited + TICK_MS;
      const { answerMs, flushMs } = this.#options;
      const limit = request.command === COMMAND.flush ? flushMs : answerMs;
      if (request.waited < limit) continue;
      this.#connection?.destroy();
      this.#lost({ kind: 'silent', error: this.#error(`no answer within ${limit / 1000} s`) });
      break;
    }
    return this.#inFlight.size > 0;
  }

  #error(what: string, options: { cause?: unknown } = {}): KageError {
    const { server } = this.#options;
    return new KageError('io-error', `${server}: ${what}`, { ...options, data: { path: server } });
  }
}

function changes({ command }: Request): boolean {
  return command === COMMAND.write || command === COMMAND.writeZeroes;
}

function differenceOf(before: Negotiated, now: Negotiated): string | undefined {
  if (now.size !== before.size) return `size, ${now.size} bytes instead of ${before.size}`;
  if (now.flags !== before.flags) return 'set of abilities (transmission flags)';
  if (now.minimum !== before.minimum || now.maximum !== before.maximum) return 'block size';
  const contexts = (now.allocationId === undefined) === (before.allocationId === undefined);
  return contexts ? undefined : 'set of contexts';
}
