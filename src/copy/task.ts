/**
 * What one worker does with one piece of work: reads chunks of the source (and target) into linear
 * memory, lets the kernel decide, writes from there. No byte is copied between file, kernel and
 * file. Knows nothing of maps and order: the job (`job.ts`) clears bits, this never does.
 */

import { COPY_CHUNK_SIZE } from '../base/limits.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Kernel } from '../kernel/kernel.ts';

/**
 * `write`: all of the source is written. `fresh`: the same, but regions of zeros are left out (the
 * target is known to be zero there). `compare`: both are read, regions that differ are written.
 * `diff`: both are read, nothing is written.
 */
export type CopyMode = 'write' | 'fresh' | 'compare' | 'diff';

/** Byte range of a volume; the offset is a multiple of the region size. */
export type Range = { readonly offset: number; readonly length: number };

export type TaskResult = {
  bytesRead: number;
  bytesWritten: number;
  /** Regions (absolute, of the volume) that were written or, in `diff`, differ: runs, in order. */
  regions: { first: number; count: number }[];
  regionCount: number;
};

/** Modes that read the source alone. */
const ONE_SIDED: readonly CopyMode[] = ['write', 'fresh'];

/** Windows in a kernel's memory for one worker. */
export class Buffers {
  readonly kernel: Kernel;
  readonly regionSize: number;
  /** Bytes moved at once: a multiple of the region. */
  readonly chunkSize: number;
  readonly source: number;
  /** 0 when the mode never reads the target. */
  readonly target: number;
  readonly bits: number;
  readonly #views = new Map<number, Uint8Array>();

  constructor(kernel: Kernel, regionSize: number, mode: CopyMode = 'compare') {
    const oneSided = ONE_SIDED.includes(mode);
    this.kernel = kernel;
    this.regionSize = regionSize;
    // Bytes that nothing looks at need not stay in the cache: fewer, larger calls are faster.
    this.chunkSize = Math.max(COPY_CHUNK_SIZE * (mode === 'write' ? 2 : 1), regionSize);
    this.source = kernel.allocate(this.chunkSize);
    this.target = oneSided ? 0 : kernel.allocate(this.chunkSize);
    this.bits = kernel.allocate(Math.ceil(this.chunkSize / regionSize / 8) + 8);
  }

  /** The first `length` bytes of a window; whole chunks are millions, so their view is kept. */
  view(address: number, length: number): Uint8Array {
    const kept = this.#views.get(address);
    // Growth of the memory empties every view of it.
    if (kept !== undefined && kept.byteLength === length) return kept;
    const view = this.kernel.bytes(address, length);
    if (length === this.chunkSize) this.#views.set(address, view);
    return view;
  }

  release(): void {
    this.#views.clear();
    for (const address of [this.source, this.target, this.bits]) {
      if (address !== 0) this.kernel.release(address);
    }
  }
}

/** A thread that has other duties gives way after so many chunks, about a millisecond of warm data. */
const CHUNKS_PER_BREATH = 8;

/**
 * Runs the ranges to the end. An error of a device is thrown as it is; `side` of it is set.
 * `breathe` is called now and then, and waited for.
 */
export async function runTask(
  buffers: Buffers,
  source: BlockDevice,
  target: BlockDevice,
  ranges: readonly Range[],
  mode: CopyMode,
  breathe?: () => Promise<void>,
): Promise<TaskResult> {
  const result: TaskResult = { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 };
  let chunks = 0;
  for (const range of ranges) {
    const end = range.offset + range.length;
    for (let at = range.offset; at < end; at += buffers.chunkSize) {
      const length = Math.min(buffers.chunkSize, end - at);
      await copyChunk(buffers, source, target, at, length, mode, result);
      chunks++;
      if (breathe !== undefined && chunks % CHUNKS_PER_BREATH === 0) await breathe();
    }
  }
  return result;
}

async function copyChunk(
  buffers: Buffers,
  source: BlockDevice,
  target: BlockDevice,
  offset: number,
  length: number,
  mode: CopyMode,
  result: TaskResult,
): Promise<void> {
  const { kernel, regionSize, bits } = buffers;
  const regions = Math.ceil(length / regionSize);
  // Files are done at once; waiting for nothing would cost as much as the call (chunks: millions).
  let pending = onSide('source', () => source.read(buffers.view(buffers.source, length), offset));
  if (pending !== undefined) await pending;
  result.bytesRead += length;
  let wanted = regions;
  if (mode === 'write') {
    kernel.setRange(bits, 0, regions);
  } else if (mode === 'fresh') {
    wanted = kernel.nonZero(buffers.source, length, regionSize, bits, 0);
  } else {
    pending = onSide('target', () => target.read(buffers.view(buffers.target, length), offset));
    if (pending !== undefined) await pending;
    result.bytesRead += length;
    wanted = kernel.diff(buffers.source, buffers.target, length, regionSize, bits, 0);
  }
  if (wanted === 0) return;
  let first = kernel.nextSet(bits, 0, regions);
  while (first < regions) {
    const end = kernel.nextClear(bits, first, regions);
    if (mode !== 'diff') {
      const start = first * regionSize;
      const bytes = Math.min(end * regionSize, length) - start;
      const view = kernel.bytes(buffers.source + start, bytes);
      pending = onSide('target', () => target.write(view, offset + start));
      if (pending !== undefined) await pending;
      result.bytesWritten += bytes;
    }
    addRun(result, offset / regionSize + first, end - first);
    first = kernel.nextSet(bits, end, regions);
  }
}

function addRun(result: TaskResult, first: number, count: number): void {
  const last = result.regions.at(-1);
  if (last && last.first + last.count === first) last.count += count;
  else result.regions.push({ first, count });
  result.regionCount += count;
}

const sides = new WeakMap<object, 'source' | 'target'>();

/** Which side an error of `runTask` came from, if a device threw it. */
export function sideOf(error: unknown): 'source' | 'target' | undefined {
  return typeof error === 'object' && error !== null ? sides.get(error) : undefined;
}

export function markSide(error: unknown, side: 'source' | 'target' | undefined): void {
  if (side !== undefined && typeof error === 'object' && error !== null) sides.set(error, side);
}

function onSide(
  side: 'source' | 'target',
  action: () => void | Promise<void>,
): void | Promise<void> {
  const blame = (error: unknown): never => {
    markSide(error, side);
    throw error;
  };
  try {
    return action()?.catch(blame);
  } catch (error) {
    blame(error);
  }
}
