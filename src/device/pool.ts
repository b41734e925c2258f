/**
 * Edge: the threads in which the runtime makes asynchronous file calls. Node has four unless its pool
 * is told otherwise before the first call, Bun one for each core, Deno as many as it needs. Whoever
 * runs it says how many with UV_THREADPOOL_SIZE, which Node and Bun know.
 */

import fs from 'node:fs';
import os from 'node:os';

/** Enough that a disk on its own network or bus is kept busy. */
const WANTED = 16;
const NODE_DEFAULT = 4;

let widened = false;

/**
 * Gives Node's pool as many threads as `WANTED`, unless the user has said how many. Only in a process
 * that has made no asynchronous file call: the loader of ES modules makes one.
 */
export function widenPool(): void {
  if (runtime() !== 'Node' || asked() !== undefined) return;
  process.env.UV_THREADPOOL_SIZE = String(WANTED);
  // The first call makes the pool, before it returns.
  fs.stat('/', () => {});
  // Not for the programs that this one starts.
  delete process.env.UV_THREADPOOL_SIZE;
  widened = true;
}

/** How many calls run at a time. */
export function poolSize(): number {
  if (widened || runtime() === 'Deno') return WANTED;
  const size = asked();
  if (size !== undefined) return size;
  return runtime() === 'Bun' ? os.availableParallelism() : NODE_DEFAULT;
}

function asked(): number | undefined {
  const size = Number(process.env.UV_THREADPOOL_SIZE);
  return size >= 1 && size <= 1024 ? Math.floor(size) : undefined;
}

export function runtime(): 'Node' | 'Deno' | 'Bun' {
  if ('Deno' in globalThis) return 'Deno';
  return 'Bun' in globalThis ? 'Bun' : 'Node';
}
