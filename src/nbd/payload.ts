/**
 * The payload of one WRITE after the other. One that has arrived in one piece is handed on as it lies
 * there; one in several pieces is gathered in a buffer that grows with what has really arrived, so
 * that a large claim costs nothing.
 */

import type { Inbox } from './inbox.ts';
import type { Slab, SlabStore } from './slabs.ts';

/** A gathering buffer begins at most this large, bytes. */
const FIRST_BYTES_MAX = 1024 * 1024;

export type Payload = {
  readonly bytes: Uint8Array;
  /** Where the bytes lie, to be given back to the store; undefined if they lie where they arrived. */
  readonly slab: Slab | undefined;
};

export class PayloadReader {
  readonly #store: SlabStore;
  #slab: Slab | undefined;
  /** Bytes of the payload gathered or skipped so far. */
  #done = 0;

  constructor(store: SlabStore) {
    this.#store = store;
  }

  /** The payload of `length` bytes once all of it is here. Called again with the same length until then. */
  read(inbox: Inbox, length: number): Payload | undefined {
    if (this.#done === 0 && inbox.inOnePiece(length)) {
      return { bytes: inbox.take(length), slab: undefined };
    }
    while (inbox.size > 0 && this.#done < length) {
      const { bytes } = this.#roomFor(length);
      const end = Math.min(bytes.byteLength, length);
      this.#done += inbox.moveInto(bytes.subarray(this.#done, end));
    }
    if (this.#done < length) return undefined;
    const slab = this.#slab!;
    this.#slab = undefined;
    this.#done = 0;
    return { bytes: slab.bytes.subarray(0, length), slab };
  }

  /** Passes over a payload of `length` bytes; true once all of it was here. */
  skip(inbox: Inbox, length: number): boolean {
    this.#done += inbox.skip(length - this.#done);
    if (this.#done < length) return false;
    this.#done = 0;
    return true;
  }

  /** Forgets what was gathered. */
  drop(): void {
    if (this.#slab !== undefined) this.#store.give(this.#slab);
    this.#slab = undefined;
    this.#done = 0;
  }

  /** The gathering buffer, twice as large when it is full. */
  #roomFor(length: number): Slab {
    const old = this.#slab;
    if (old !== undefined && this.#done < old.bytes.byteLength) return old;
    const wanted = old === undefined ? FIRST_BYTES_MAX : 2 * old.bytes.byteLength;
    const slab = this.#store.take(Math.min(length, wanted));
    if (old !== undefined) {
      slab.bytes.set(old.bytes);
      this.#store.give(old);
    }
    this.#slab = slab;
    return slab;
  }
}
