/**
 * Who runs the pieces of a copy: this thread from the first moment on, and worker threads, each with
 * a kernel and descriptors of its own, as soon as they are up. Where threads cannot be had or the
 * devices are not files, this thread alone.
 */

import os from 'node:os';
import type { Worker } from 'node:worker_threads';
import { type ErrorCode, KageError } from '../base/errors.ts';
import { WORKERS_MAX } from '../base/limits.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Buffers, type CopyMode, markSide, type Range, runTask, type TaskResult } from './task.ts';
import threadCode from './worker.ts?bundled';

/** A volume by the file it lies on, as a worker opens it. */
export type FileSpec = { path: string; offset: number; size: number; identity: string };

export interface Crew {
  /** How many pieces can be under way at once. */
  readonly members: number;
  run(ranges: readonly Range[]): Promise<TaskResult>;
  close(): Promise<void>;
}

/** The code of a copy thread; a test may put another in its place. */
export const workerCode = { text: threadCode };

export type Order = {
  source: FileSpec;
  target: FileSpec;
  mode: CopyMode;
  regionSize: number;
  /** Whose writes to the target's file go first (`RightOfWay`). */
  clients?: Int32Array | undefined;
};
export type WorkerStart = Order & { kernel: 'wasm' | 'js' };
export type WorkerReply =
  | { result: TaskResult }
  | { code: ErrorCode | ''; message: string; data: object; side?: 'source' | 'target' };

/**
 * Runs in this thread, on open devices. `breathe`: called now and then in long work, for a thread
 * that has signals and answers of others to hear.
 */
export function inlineCrew(
  kernel: Kernel,
  source: BlockDevice,
  target: BlockDevice,
  mode: CopyMode,
  regionSize: number,
  breathe?: () => Promise<void>,
): Crew {
  const buffers = new Buffers(kernel, regionSize, mode);
  return {
    members: 1,
    run: (ranges) => runTask(buffers, source, target, ranges, mode, breathe),
    async close() {
      buffers.release();
    },
  };
}

/**
 * For images that are files, and much work: this thread and one for each further processor. Where there
 * are clients this thread is theirs.
 */
export function fileCrew(
  kernel: Kernel,
  source: BlockDevice,
  target: BlockDevice,
  order: Order,
): Crew {
  const { mode, regionSize } = order;
  // Everything else that waits in this thread has its turn.
  const breathe = () => new Promise<void>((resolve) => setImmediate(resolve));
  const own = inlineCrew(kernel, source, target, mode, regionSize, breathe);
  return threadCrew(own, order, kernel.kind, workers() - 1);
}

/** One a processor, at least two for two requests in flight. */
function workers(): number {
  let processors = 2;
  try {
    processors = os.availableParallelism();
  } catch {
    // Deno may not be allowed to say.
  }
  return Math.max(2, Math.min(WORKERS_MAX, processors));
}

/**
 * While one piece is worked on the next one is there already: a thread never waits for this one to
 * hear its answer. Not where there are clients, whom each piece keeps waiting from then on.
 */
const PIECES_PER_THREAD = 2;

/**
 * `own` and `count` threads beside it; where there are clients the threads alone. A thread that cannot
 * be started is not missed: if none can, `own` does all. One that finds another image than it was told
 * fails the next piece.
 */
export function threadCrew(own: Crew, order: Order, kernel: 'wasm' | 'js', count: number): Crew {
  type Slot = Pick<Crew, 'run'>;
  const aside = order.clients !== undefined;
  const each = aside ? 1 : PIECES_PER_THREAD;
  const free: Slot[] = [];
  const waiting: ((slot: Slot) => void)[] = [];
  const give = (slot: Slot) => {
    const next = waiting.shift();
    if (next) next(slot);
    else free.push(slot);
  };
  let failure: unknown;
  const threads = startThreads({ ...order, kernel }, count);
  let missing = 0;
  for (const thread of threads) {
    thread.ready.then(
      () => {
        for (let i = 0; i < each; i++) give(thread);
      },
      (error) => {
        if (error instanceof KageError) failure ??= error;
        if (++missing === threads.length && aside) give(own);
      },
    );
  }
  const ownToo = !aside || threads.length === 0;
  if (ownToo) give(own);
  return {
    members: (ownToo ? 1 : 0) + threads.length * each,
    async run(ranges) {
      const slot = free.pop() ?? (await new Promise<Slot>((resolve) => waiting.push(resolve)));
      try {
        if (failure !== undefined) throw failure;
        return await slot.run(ranges);
      } finally {
        give(slot);
      }
    },
    async close() {
      await Promise.all(threads.map((thread) => thread.end()));
      await own.close();
    },
  };
}

/** As many as can be had. */
function startThreads(start: WorkerStart, count: number): Thread[] {
  const threads: Thread[] = [];
  try {
    for (let i = 0; i < count; i++) threads.push(new Thread(start));
  } catch {
    // A limit of the runtime or the machine: the others do the work.
  }
  return threads;
}

class Thread {
  /** Rejects when it never will be. */
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  /** Who waits for an answer; answers come in the order of the questions. */
  readonly #asked: { resolve(result: TaskResult): void; reject(error: unknown): void }[] = [];
  /** Why the thread is no more. */
  #dead: unknown;

  constructor(start: WorkerStart) {
    // Most commands start no thread: not loaded before the first one.
    const threads = process.getBuiltinModule('node:worker_threads');
    this.#worker = new threads.Worker(workerCode.text, { eval: true, workerData: start });
    this.#worker.on('message', (reply: WorkerReply) => this.#hear(reply));
    this.#worker.on('error', (error) => this.#bury(error));
    this.#worker.on('exit', () => this.#bury(new Error('a copy thread ended by itself')));
    this.ready = this.#next().then(() => undefined);
    this.ready.catch(() => {});
  }

  async run(ranges: readonly Range[]): Promise<TaskResult> {
    if (this.#dead !== undefined) throw this.#dead;
    const answer = this.#next();
    this.#worker.postMessage(ranges);
    return await answer;
  }

  async end(): Promise<void> {
    this.#asked.length = 0;
    await this.#worker.terminate();
  }

  #next(): Promise<TaskResult> {
    return new Promise((resolve, reject) => this.#asked.push({ resolve, reject }));
  }

  #hear(reply: WorkerReply): void {
    const asked = this.#asked.shift();
    if ('result' in reply) {
      asked?.resolve(reply.result);
      return;
    }
    const error =
      reply.code === ''
        ? new Error(reply.message)
        : new KageError(reply.code, reply.message, { data: reply.data as never });
    markSide(error, reply.side);
    asked?.reject(error);
  }

  /** Nobody will answer any more. */
  #bury(error: unknown): void {
    this.#dead ??= error;
    for (const { reject } of this.#asked.splice(0)) reject(this.#dead);
  }
}
