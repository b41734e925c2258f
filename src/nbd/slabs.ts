/**
 * Buffers that are used again: for replies, and for payloads that came in several pieces. A server
 * has one store for all its connections, so that an idle connection holds none.
 */

/** The usual size, bytes: some sixty replies of 4 KiB. */
export const SLAB_BYTES = 256 * 1024;
/** What is kept for later, bytes. */
const KEPT_BYTES_MAX = 32 * 1024 * 1024;

export type Slab = {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Parts of it that somebody still needs; see `Outbox`. */
  users: number;
};

export class SlabStore {
  readonly #free: Slab[] = [];
  #freeBytes = 0;

  /** A buffer of at least `length` bytes, with any content. */
  take(length: number): Slab {
    const size = Math.ceil(Math.max(length, 1) / SLAB_BYTES) * SLAB_BYTES;
    // The one given back last is the warmest.
    for (let i = this.#free.length - 1; i >= 0; i--) {
      const slab = this.#free[i];
      if (slab.bytes.byteLength !== size) continue;
      this.#free.splice(i, 1);
      this.#freeBytes -= size;
      return slab;
    }
    const bytes = new Uint8Array(size);
    return { bytes, view: new DataView(bytes.buffer), users: 0 };
  }

  give(slab: Slab): void {
    this.#free.push(slab);
    this.#freeBytes += slab.bytes.byteLength;
    while (this.#freeBytes > KEPT_BYTES_MAX) {
      this.#freeBytes -= this.#free.shift()!.bytes.byteLength;
    }
  }

  /** Bytes kept for later. */
  get freeBytes(): number {
    return this.#freeBytes;
  }
}
