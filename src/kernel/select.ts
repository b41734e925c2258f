/** Chooses a kernel: WebAssembly where it runs, the plain twin elsewhere or when asked for. */
import type { Kernel } from './kernel.ts';
import { createReferenceKernel } from './reference.ts';
import { canRunWasm, createWasmKernel } from './wasm.ts';

/**
 * Without a kind: wasm, or the twin where wasm with SIMD cannot run. With a kind: that one or an
 * error, since whoever forces a kernel wants to know that it ran. `bytes`: as for `createWasmKernel`.
 */
export function createKernel(kind?: Kernel['kind'], options?: { bytes?: number }): Kernel {
  if (kind === 'wasm') return createWasmKernel(options);
  if (kind === 'js' || !canRunWasm()) return createReferenceKernel(options);
  try {
    return createWasmKernel(options);
  } catch (error) {
    // Engines reserve gigabytes of address space for any wasm memory, which a limit (`ulimit -v`)
    // may forbid; the twin takes only what it uses.
    if (error instanceof RangeError) return createReferenceKernel(options);
    throw error;
  }
}
