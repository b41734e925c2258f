/**
 * Replies on their way out. They are built in place, one behind the other in a slab, and all that
 * were made in one turn leave together. What is read for a reply that is not ready at once keeps its
 * place (`detach`); what lies before and behind it goes on its own.
 *
 * `unsent` counts until the transport says that the bytes are out of our hands.
 */

import { SLAB_BYTES, type Slab, type SlabStore } from './slabs.ts';

/** Replies of so many bytes leave at once instead of at the end of the turn. */
const SOON_BYTES = SLAB_BYTES;

/** [start, end) of a slab. */
export type Piece = { readonly slab: Slab; readonly start: number; end: number };

/** Sends the pieces in this order and calls `taken` once nobody looks at them any more. */
export type Send = (pieces: readonly Uint8Array[], taken: () => void) => void;

export class Outbox {
  readonly #store: SlabStore;
  readonly #send: Send;
  readonly #onTaken: (replies: number) => void;
  #slab: Slab | undefined;
  /** The span of finished replies in the slab: [start, end). */
  #start = 0;
  #end = 0;
  #ready: Piece[] = [];
  #readyBytes = 0;
  #readyReplies = 0;
  #closed = false;
  /** Bytes of finished replies that were not taken yet. */
  unsent = 0;

  /** `onTaken` is told how many replies have left. */
  constructor(store: SlabStore, send: Send, onTaken: (replies: number) => void) {
    this.#store = store;
    this.#send = send;
    this.#onTaken = onTaken;
  }

  /**
   * Room for a reply: [start, end) of the slab returned. It is the caller's until the next call here;
   * `commit` or `detach` keep it, anything else lets it go.
   */
  reserve(length: number): Piece {
    if (this.#slab === undefined || this.#slab.bytes.byteLength - this.#end < length) {
      this.#leaveSlab();
      this.#slab = this.#store.take(length);
      // The slab in use counts as one user.
      this.#slab.users = 1;
      this.#start = 0;
      this.#end = 0;
    }
    return { slab: this.#slab, start: this.#end, end: this.#end + length };
  }

  /** The reserved room holds finished replies, `replies` of them. */
  commit(piece: Piece, replies: number): void {
    this.#end = piece.end;
    this.#count(piece.end - piece.start, replies);
  }

  /** The reserved room will be filled later; `ready` or `abandon` end that. */
  detach(piece: Piece): void {
    this.#closeSpan();
    piece.slab.users++;
    this.#start = piece.end;
    this.#end = piece.end;
  }

  /** A detached piece holds one finished reply. */
  ready(piece: Piece): void {
    this.#ready.push(piece);
    this.#count(piece.end - piece.start, 1);
  }

  /** A detached piece is not needed after all. */
  abandon(piece: Piece): void {
    this.#release(piece.slab);
  }

  /** A copy of some bytes, as `replies` replies. */
  append(bytes: Uint8Array, replies: number): void {
    const piece = this.reserve(bytes.byteLength);
    piece.slab.bytes.set(bytes, piece.start);
    this.commit(piece, replies);
  }

  /** Everything finished goes out with one call of `send`. */
  flush(): void {
    this.#closeSpan();
    if (this.#readyBytes === 0) return;
    const pieces = joined(this.#ready);
    const bytes = this.#readyBytes;
    const replies = this.#readyReplies;
    this.#ready = [];
    this.#readyBytes = 0;
    this.#readyReplies = 0;
    const views = pieces.map(({ slab, start, end }) => slab.bytes.subarray(start, end));
    const slabs = pieces.map(({ slab }) => slab);
    this.#send(views, () => {
      if (this.#closed) return;
      for (const slab of slabs) this.#release(slab);
      this.unsent -= bytes;
      this.#rest();
      this.#onTaken(replies);
    });
  }

  /**
   * The peer is gone: nothing is sent or counted any more. Slabs in use are left to the garbage
   * collector, as the system may still be reading them.
   */
  close(): void {
    this.#closed = true;
    this.#slab = undefined;
    this.#start = 0;
    this.#end = 0;
    this.#ready = [];
    this.#readyBytes = 0;
    this.unsent = 0;
  }

  #count(bytes: number, replies: number): void {
    if (this.#closed) {
      this.#forget();
      return;
    }
    this.unsent += bytes;
    this.#readyBytes += bytes;
    this.#readyReplies += replies;
    if (this.#readyBytes >= SOON_BYTES) this.flush();
  }

  /** A reply that was made after `close`. */
  #forget(): void {
    if (this.#slab !== undefined) this.#store.give(this.#slab);
    this.#slab = undefined;
    this.#start = 0;
    this.#end = 0;
    this.#ready = [];
  }

  #closeSpan(): void {
    const slab = this.#slab;
    if (slab === undefined || this.#start === this.#end) return;
    this.#ready.push({ slab, start: this.#start, end: this.#end });
    slab.users++;
    this.#start = this.#end;
  }

  #leaveSlab(): void {
    this.#closeSpan();
    if (this.#slab !== undefined) this.#release(this.#slab);
    this.#slab = undefined;
  }

  /** With nothing on its way the slab goes back: an idle connection holds no buffer. */
  #rest(): void {
    if (this.#slab?.users !== 1 || this.#start !== this.#end) return;
    this.#release(this.#slab);
    this.#slab = undefined;
  }

  #release(slab: Slab): void {
    slab.users--;
    if (slab.users === 0 && !this.#closed) this.#store.give(slab);
  }
}

/** Neighbours in one slab become one piece; each joined one gives its use of the slab back. */
function joined(pieces: readonly Piece[]): Piece[] {
  const result: Piece[] = [];
  for (const piece of pieces) {
    const last = result.at(-1);
    if (last !== undefined && last.slab === piece.slab && last.end === piece.start) {
      last.end = piece.end;
      piece.slab.users--;
    } else {
      result.push({ slab: piece.slab, start: piece.start, end: piece.end });
    }
  }
  return result;
}
