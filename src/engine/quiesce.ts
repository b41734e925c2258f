/**
 * A service that stands still around the instant of a verb: one freeze when all that is slow is done,
 * and for it one thaw, whatever happens. Once the time has run out there is no instant any more: by then
 * the service may be at work again.
 */

import { assert } from '../base/assert.ts';
import { KageError } from '../base/errors.ts';
import { QUIESCE_MS_MAX, QUIESCE_SLACK_MS } from '../base/limits.ts';
import { formatSeconds } from '../base/units.ts';
import type { Host } from '../device/host.ts';
import type { Quiesce } from './api.ts';

export class Stillness {
  /** The verb and its objects, for messages. */
  readonly #what: string;
  readonly #quiesce: Quiesce;
  readonly #host: Host;
  readonly #user: AbortSignal | undefined;
  readonly #given = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #since: number | undefined;
  #frozen = false;
  #expired = false;
  #thawing: Promise<KageError | undefined> | undefined;

  constructor(what: string, quiesce: Quiesce, host: Host, signal?: AbortSignal) {
    const { limitMs } = quiesce;
    if (!(limitMs > 0 && limitMs <= QUIESCE_MS_MAX)) {
      throw new KageError('usage', `${what}: the time limit of a freeze is ${limitMs} ms`, {
        hint: `it must be more than 0 and at most ${QUIESCE_MS_MAX} ms`,
      });
    }
    this.#what = what;
    this.#quiesce = quiesce;
    this.#host = host;
    this.#user = signal;
    signal?.addEventListener('abort', this.#giveUp);
    if (signal?.aborted) this.#giveUp();
  }

  /** Aborted when there will be no instant: for what is done while the service stands still. */
  get signal(): AbortSignal {
    return this.#given.signal;
  }

  /** Throws what `freeze` throws, and when the instant cannot come any more. */
  async freeze(): Promise<void> {
    assert(this.#since === undefined, 'frozen twice');
    this.requireTime();
    const { limitMs } = this.#quiesce;
    this.#since = this.#host.now();
    this.#timer = setTimeout(() => this.#expire(), limitMs);
    // Whoever freezes knows the limit and can tell more; but a client may be there no more.
    await within(
      limitMs + QUIESCE_SLACK_MS,
      () => this.#quiesce.freeze(),
      () => this.#tooLate(),
    );
    this.#frozen = true;
    this.requireTime();
  }

  /** Throws unless the switch may come now. */
  requireTime(): void {
    if (this.#user?.aborted) {
      throw new KageError('interrupted', `${this.#what}: stopped before the instant`, {
        hint: 'nothing has changed; run the same command again',
      });
    }
    if (this.#since === undefined) return;
    // Timers are late when the process itself was stopped.
    const late = this.#host.now() - this.#since >= this.#quiesce.limitMs;
    if (this.#expired || late) throw this.#tooLate();
  }

  /** Begins to thaw what was frozen, once. */
  thaw(): void {
    if (this.#since === undefined) return;
    this.#thawing ??= this.#thaw();
  }

  /** The end of the verb: what it throws or gives, when the service is at work again. */
  async around<T>(verb: Promise<T>): Promise<T> {
    const ended = await verb.then(
      (result) => ({ result }),
      (error: unknown) => ({ error: this.#explained(error) }),
    );
    this.thaw();
    const problem = await this.#thawing;
    this.#user?.removeEventListener('abort', this.#giveUp);
    if ('error' in ended) throw problem === undefined ? ended.error : both(ended.error, problem);
    if (problem === undefined) return ended.result;
    throw new KageError('partly', `${this.#what}: done, but the thaw failed: ${problem.message}`, {
      hint: 'the snapshot is good; the service may be frozen still: thaw it by hand',
      cause: problem,
    });
  }

  async #thaw(): Promise<KageError | undefined> {
    clearTimeout(this.#timer);
    try {
      await within(
        this.#quiesce.limitMs + QUIESCE_SLACK_MS,
        () => this.#quiesce.thaw(),
        () => new KageError('failed', 'it does not end'),
      );
      return undefined;
    } catch (error) {
      if (error instanceof KageError) return error;
      return new KageError('failed', error instanceof Error ? error.message : String(error));
    }
  }

  readonly #giveUp = () => this.#given.abort();

  #expire(): void {
    this.#expired = true;
    this.#giveUp();
    // The engine may be stuck on a disk; a freeze that goes on is left to who freezes.
    if (this.#frozen) this.thaw();
  }

  /** A copy that was stopped for the time limit. */
  #explained(error: unknown): unknown {
    const stopped = error instanceof KageError && error.code === 'interrupted';
    return stopped && this.#expired && !this.#user?.aborted ? this.#tooLate() : error;
  }

  #tooLate(): KageError {
    const limit = formatSeconds(this.#quiesce.limitMs / 1000);
    return new KageError('failed', `${this.#what}: given up ${limit} after the freeze began`, {
      hint: 'a longer time can be given with --timeout; with `kage serve` only the instant needs it',
      data: { limitMs: this.#quiesce.limitMs },
    });
  }
}

function both(error: unknown, thaw: KageError): unknown {
  if (!(error instanceof KageError)) return error;
  const { code, hint, data } = error;
  const text = `${error.message}; and the thaw failed: ${thaw.message}`;
  return new KageError(code, text, { ...(hint === undefined ? {} : { hint }), data, cause: error });
}

/** What `work` gives, or after `ms` the error of `late`. */
async function within<T>(ms: number, work: () => Promise<T>, late: () => KageError): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), ms);
  });
  try {
    return await Promise.race([work(), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
