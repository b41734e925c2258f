/**
 * Who runs the pieces of a copy: worker threads, each with its own kernel and descriptors, or, where
 * threads cannot be had or the devices are not files, the calling thread.
 */

import { existsSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, KageError } from '../base/errors.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Buffers, type CopyMode, markSide, type Range, runTask, type TaskResult } from './task.ts';

/** A volume by the file it lies on, as a worker opens it. */
export type FileSpec = { path: string; offset: number; size: number; identity: string };

export interface Crew {
  /** How many pieces can be under way at once. */
  readonly members: number;
  run(ranges: readonly Range[]): Promise<TaskResult>;
  close(): Promise<void>;
}

/** Where the worker's code is: the bundle sets it to its own address. */
export const workerCode: { url: URL | undefined } = { url: undefined };

export type Order = { source: FileSpec; target: FileSpec; mode: CopyMode; regionSize: number };
export type WorkerStart = Order & { role: 'kage-copy'; kernel: 'wasm' | 'js' };
export type WorkerReply =
  | { result: TaskResult }
  | { code: ErrorCode | ''; message: string; data: object; side?: 'source' | 'target' };

/** Runs in this thread, on open devices. */
export function inlineCrew(
  kernel: Kernel,
  source: BlockDevice,
  target: BlockDevice,
  mode: CopyMode,
  regionSize: number,
): Crew {
  const buffers = new Buffers(kernel, regionSize);
  return {
    members: 1,
    run: (ranges) => runTask(buffers, source, target, ranges, mode),
    async close() {
      buffers.release();
    },
  };
}

/** Runs in `members` threads; undefined where no thread can be started. */
export async function threadCrew(
  order: Order,
  kernel: 'wasm' | 'js',
  members: number,
): Promise<Crew | undefined> {
  const { url } = workerCode;
  if (url === undefined || !readable(url)) return undefined;
  const start: WorkerStart = { ...order, role: 'kage-copy', kernel };
  const threads: Thread[] = [];
  try {
    for (let i = 0; i < members; i++) threads.push(new Thread(url, start));
    await Promise.all(threads.map((thread) => thread.ready));
  } catch (error) {
    await Promise.all(threads.map((thread) => thread.end()));
    if (error instanceof KageError) throw error;
    return undefined;
  }
  const idle = [...threads];
  const waiting: ((thread: Thread) => void)[] = [];
  return {
    members,
    async run(ranges) {
      const thread = idle.pop() ?? (await new Promise<Thread>((r) => waiting.push(r)));
      try {
        return await thread.run(ranges);
      } finally {
        const next = waiting.shift();
        if (next) next(thread);
        else idle.push(thread);
      }
    },
    async close() {
      await Promise.all(threads.map((thread) => thread.end()));
    },
  };
}

/** Deno asks for a permission to read the code of a thread; without it this thread has to do. */
function readable(url: URL): boolean {
  try {
    return existsSync(url);
  } catch {
    return false;
  }
}

class Thread {
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  #answer: ((reply: WorkerReply) => void) | undefined;
  #fail: ((error: unknown) => void) | undefined;

  constructor(url: URL, start: WorkerStart) {
    this.#worker = new Worker(url, { workerData: start });
    this.#worker.on('message', (reply: WorkerReply) => this.#answer?.(reply));
    this.#worker.on('error', (error) => this.#fail?.(error));
    this.ready = this.#next().then(() => undefined);
  }

  async run(ranges: readonly Range[]): Promise<TaskResult> {
    const answer = this.#next();
    this.#worker.postMessage(ranges);
    return await answer;
  }

  async end(): Promise<void> {
    this.#fail = undefined;
    await this.#worker.terminate();
  }

  #next(): Promise<TaskResult> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#answer = (reply) => {
        if ('result' in reply) return resolve(reply.result);
        const error =
          reply.code === ''
            ? new Error(reply.message)
            : new KageError(reply.code, reply.message, { data: reply.data as never });
        markSide(error, reply.side);
        reject(error);
      };
    });
  }
}
