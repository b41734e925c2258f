/**
 * The plain twin of the wasm kernel: the same contract in JavaScript without WebAssembly. It is what
 * the wasm kernel is tested against, and what runs where SIMD does not.
 */
import { type LinearMemory, PAGE_BYTES } from './allocator.ts';
import { Facade, MEMORY_BYTES_MAX } from './facade.ts';
import type { Kernel } from './kernel.ts';
import { bitmapOperations } from './reference-bitmap.ts';
import { blockOperations } from './reference-block.ts';
import { hashOperations } from './reference-hash.ts';

const GROWTH_BYTES = 65536;

/** Memory of the twin. Growth replaces the arrays: operations read the fields anew at each call. */
export class TwinMemory implements LinearMemory {
  u8: Uint8Array;
  /** The same memory in 32-bit words. */
  i32: Int32Array;

  constructor(size: number) {
    const buffer = new ArrayBuffer(size);
    this.u8 = new Uint8Array(buffer);
    this.i32 = new Int32Array(buffer);
  }

  get size(): number {
    return this.u8.length;
  }

  /** Grows by half at least: each growth copies everything. */
  growTo(size: number): void {
    if (size <= this.size) return;
    if (size > MEMORY_BYTES_MAX) throw new RangeError(`kernel memory cannot grow to ${size} bytes`);
    const wanted = Math.max(size, this.size * 1.5);
    const rounded = Math.ceil(wanted / GROWTH_BYTES) * GROWTH_BYTES;
    const old = this.u8;
    const buffer = new ArrayBuffer(Math.min(rounded, MEMORY_BYTES_MAX));
    this.u8 = new Uint8Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u8.set(old);
    // Views of the old memory die, as those of WebAssembly do, instead of going stale unseen.
    if (old.buffer instanceof ArrayBuffer) structuredClone(old.buffer, { transfer: [old.buffer] });
  }

  bytes(address: number, length: number): Uint8Array {
    return new Uint8Array(this.u8.buffer, address, length);
  }
}

/** As `createWasmKernel`, for the twin. */
export function createReferenceKernel(options: { bytes?: number } = {}): Kernel {
  const size = Math.ceil((PAGE_BYTES + (options.bytes ?? 0)) / GROWTH_BYTES) * GROWTH_BYTES;
  const memory = new TwinMemory(Math.max(size, GROWTH_BYTES));
  return new Facade('js', memory, PAGE_BYTES, {
    ...blockOperations(memory),
    ...bitmapOperations(memory),
    ...hashOperations(memory),
  });
}
