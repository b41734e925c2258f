/**
 * Who writes to a file first: clients, not the threads that copy to it. Linux lets one writer at a time
 * into a file, and who sleeps until it is free finds it taken again by who did not, for up to 4 ms
 * (RWSEM_WAIT_TIMEOUT in kernel/locking/rwsem.c). So a copy thread writes little at a time, and before
 * each time waits until no client writes, though not for long: the copy always goes on.
 */

import type { BlockDevice } from './device.ts';
import { OffsetLayer } from './layers/offset.ts';

/** What a copy thread writes at once, bytes. */
const PIECE = 64 * 1024;
/** What it waits before that at most, ms: 128 MB/s are left for the copy whatever clients do. */
const WAIT_MS = 0.5;

/** One for each file, made by the thread of the clients and shared with the others. */
export class RightOfWay {
  /** How many clients' writes are under way: one number. */
  readonly clients: Int32Array<ArrayBufferLike>;

  constructor(clients: Int32Array<ArrayBufferLike> = new Int32Array(new SharedArrayBuffer(4))) {
    this.clients = clients;
  }

  /** A client's write begins. */
  begin(): void {
    Atomics.add(this.clients, 0, 1);
  }

  end(): void {
    if (Atomics.sub(this.clients, 0, 1) === 1) Atomics.notify(this.clients, 0);
  }

  /** Waits until no client writes, or the time is up. Blocks the thread. */
  giveWay(ms = WAIT_MS): void {
    const writing = Atomics.load(this.clients, 0);
    if (writing > 0) Atomics.wait(this.clients, 0, writing, ms);
  }
}

/** A file as a copy thread sees it: its writes give way. */
export class YieldingFile extends OffsetLayer {
  readonly #way: RightOfWay;

  constructor(below: BlockDevice, offset: number, size: number, way: RightOfWay) {
    super(below, offset, size);
    this.#way = way;
  }

  override write(from: Uint8Array, offset: number): void | Promise<void> {
    let done = 0;
    const next = (): void | Promise<void> => {
      do {
        this.#way.giveWay();
        const piece = from.subarray(done, done + PIECE);
        const pending = super.write(piece, offset + done);
        done += piece.byteLength;
        if (pending !== undefined) return pending.then(done < from.byteLength ? next : undefined);
      } while (done < from.byteLength);
    };
    return next();
  }
}
