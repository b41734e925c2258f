/**
 * The second half of a connection: requests in, replies out, many at a time.
 *
 * A request is taken up only while the window has room; one that was taken up is
 * carried out, also when the client is gone meanwhile. What the export does at once is answered in the
 * same turn without a promise. Nothing here throws for what a client sends or an export does.
 */

import type { Agreed, Surroundings } from './agreement.ts';
import { encodeText } from './big-endian.ts';
import { statusExtents } from './block-status.ts';
import { errorText, wireErrno } from './errno.ts';
import type { NbdExport } from './export.ts';
import type { Inbox } from './inbox.ts';
import type { Outbox } from './outbox.ts';
import { PayloadReader } from './payload.ts';
import {
  putReadHeader,
  readHeaderBytes,
  replyDone,
  replyError,
  replyStatus,
  type StatusAnswer,
} from './replies.ts';
import {
  parseRequest,
  payloadBytes,
  type Refusal,
  type Request,
  refusalOf,
  STOPPING,
  type Terms,
} from './requests.ts';
import type { Slab } from './slabs.ts';
import { Window } from './window.ts';
import { COMMAND, COMMAND_FLAG, PAYLOAD_BYTES_MAX, REQUEST_BYTES } from './wire.ts';

/** A refused WRITE is read to its end up to here, bytes; beyond, the connection is dropped. */
const SWALLOWED_BYTES_MAX = 2 * PAYLOAD_BYTES_MAX;
/** TRIM and WRITE_ZEROES go to the export in parts of this many bytes, with others in between. */
const ZERO_SLICE_BYTES = 8 * 1024 * 1024;

const NOTHING = new Uint8Array(0);

type Progress = 'more' | 'wait' | 'full' | 'broken';

export class Transmission {
  readonly #target: NbdExport;
  readonly #agreed: Agreed;
  readonly #out: Outbox;
  readonly #around: Surroundings;
  readonly #onSettled: () => void;
  readonly #payload: PayloadReader;
  /** The write whose payload is being read: to be carried out, or refused. */
  #arriving: { request: Request; refusal: Refusal | undefined } | undefined;
  readonly #terms: Terms;
  readonly #window: Window;
  /** Requests that the export works on. */
  #running = 0;
  #disconnected = false;
  #stopping = false;

  /** `onSettled` is called whenever a request has ended outside of `advance`. */
  constructor(agreed: Agreed, out: Outbox, around: Surroundings, onSettled: () => void) {
    this.#agreed = agreed;
    this.#target = agreed.open.target;
    this.#out = out;
    this.#around = around;
    this.#onSettled = onSettled;
    this.#payload = new PayloadReader(around.store);
    const { size, readOnly } = this.#target;
    const { structured, contexts } = agreed;
    this.#terms = { size, readOnly, structured, contexts: contexts.length };
    this.#window = new Window(out, around.budget, around.clock, onSettled);
  }

  /** The client has said that it wants no more. */
  get disconnected(): boolean {
    return this.#disconnected;
  }

  /** Requests taken up whose replies have not left yet. */
  get requests(): number {
    return this.#window.requests;
  }

  /** Requests that the export still works on. */
  get running(): number {
    return this.#running;
  }

  /** From now on requests are answered with ESHUTDOWN. */
  stop(): void {
    this.#stopping = true;
  }

  /** So many replies have left. */
  taken(replies: number): void {
    this.#window.taken(replies);
  }

  /** The replies of what has ended are in the outbox. */
  update(): void {
    this.#window.update();
  }

  /** The client is gone. */
  close(): void {
    this.#arriving = undefined;
    this.#payload.drop();
    this.#window.close();
  }

  /** See `Window.stalledMs`. */
  stalledMs(now: number): number {
    return this.#window.stalledMs(now);
  }

  /**
   * Takes up what has arrived. `wait`: more bytes are needed; `full`: so is room in the window;
   * `broken`: this is not NBD, the connection has to be dropped.
   */
  advance(inbox: Inbox): Exclude<Progress, 'more'> {
    for (;;) {
      const progress = this.#arriving === undefined ? this.#begin(inbox) : this.#receive(inbox);
      if (progress === 'more') continue;
      this.#window.update();
      return progress;
    }
  }

  #begin(inbox: Inbox): Progress {
    if (this.#disconnected) {
      inbox.clear();
      return 'wait';
    }
    if (!inbox.has(REQUEST_BYTES)) return 'wait';
    const request = parseRequest(inbox.bytes, inbox.at, this.#around.clock());
    if (request === undefined) return 'broken';
    if (request.command === COMMAND.disconnect) {
      this.#disconnected = true;
      return 'more';
    }
    const refusal = this.#stopping ? STOPPING : refusalOf(request, this.#terms);
    const payload = payloadBytes(request);
    if (refusal !== undefined && payload > SWALLOWED_BYTES_MAX) return 'broken';
    if (!this.#window.makeRoomFor(refusal ? undefined : request)) return 'full';
    inbox.skip(REQUEST_BYTES);
    // Nothing else is taken up before its payload is here: the room stays.
    if (payload > 0) this.#arriving = { request, refusal };
    else if (refusal !== undefined) this.#refuse(request, refusal);
    else this.#execute(request, NOTHING, undefined);
    return 'more';
  }

  /** The payload of the write at hand. */
  #receive(inbox: Inbox): Progress {
    const { request, refusal } = this.#arriving!;
    if (refusal !== undefined) {
      if (!this.#payload.skip(inbox, request.length)) return 'wait';
      this.#arriving = undefined;
      this.#refuse(request, refusal);
      return 'more';
    }
    const payload = this.#payload.read(inbox, request.length);
    if (payload === undefined) return 'wait';
    this.#arriving = undefined;
    this.#execute(request, payload.bytes, payload.slab);
    return 'more';
  }

  /** `from`: the payload of a WRITE; `slab`: where it lies, to be given back. */
  #execute(request: Request, from: Uint8Array, slab: Slab | undefined): void {
    this.#window.enter(request);
    const { offset } = request;
    try {
      switch (request.command) {
        case COMMAND.read:
          this.#read(request);
          break;
        case COMMAND.write:
          this.#finish(request, this.#target.write(from, offset), slab);
          break;
        case COMMAND.flush:
          this.#later(request, this.#target.flush());
          break;
        case COMMAND.cache:
          this.#succeed(request);
          break;
        case COMMAND.blockStatus:
          this.#status(request);
          break;
        default:
          this.#finish(request, this.#zero(request), undefined);
      }
    } catch (error) {
      if (slab !== undefined) this.#around.store.give(slab);
      this.#fail(request, error);
    }
  }

  #read(request: Request): void {
    const { offset, length } = request;
    if (length === 0) {
      this.#succeed(request);
      return;
    }
    const { structured } = this.#agreed;
    const header = readHeaderBytes(structured);
    const piece = this.#out.reserve(header + length);
    const into = piece.slab.bytes.subarray(piece.start + header, piece.end);
    const reading = this.#target.read(into, offset);
    if (reading === undefined) {
      putReadHeader(piece, request, structured);
      this.#settle(request, false);
      this.#out.commit(piece, 1);
      return;
    }
    this.#out.detach(piece);
    this.#running++;
    reading.then(
      () => {
        putReadHeader(piece, request, structured);
        this.#settle(request, false);
        this.#out.ready(piece);
        this.#ended();
      },
      (error) => {
        this.#out.abandon(piece);
        this.#fail(request, error);
        this.#ended();
      },
    );
  }

  /** TRIM and WRITE_ZEROES. */
  #zero(request: Request): void | Promise<void> {
    const { command, flags, offset, length } = request;
    const punch = command === COMMAND.trim || (flags & COMMAND_FLAG.noHole) === 0;
    if (length === 0) return;
    if (length <= ZERO_SLICE_BYTES) return this.#target.zero(offset, length, punch);
    return this.#zeroSlices(offset, length, punch);
  }

  async #zeroSlices(offset: number, length: number, punch: boolean): Promise<void> {
    for (let done = 0; done < length; done += ZERO_SLICE_BYTES) {
      if (done > 0) await this.#around.turn();
      await this.#target.zero(offset + done, Math.min(ZERO_SLICE_BYTES, length - done), punch);
    }
  }

  #status(request: Request): void {
    const { offset, length } = request;
    const one = (request.flags & COMMAND_FLAG.reqOne) !== 0;
    const { contexts } = this.#agreed;
    const { turn } = this.#around;
    const lists = contexts.map(({ name }) =>
      statusExtents(this.#target, { context: name, offset, length, one }, turn),
    );
    if (lists.every((list) => Array.isArray(list))) {
      this.#answerStatus(request, lists);
      return;
    }
    this.#running++;
    Promise.all(lists)
      .then(
        (all) => this.#answerStatus(request, all),
        (error) => this.#fail(request, error),
      )
      .then(() => this.#ended());
  }

  #answerStatus(request: Request, lists: readonly StatusAnswer['extents'][]): void {
    const { contexts } = this.#agreed;
    this.#settle(request, false);
    replyStatus(
      this.#out,
      request,
      lists.map((extents, i) => ({ id: contexts[i].id, extents })),
    );
  }

  /** `done`: of a command that changes data, which FUA makes durable before the answer. */
  #finish(request: Request, done: void | Promise<void>, slab: Slab | undefined): void {
    const fua = (request.flags & COMMAND_FLAG.fua) !== 0;
    if (done === undefined && !fua) {
      if (slab !== undefined) this.#around.store.give(slab);
      this.#succeed(request);
      return;
    }
    const changed = done ?? Promise.resolve();
    const durable = fua ? changed.then(() => this.#target.flush()) : changed;
    this.#later(request, durable, slab);
  }

  #later(request: Request, work: Promise<void>, slab?: Slab): void {
    this.#running++;
    const end = () => {
      if (slab !== undefined) this.#around.store.give(slab);
      this.#ended();
    };
    work.then(
      () => {
        this.#succeed(request);
        end();
      },
      (error) => {
        this.#fail(request, error);
        end();
      },
    );
  }

  #ended(): void {
    this.#running--;
    this.#onSettled();
  }

  #succeed(request: Request): void {
    this.#settle(request, false);
    replyDone(this.#out, request, this.#agreed.structured);
  }

  #fail(request: Request, error: unknown): void {
    this.#settle(request, true);
    const { structured } = this.#agreed;
    replyError(this.#out, request, structured, wireErrno(error), errorText(error));
  }

  #refuse(request: Request, { errno, text }: Refusal): void {
    this.#window.enter(undefined);
    this.#measure(request, true);
    const { structured } = this.#agreed;
    replyError(this.#out, request, structured, errno, encodeText(text, text.length));
  }

  #settle(request: Request, failed: boolean): void {
    this.#window.settle(request);
    this.#measure(request, failed);
  }

  #measure({ command, length, startedAt }: Request, failed: boolean): void {
    const { metrics, clock } = this.#around;
    metrics.add(command, length, failed, clock() - startedAt);
  }
}
