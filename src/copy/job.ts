/**
 * One copy from begin to end: hands the regions of `pending` to a crew, and clears their bits
 * durably in the order that COPY_STEPS names: written, source synced, target synced, then cleared.
 * Stops at a piece's end when asked; what is not cleared stays pending. First error wins.
 *
 * Without `clear` (the tools that keep no map) the same loop only syncs at its end.
 */

import { KageError } from '../base/errors.ts';
import { reach } from '../base/faults.ts';
import { CHUNK_SIZE, COPY_CHUNK_SIZE, HEARTBEAT_MS, TASK_SIZE } from '../base/limits.ts';
import type { RegionMap, Run } from '../bitmap/region-map.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Crew } from './crew.ts';
import { Pace } from './pace.ts';
import { bytesOf, type Piece, pieces } from './plan.ts';
import type { Range, TaskResult } from './task.ts';

export type JobProgress = {
  doneBytes: number;
  totalBytes: number;
  bytesRead: number;
  bytesWritten: number;
  seconds: number;
  rateBytesPerSec: number;
  secondsLeft: number | null;
  finished: boolean;
};

/** Between the copier and clients who use the volumes meanwhile. */
export interface CopyGuard {
  /**
   * Waits until nobody uses the piece and keeps it so until `leave`. `ranges`: what of it still has to be
   * copied.
   */
  enter(piece: Piece): Promise<{ ranges: readonly Range[]; leave(copied: boolean): void }>;
  /** Called before both sides are synced. The answer clears durably what was copied before. */
  batch(): () => Promise<void>;
}

export type JobOptions = {
  readonly crew: Crew;
  readonly guard?: CopyGuard;
  /** Bytes that a piece keeps from clients at most, when there is a guard. */
  readonly pieceSize?: number;
  readonly source: BlockDevice;
  readonly target: BlockDevice;
  /** Regions to do; read while the job runs, changed only by `clear`. */
  readonly pending: RegionMap;
  readonly regionSize: number;
  /** Bytes of the volume. */
  readonly size: number;
  /** Clears runs in the map and saves it. */
  readonly clear?: (runs: readonly Run[]) => Promise<void>;
  /** Nothing is written, so nothing is synced. */
  readonly readOnly?: boolean;
  /** Told of the regions that a piece wrote, or found to differ. */
  readonly onRegions?: (runs: readonly Run[]) => void;
  readonly onProgress?: (progress: JobProgress) => void;
  readonly signal?: AbortSignal;
  readonly rateBytesPerSec?: number;
  readonly delayMs?: number;
  readonly now: () => number;
  readonly sleep: (ms: number) => Promise<void>;
};

export type JobResult = {
  regions: number;
  regionsWritten: number;
  bytesRead: number;
  bytesWritten: number;
  seconds: number;
  /** False when the signal stopped it. */
  complete: boolean;
};

const PROGRESS_MS = 500;
/** What a piece may keep clients from, bytes, when it is put together from regions here and there. */
const LIVE_SPAN = 4 * CHUNK_SIZE;
const NOTHING: TaskResult = { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 };
/** What each member of a crew gets at least, if there is enough work. */
const PIECES_EACH = 32;
const BREATH_MS = 100;

export async function runJob(options: JobOptions): Promise<JobResult> {
  return await new Job(options).run();
}

class Job {
  readonly #o: JobOptions;
  readonly #begin: number;
  readonly #total: number;
  readonly #pace: Pace;
  readonly #result: JobResult;
  /** Written since the last sync. */
  #unsynced: Run[] = [];
  #doneBytes = 0;
  #lastSync: number;
  #lastProgress = 0;
  #lastBreath = 0;
  #error: unknown;
  /** Rule 9: what was written around a failed sync may be lost, so nothing is cleared any more. */
  #syncFailed = false;

  constructor(options: JobOptions) {
    this.#o = options;
    this.#begin = options.now();
    this.#lastSync = this.#begin;
    this.#total = bytesOf(options.pending, options.regionSize, options.size);
    this.#pace = new Pace(options);
    this.#result = {
      regions: options.pending.count(),
      regionsWritten: 0,
      bytesRead: 0,
      bytesWritten: 0,
      seconds: 0,
      complete: false,
    };
  }

  async run(): Promise<JobResult> {
    const { crew, signal, delayMs } = this.#o;
    const atOnce = delayMs ? 1 : crew.members;
    const { pending, regionSize, size, guard } = this.#o;
    const span = guard ? LIVE_SPAN : undefined;
    const queue = pieces(pending, regionSize, size, this.#pieceSize(), span);
    const member = async () => {
      for (;;) {
        if (this.#error !== undefined || signal?.aborted) return;
        await this.#settleIfDue();
        await this.#pace.wait();
        if (this.#error !== undefined || signal?.aborted) return;
        const next = queue.next();
        if (next.done) return;
        await this.#one(next.value);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, member));
    await this.#finish();
    this.#result.complete = this.#error === undefined && !signal?.aborted;
    if (this.#error !== undefined) throw this.#error;
    if (!this.#result.complete) this.#result.complete = this.#doneBytes === this.#total;
    return this.#result;
  }

  async #one(piece: Piece): Promise<void> {
    try {
      const { guard, crew } = this.#o;
      const result = guard ? await this.#guarded(guard, piece) : await crew.run(piece.ranges);
      this.#count(piece, result);
      await this.#breathe();
      await this.#pace.done(piece.length);
    } catch (error) {
      this.#error ??= error;
    }
  }

  async #guarded(guard: CopyGuard, piece: Piece): Promise<TaskResult> {
    const { ranges, leave } = await guard.enter(piece);
    let copied = false;
    try {
      const result = ranges.length === 0 ? NOTHING : await this.#o.crew.run(ranges);
      copied = true;
      return result;
    } finally {
      leave(copied);
    }
  }

  /** Work in this thread never gives way by itself: a signal or a timer would not be heard. */
  async #breathe(): Promise<void> {
    if (this.#o.now() - this.#lastBreath < BREATH_MS) return;
    await this.#o.sleep(0);
    this.#lastBreath = this.#o.now();
  }

  #count(piece: Piece, task: TaskResult): void {
    const { regionSize } = this.#o;
    for (const { offset, length } of piece.ranges) {
      this.#unsynced.push({ first: offset / regionSize, count: Math.ceil(length / regionSize) });
    }
    this.#doneBytes += piece.length;
    this.#result.bytesRead += task.bytesRead;
    this.#result.bytesWritten += task.bytesWritten;
    this.#result.regionsWritten += task.regionCount;
    if (task.regions.length > 0) this.#o.onRegions?.(task.regions);
    this.#progress(false);
  }

  /** What is done so far is made durable, also after an error: nothing done is lost. */
  async #finish(): Promise<void> {
    try {
      await this.#settle();
    } catch (error) {
      this.#error ??= error;
    }
    this.#result.seconds = (this.#o.now() - this.#begin) / 1000;
    this.#progress(true);
  }

  async #settleIfDue(): Promise<void> {
    if (this.#o.now() - this.#lastSync < HEARTBEAT_MS) return;
    this.#lastSync = this.#o.now();
    try {
      await this.#settle();
    } catch (error) {
      this.#error ??= error;
    }
  }

  /** Rule 2: the bytes of these regions were read before both syncs begin. */
  async #settle(): Promise<void> {
    if (this.#o.readOnly || this.#syncFailed) return;
    const batch = this.#unsynced;
    if (batch.length === 0) return;
    this.#unsynced = [];
    const { guard } = this.#o;
    if (this.#o.clear === undefined && guard === undefined) {
      await this.#sync(this.#o.target);
      return;
    }
    const clear = guard?.batch() ?? (() => this.#o.clear!(batch));
    reach('copy:written');
    await this.#sync(this.#o.source);
    reach('copy:source-synced');
    await this.#sync(this.#o.target);
    if (this.#syncFailed) return; // Another member's sync failed meanwhile.
    reach('copy:target-synced');
    await clear();
    reach('copy:cleared');
  }

  async #sync(device: BlockDevice): Promise<void> {
    try {
      await device.flush();
    } catch (error) {
      this.#syncFailed = true;
      throw error;
    }
  }

  #pieceSize(): number {
    const { delayMs, rateBytesPerSec } = this.#o;
    if (this.#o.guard) return this.#o.pieceSize ?? CHUNK_SIZE;
    if (delayMs) return CHUNK_SIZE;
    if (rateBytesPerSec) return Math.min(TASK_SIZE, Math.max(1, rateBytesPerSec / 8));
    // Small work is still spread over the crew, and nobody waits long for the last one.
    const share = this.#total / this.#o.crew.members / PIECES_EACH;
    return Math.min(TASK_SIZE, Math.max(COPY_CHUNK_SIZE, share));
  }

  #progress(finished: boolean): void {
    const now = this.#o.now();
    if (!this.#o.onProgress || (!finished && now - this.#lastProgress < PROGRESS_MS)) return;
    this.#lastProgress = now;
    const seconds = (now - this.#begin) / 1000;
    const rate = seconds > 0 ? this.#doneBytes / seconds : 0;
    this.#o.onProgress({
      doneBytes: this.#doneBytes,
      totalBytes: this.#total,
      bytesRead: this.#result.bytesRead,
      bytesWritten: this.#result.bytesWritten,
      seconds,
      rateBytesPerSec: rate,
      secondsLeft: rate > 0 ? (this.#total - this.#doneBytes) / rate : null,
      finished,
    });
  }
}

/** The error of a job that was stopped, for callers that want to throw it. */
export function interrupted(what: string): KageError {
  return new KageError('interrupted', `${what}: stopped at a safe point`, {
    hint: 'run the same command again to continue',
  });
}
