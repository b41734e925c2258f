/**
 * The kernel against the speed of light (native calls over the same memory) and against what one
 * would write without it. Not measured: small windows, odd addresses, calls a second.
 *
 * Hot chunks are what copies feed the kernel: 1 MiB just read, still in the cache.
 */
import { Buffer } from 'node:buffer';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { createReferenceKernel } from '../../src/kernel/reference.ts';
import { createWasmKernel } from '../../src/kernel/wasm.ts';
import {
  type Bench,
  fillNoise,
  type Line,
  measure,
  type Options,
  type Parameter,
  pick,
  type Row,
} from '../harness.ts';
import * as loops from './loops.ts';

const MIB = 2 ** 20;
const REGION_SIZE = 65536;
/** Of a window for a bitmap, or a hash state. */
const BITMAP_BYTES = 4096;

const HOT_LENGTH: Parameter<number> = { smoke: 131072, real: MIB };
const LARGE_LENGTH: Parameter<number> = { smoke: 262144, real: 64 * MIB };
/** Of the regions of the long window, how many differ in the sparse `diffCopy`. */
const SPARSE_PERCENT: Parameter<number> = { smoke: 25, real: 1 };

/** Windows of equal length in one kernel, with the views a native call or a loop wants. */
class Windows {
  readonly kernel: Kernel;
  readonly length: number;
  readonly addresses: number[];
  readonly bitmap: number;

  constructor(kernel: Kernel, length: number, count: number) {
    this.kernel = kernel;
    this.length = length;
    this.bitmap = kernel.allocate(BITMAP_BYTES);
    this.addresses = Array.from({ length: count }, () => kernel.allocate(length));
  }

  view(index: number): Buffer {
    const { buffer, byteOffset } = this.kernel.bytes(this.addresses[index], this.length);
    return Buffer.from(buffer as ArrayBuffer, byteOffset, this.length);
  }

  set(contents: Uint8Array[]): void {
    contents.forEach((content, i) => {
      this.view(i).set(content);
    });
  }

  release(): void {
    for (const address of [this.bitmap, ...this.addresses]) this.kernel.release(address);
  }
}

/** Plain copies of the contents for the loops, in the views they use. */
function plain(contents: Uint8Array[]) {
  const copies = contents.map((content) => content.slice());
  return {
    u8: copies,
    i32: copies.map(({ buffer }) => new Int32Array(buffer)),
    i64: copies.map(({ buffer }) => new BigInt64Array(buffer)),
  };
}

/** A line whose result is what `work` returns. */
function line(row: string, work: () => number): Line {
  let result = 0;
  return {
    row,
    run: () => {
      result = work();
    },
    checksum: () => result,
  };
}

function noise(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  fillNoise(bytes, seed);
  return bytes;
}

/** Runs `lines` with the windows of both kernels filled; the windows are released afterwards. */
function withWindows(
  kernels: Kernel[],
  contents: Uint8Array[],
  lines: (wasm: Windows, twin: Windows) => Row[],
): Row[] {
  const windows = kernels.map((kernel) => new Windows(kernel, contents[0].length, contents.length));
  for (const each of windows) each.set(contents);
  const rows = lines(windows[0], windows[1]);
  for (const each of windows) each.release();
  return rows;
}

function diffRows(name: string, kernels: Kernel[], length: number, options: Options): Row[] {
  const contents = [noise(length, 1), noise(length, 1)];
  const { u8, i32, i64 } = plain(contents);
  return withWindows(kernels, contents, (wasm, twin) => {
    const [a, b] = [wasm.view(0), wasm.view(1)];
    const kernelLine = (row: string, { kernel, addresses, bitmap }: Windows): Line =>
      line(row, () => kernel.diff(addresses[0], addresses[1], length, REGION_SIZE, bitmap, 0));
    const bench: Bench = {
      bench: name,
      bytes: length,
      params: { length, regionSize: REGION_SIZE },
      lines: [
        line('native', () => Buffer.compare(a, b)),
        kernelLine('wasm', wasm),
        kernelLine('twin', twin),
        line('Int32Array', () => loops.diffWords(i32[0], i32[1], REGION_SIZE / 4)),
        line('BigInt64Array', () => loops.diffBigWords(i64[0], i64[1], REGION_SIZE / 8)),
        line('bytes', () => loops.diffBytes(u8[0], u8[1], REGION_SIZE)),
      ],
    };
    return measure(bench, options);
  });
}

/**
 * Two sources that differ from each other in the wanted regions are copied in turn to one target, so
 * that each run finds as much to copy as the one before. Each line has a target of its own. Native:
 * the calls one has without a kernel, compare and set region by region; for 100 % one `set` of all.
 */
function diffCopyRows(
  name: string,
  kernels: Kernel[],
  length: number,
  percent: number,
  options: Options,
): Row[] {
  const first = noise(length, 1);
  const second = percent === 100 ? noise(length, 2) : first.slice();
  const regions = length / REGION_SIZE;
  const differing = Math.max(1, Math.round((regions * percent) / 100));
  for (let i = 0; i < differing; i++) {
    const region = Math.floor((i * regions) / differing);
    second[region * REGION_SIZE + ((i * 9973) % REGION_SIZE)] ^= 1;
  }
  const contents = [first, second, second];
  const { u8, i32, i64 } = plain(contents);
  const ownWords = new Int32Array(second.slice().buffer);
  const ownBigWords = new BigInt64Array(second.slice().buffer);
  const alternate = (row: string, work: (source: number) => number): Line => {
    let source = 1;
    return line(row, () => {
      source = 1 - source;
      return work(source);
    });
  };
  return withWindows(kernels, contents, (wasm, twin) => {
    const views = [wasm.view(0), wasm.view(1)];
    const target = Buffer.from(second.slice().buffer);
    const native = (source: number): number => {
      if (percent === 100) {
        target.set(views[source]);
        return regions;
      }
      let count = 0;
      for (let at = 0; at < length; at += REGION_SIZE) {
        const part = views[source].subarray(at, at + REGION_SIZE);
        if (Buffer.compare(part, target.subarray(at, at + REGION_SIZE)) === 0) continue;
        target.set(part, at);
        count++;
      }
      return count;
    };
    const kernelLine = (row: string, { kernel, addresses, bitmap }: Windows): Line =>
      alternate(row, (source) =>
        kernel.diffCopy(addresses[source], addresses[2], length, REGION_SIZE, bitmap, 0),
      );
    const bench: Bench = {
      bench: name,
      bytes: length,
      params: { length, regionSize: REGION_SIZE, percent },
      lines: [
        alternate('native', native),
        kernelLine('wasm', wasm),
        kernelLine('twin', twin),
        alternate('Int32Array', (s) => loops.diffCopyWords(i32[s], ownWords, REGION_SIZE / 4)),
        alternate('BigInt64Array', (s) =>
          loops.diffCopyBigWords(i64[s], ownBigWords, REGION_SIZE / 8),
        ),
        alternate('bytes', (s) => loops.diffCopyBytes(u8[s], u8[2], REGION_SIZE)),
      ],
    };
    return measure(bench, options);
  });
}

/** Native: compare with a window of zeros, which reads twice as much. */
function nonZeroRows(name: string, kernels: Kernel[], length: number, options: Options): Row[] {
  const contents = [new Uint8Array(length)];
  const { u8, i32, i64 } = plain(contents);
  const zeros = Buffer.alloc(length);
  return withWindows(kernels, contents, (wasm, twin) => {
    const view = wasm.view(0);
    const kernelLine = (row: string, { kernel, addresses, bitmap }: Windows): Line =>
      line(row, () => kernel.nonZero(addresses[0], length, REGION_SIZE, bitmap, 0));
    const bench: Bench = {
      bench: name,
      bytes: length,
      params: { length, regionSize: REGION_SIZE },
      lines: [
        line('native', () => Buffer.compare(view, zeros)),
        kernelLine('wasm', wasm),
        kernelLine('twin', twin),
        line('Int32Array', () => loops.nonZeroWords(i32[0], REGION_SIZE / 4)),
        line('BigInt64Array', () => loops.nonZeroBigWords(i64[0], REGION_SIZE / 8)),
        line('bytes', () => loops.nonZeroBytes(u8[0], REGION_SIZE)),
      ],
    };
    return measure(bench, options);
  });
}

function countRows(name: string, kernels: Kernel[], length: number, options: Options): Row[] {
  const contents = [noise(length, 1)];
  const { u8, i32 } = plain(contents);
  return withWindows(kernels, contents, (wasm, twin) => {
    const kernelLine = (row: string, { kernel, addresses }: Windows): Line =>
      line(row, () => kernel.count(addresses[0], 0, length * 8));
    const bench: Bench = {
      bench: name,
      bytes: length,
      params: { length },
      lines: [
        kernelLine('wasm', wasm),
        kernelLine('twin', twin),
        line('Int32Array', () => loops.countWords(i32[0])),
        line('bytes', () => loops.countBytes(u8[0])),
      ],
    };
    return measure(bench, options);
  });
}

/** The checksum is the number of set bits in the target. */
function orRows(name: string, kernels: Kernel[], length: number, options: Options): Row[] {
  const contents = [noise(length, 1), noise(length, 2)];
  const { u8, i32 } = plain(contents);
  const bigTarget = new BigInt64Array(contents[0].slice().buffer);
  const bigSource = new BigInt64Array(contents[1].buffer);
  const byteTarget = contents[0].slice();
  return withWindows(kernels, contents, (wasm, twin) => {
    const kernelLine = (row: string, { kernel, addresses }: Windows): Line => ({
      row,
      run: () => kernel.or(addresses[0], addresses[1], length),
      checksum: () => kernel.count(addresses[0], 0, length * 8),
    });
    const bench: Bench = {
      bench: name,
      bytes: length,
      params: { length },
      lines: [
        kernelLine('wasm', wasm),
        kernelLine('twin', twin),
        {
          row: 'Int32Array',
          run: () => loops.orWords(i32[0], i32[1]),
          checksum: () => loops.countWords(i32[0]),
        },
        {
          row: 'BigInt64Array',
          run: () => loops.orBigWords(bigTarget, bigSource),
          checksum: () => loops.countBytes(new Uint8Array(bigTarget.buffer)),
        },
        {
          row: 'bytes',
          run: () => loops.orBytes(byteTarget, u8[1]),
          checksum: () => loops.countBytes(byteTarget),
        },
      ],
    };
    return measure(bench, options);
  });
}

function hashRows(name: string, kernels: Kernel[], length: number, options: Options): Row[] {
  const contents = [noise(length, 1)];
  return withWindows(kernels, contents, (wasm, twin) => {
    const kernelLine = (row: string, { kernel, addresses, bitmap: state }: Windows): Line => ({
      row,
      run: () => {
        kernel.hashReset(state);
        kernel.hashUpdate(state, addresses[0], length);
      },
      checksum: () => kernel.hashDigest(state),
    });
    const bench: Bench = {
      bench: name,
      bytes: length,
      params: { length },
      lines: [kernelLine('wasm', wasm), kernelLine('twin', twin)],
    };
    return measure(bench, options);
  });
}

export async function run(options: Options): Promise<Row[]> {
  const hot = pick(HOT_LENGTH, options);
  const large = pick(LARGE_LENGTH, options);
  const bytes = 3 * large + MIB;
  const kernels = [createWasmKernel({ bytes }), createReferenceKernel({ bytes })];
  const sparse = pick(SPARSE_PERCENT, options);
  return [
    ...diffRows('kernel/diff-hot', kernels, hot, options),
    ...diffRows('kernel/diff-large', kernels, large, options),
    ...diffCopyRows('kernel/diff-copy-sparse', kernels, large, sparse, options),
    ...diffCopyRows('kernel/diff-copy-all', kernels, large, 100, options),
    ...diffCopyRows('kernel/diff-copy-all-hot', kernels, hot, 100, options),
    ...nonZeroRows('kernel/non-zero-hot', kernels, hot, options),
    ...nonZeroRows('kernel/non-zero-large', kernels, large, options),
    ...countRows('kernel/count', kernels, hot, options),
    ...orRows('kernel/or', kernels, hot, options),
    ...hashRows('kernel/hash', kernels, hot, options),
  ];
}
