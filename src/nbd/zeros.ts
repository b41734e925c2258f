/**
 * Finds which parts of a volume read as zeros, so that a client that copies it does not fetch them, and
 * one that wants zeros does not fill holes with them. It looks at the bytes themselves, through the
 * volume's own read: what is called zeros was read as zeros while the request was open, and nothing
 * else is called so. What was not looked at is data.
 *
 * Data costs one short read for each step, and steps grow with a run; zeros are read whole. That is
 * cheaper than to send them, most of all where the volume passes holes with direct I/O, which wants
 * the pages of a kernel's memory.
 */

import type { Kernel } from '../kernel/kernel.ts';
import type { Extent } from './export.ts';
import { ALLOCATION } from './wire.ts';

/** Zeros and data are told apart in units of this many bytes. */
const UNIT_BYTES = 64 * 1024;
/** What is read at once at most, bytes: it keeps others waiting. */
const READ_BYTES_MAX = 1024 * 1024;
/** The longest step through data, bytes: a disk that has to seek pays for each first look. */
const STEP_BYTES_MAX = 4 * 1024 * 1024;
/** What one answer covers at most, bytes. */
const ANSWER_BYTES_MAX = 32 * 1024 * 1024;
/** The first look at a step, bytes: too short for direct I/O, so what it reads stays in the cache. */
const GLANCE_BYTES = 512;
/** Reads at the same time. */
const WINDOWS = 4;

/** Reads like `NbdExport.read`. */
export type Read = (into: Uint8Array, offset: number) => void | Promise<void>;
/** Writes zeros. */
type Write = (offset: number, length: number) => void | Promise<void>;

export class ZeroFinder {
  readonly #kernel: Kernel;
  readonly #turn: () => Promise<void>;
  /** Addresses in the kernel's memory, which never grows again: views of it live while a read runs. */
  readonly #windows: number[];
  readonly #bitmap: number;

  /** The kernel belongs to the finder from now on. `turn` resolves once other work had its turn. */
  constructor(kernel: Kernel, turn: () => Promise<void>) {
    this.#kernel = kernel;
    this.#turn = turn;
    this.#windows = Array.from({ length: WINDOWS }, () => kernel.allocate(READ_BYTES_MAX));
    this.#bitmap = kernel.allocate(1);
  }

  /**
   * Extents of `base:allocation` from `offset` on, at least one, within `length` (at least 1). They end
   * behind the first run, or after 32 MiB. Rejects with what `read` fails with.
   */
  async extents(read: Read, offset: number, length: number): Promise<Extent[]> {
    const end = offset + Math.min(length, ANSWER_BYTES_MAX);
    const extents: Extent[] = [];
    let step = UNIT_BYTES;
    let at = offset;
    while (at < end && extents.length < 2) {
      if (at > offset) await this.#turn();
      for (const extent of await this.#look(read, at, Math.min(alignDown(at) + step, end))) {
        append(extents, extent);
        at += extent.length;
      }
      step = Math.min(2 * step, STEP_BYTES_MAX);
    }
    return extents;
  }

  /**
   * Makes a range read as zeros: `write` is called for the parts that do not. So a hole stays a hole,
   * and what was zeros before counts as unchanged.
   */
  async clear(read: Read, write: Write, offset: number, length: number): Promise<void> {
    const end = offset + length;
    let step = UNIT_BYTES;
    for (let at = offset; at < end; ) {
      if (at > offset) await this.#turn();
      step = Math.min(2 * step, READ_BYTES_MAX);
      for (const extent of await this.#look(read, at, Math.min(alignDown(at) + step, end))) {
        if (extent.flags === 0) {
          await write(at, extent.length);
          step = UNIT_BYTES;
        }
        at += extent.length;
      }
    }
  }

  /** Extents from `from` on; they may end before `to`. */
  async #look(read: Read, from: number, to: number): Promise<Extent[]> {
    const glance = new Uint8Array(Math.min(GLANCE_BYTES, to - from));
    await read(glance, from);
    const window = glance.every((byte) => byte === 0) ? this.#windows.pop() : undefined;
    if (window === undefined) return [{ length: to - from, flags: 0 }];
    const stop = Math.min(to, alignDown(from) + READ_BYTES_MAX);
    try {
      await read(this.#kernel.bytes(window, stop - from), from);
      return this.#sort(window, from, stop);
    } finally {
      this.#windows.push(window);
    }
  }

  /** The extents of a range that lies in a window. */
  #sort(window: number, from: number, to: number): Extent[] {
    const extents: Extent[] = [];
    for (let at = from; at < to; ) {
      const stop = Math.min(alignDown(at) + UNIT_BYTES, to);
      const some = this.#kernel.nonZero(window + at - from, stop - at, stop - at, this.#bitmap, 0);
      append(extents, { length: stop - at, flags: some > 0 ? 0 : ALLOCATION.zero });
      at = stop;
    }
    return extents;
  }
}

function alignDown(offset: number): number {
  return offset - (offset % UNIT_BYTES);
}

/** Neighbours with equal flags become one. */
function append(extents: Extent[], { length, flags }: Extent): void {
  const last = extents.at(-1);
  if (last?.flags === flags) last.length += length;
  else extents.push({ length, flags });
}
