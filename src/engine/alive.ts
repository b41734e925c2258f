/**
 * How a session that serves clients tells its own last writes from those of others after a crash: while
 * it writes, it notes the time in a file, without a sync, at least every `BEAT_MS`. What an image's times
 * show to be written no later than that was written while the session lived, when nobody could tell
 * strangers' writes from its own anyway; what is later is a stranger's. The note is in the page cache: it
 * says nothing after another boot.
 *
 * Content: epoch of the lock and milliseconds since 1970, two decimal numbers, padded to `BYTES`.
 */

import type { BlockDevice } from '../device/device.ts';
import type { Folder, Host } from '../device/host.ts';
import { type Stamp, TICK_MS } from '../device/stamp.ts';

const NAME = 'alive';
const BYTES = 64;
/** A write begins at most so long after the last note. */
const BEAT_MS = 100;
/** What a file's time may be late by: a note, two ticks of the kernel's clock, a slow system call. */
const LATE_MS = BEAT_MS + 2 * TICK_MS + 60;

export class Alive {
  readonly #device: BlockDevice;
  readonly #host: Host;
  readonly #epoch: number;
  #last = 0;

  private constructor(device: BlockDevice, host: Host, epoch: number) {
    this.#device = device;
    this.#host = host;
    this.#epoch = epoch;
  }

  static async create(folder: Folder, host: Host, epoch: number): Promise<Alive> {
    return new Alive(await folder.open(NAME, { create: BYTES }), host, epoch);
  }

  /** Before every write, and now and then while copies run. */
  beat(): void {
    const now = this.#host.now();
    if (now - this.#last < BEAT_MS && now >= this.#last) return;
    this.#last = now;
    const text = `${this.#epoch} ${now}`.padEnd(BYTES);
    try {
      // On a file it is done when this returns, and so before the write that it announces.
      Promise.resolve(this.#device.write(new TextEncoder().encode(text), 0)).catch(() => {});
    } catch {
      // A note that cannot be written is a note too few: less will be believed.
    }
  }

  async close(folder: Folder): Promise<void> {
    await this.#device.close();
    await folder.remove(NAME);
  }
}

/** The last note of the session that had the class open with this epoch, or null. */
export async function lastAlive(folder: Folder, epoch: number): Promise<number | null> {
  const bytes = await folder.read(NAME).catch(() => undefined);
  const found = /^(\d+) (\d+) *$/.exec(new TextDecoder().decode(bytes));
  return found !== null && Number(found[1]) === epoch ? Number(found[2]) : null;
}

/** Whether the newest time of a file lies within the life that ended with this note. */
export function writtenInLife(stamp: Stamp, alive: number): boolean {
  if (stamp.kind !== 'file' || stamp.unreliable !== null) return false;
  const newest = Math.max(endOf(stamp.mtime), endOf(stamp.ctime));
  return newest <= alive + LATE_MS;
}

/** ms since 1970 by which a time had passed, whatever its precision: whole seconds, ms or ns. */
function endOf(nanoseconds: string): number {
  const time = BigInt(nanoseconds);
  const unit = time % 1_000_000_000n === 0n ? 1_000_000_000n : 1_000_000n;
  return Number(time / 1_000_000n + unit / 1_000_000n);
}
