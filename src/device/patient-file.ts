/**
 * A file or block device that clients share a thread with: as long as it answers at once it is read
 * and written in the thread, and when it does not, by the runtime's own threads, so that nobody waits
 * for a disk that is not his. Large transfers always go there: they are carried out while the thread
 * takes the next ones from the network.
 *
 * Calls that overlap are in no order: whoever has to order them holds the range meanwhile.
 */

import type { BlockDevice } from './device.ts';
import { FileDevice, type FileDeviceOptions } from './file.ts';
import { poolSize } from './pool.ts';
import { Promptness, WRITE_MS } from './promptness.ts';
import type { RightOfWay } from './right-of-way.ts';
import { SlowLane } from './slow-lane.ts';

/** From this size on a transfer is worth a thread of its own, bytes. */
const LARGE = 256 * 1024;
/** A transfer below `LARGE` that takes longer: the disk stalls, ms. */
const STALL_MS = 5;
/** One that takes less is worth the thread's wait when there is no other thread, ms. */
const QUICK_MS = 0.5;
const ZERO_PIECE = 1024 * 1024;

export type PatientFileOptions = FileDeviceOptions & {
  /** Told of each write: threads that copy to the file let it go first. */
  readonly clients?: RightOfWay | undefined;
  /** Called when a write has ended that was not over when its call returned. */
  readonly written?: (() => void) | undefined;
};

/** What the disk's answers tell, of either kind. */
export type Speeds = { readonly reads: Promptness; readonly writes: Promptness };

export class PatientFile implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly #file: FileDevice;
  readonly #reads: Promptness;
  readonly #writes: Promptness;
  readonly #lane: SlowLane;
  readonly #running = new Set<Promise<void>>();
  readonly #written: () => void;
  readonly #clients: RightOfWay | undefined;
  /** How long the last transfer below `LARGE` took, ms. */
  #lastMs = 0;

  constructor(
    path: string,
    options: PatientFileOptions,
    lane: SlowLane = sharedLane(),
    speeds: Speeds = { reads: new Promptness(), writes: new Promptness(WRITE_MS) },
  ) {
    this.#file = new FileDevice(path, options);
    this.#lane = lane;
    this.#reads = speeds.reads;
    this.#writes = speeds.writes;
    this.#written = options.written ?? (() => {});
    this.#clients = options.clients;
    this.name = path;
    this.size = this.#file.size;
    this.readOnly = options.readOnly;
  }

  get isStalling(): boolean {
    return this.#lastMs > STALL_MS;
  }

  read(into: Uint8Array, offset: number): void | Promise<void> {
    const began = performance.now();
    if (!this.#isPrompt(this.#reads, into.byteLength, began)) {
      return this.#later(into.byteLength, () => this.#file.readLater(into, offset));
    }
    this.#file.read(into, offset);
    this.#took(this.#reads, into.byteLength, began);
  }

  write(from: Uint8Array, offset: number): void | Promise<void> {
    const began = performance.now();
    if (!this.#isPrompt(this.#writes, from.byteLength, began)) {
      this.#clients?.begin();
      return this.#later(from.byteLength, () =>
        this.#file.writeLater(from, offset).finally(() => {
          this.#clients?.end();
          this.#written();
        }),
      );
    }
    this.#clients?.begin();
    try {
      this.#file.write(from, offset);
    } finally {
      this.#clients?.end();
    }
    this.#took(this.#writes, from.byteLength, began);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#file.checkZero(offset, length);
    const piece = new Uint8Array(Math.min(length, ZERO_PIECE));
    for (let done = 0; done < length; done += piece.byteLength) {
      await this.write(piece.subarray(0, Math.min(piece.byteLength, length - done)), offset + done);
    }
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  /** Waits for what its threads still do: the number of a closed descriptor is another file's soon. */
  async close(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
    await this.#file.close();
  }

  /** Whether the thread waits for it: also while others have all threads, as long as that is soon over. */
  #isPrompt(promptness: Promptness, bytes: number, now: number): boolean {
    if (bytes >= LARGE) return false;
    return promptness.isPrompt(now) || (this.#lastMs < QUICK_MS && !this.#lane.isFree(this));
  }

  #took(promptness: Promptness, bytes: number, began: number): void {
    const ended = performance.now();
    promptness.took(bytes, began, ended);
    this.#lastMs = ended - began;
    // Of a disk that stalls the thread finds out once, not for either kind of call.
    if (this.isStalling) this.#otherOf(promptness).took(bytes, began, ended);
  }

  #otherOf(promptness: Promptness): Promptness {
    return promptness === this.#reads ? this.#writes : this.#reads;
  }

  #later(bytes: number, transfer: () => Promise<void>): Promise<void> {
    const work = this.#lane.run(this, async () => {
      const began = performance.now();
      await transfer();
      if (bytes < LARGE) this.#lastMs = performance.now() - began;
    });
    this.#running.add(work);
    const ended = () => this.#running.delete(work);
    work.then(ended, ended);
    return work;
  }
}

let lane: SlowLane | undefined;

/** One for the process: its threads are for all disks, and one of them for those who sync. */
function sharedLane(): SlowLane {
  lane ??= new SlowLane(Math.max(1, poolSize() - 1));
  return lane;
}
