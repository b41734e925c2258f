/**
 * The kernel in WebAssembly with SIMD, its module embedded by the bundler. The only file that knows
 * the loader and touches `memory.buffer`: views are made anew at each call, since growth kills them.
 *
 * Addresses cross as plain numbers: WebAssembly takes them modulo 2^32, so 2 GiB and more are fine.
 */
import { instantiateSync } from '@assemblyscript/loader';
import module from '../../build/kernel.wasm';
import type { LinearMemory } from './allocator.ts';
import { Facade, MEMORY_BYTES_MAX, type Operations } from './facade.ts';
import type { Kernel } from './kernel.ts';

const WASM_PAGE_BYTES = 65536;

interface Exports extends Omit<Operations, 'hashDigest'> {
  arenaStart(): number;
  hashDigest(state: number): bigint;
}

class WasmMemory implements LinearMemory {
  readonly #memory: WebAssembly.Memory;
  /** Kept as a number: each check of an argument asks for it, and the buffer is slow to get at. */
  #size: number;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.#size = memory.buffer.byteLength;
  }

  get size(): number {
    return this.#size;
  }

  growTo(size: number): void {
    const pages = Math.ceil((size - this.#size) / WASM_PAGE_BYTES);
    if (pages <= 0) return;
    this.#memory.grow(pages);
    this.#size = this.#memory.buffer.byteLength;
  }

  bytes(address: number, length: number): Uint8Array {
    return new Uint8Array(this.#memory.buffer, address, length);
  }
}

/** Whether this runtime and machine can run the module: WebAssembly, and SIMD in it. */
export function canRunWasm(): boolean {
  return typeof WebAssembly === 'object' && WebAssembly.validate(module);
}

/**
 * A kernel with a memory of its own. `bytes`: how much to reserve for windows at the start (it costs
 * address space only); the memory grows beyond it up to 4 GiB less 64 KiB. Throws a `RangeError`
 * when that cannot be had, a `CompileError` where `canRunWasm` is false.
 */
export function createWasmKernel(options: { bytes?: number } = {}): Kernel {
  const memory = new WebAssembly.Memory({
    initial: 1,
    maximum: MEMORY_BYTES_MAX / WASM_PAGE_BYTES,
  });
  // The loader wraps each export to carry optional arguments; ours have none: take them bare.
  const { instance } = instantiateSync(module, { env: { memory } });
  const kernel = instance.exports as unknown as Exports;
  const start = kernel.arenaStart();
  const linear = new WasmMemory(memory);
  linear.growTo(start + (options.bytes ?? 0));
  const hashDigest = (state: number): string =>
    BigInt.asUintN(64, kernel.hashDigest(state)).toString(16).padStart(16, '0');
  return new Facade('wasm', linear, start, { ...kernel, hashDigest });
}
