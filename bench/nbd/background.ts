/** Programs that run beside the bench: waited for, ended in order, and gone when the bench is. */

import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { cleanEnv } from '../runtimes.ts';

const READY_MS = 60_000;
const END_MS = 30_000;
const POLL_MS = 5;
/** Of what a program says, the last so many characters are kept. */
const SAID_MAX = 64 * 2 ** 20;

const living = new Set<Background>();

/** Ends all of them at once; also when the bench ends in any way that it can notice. */
export function killAll(): void {
  for (const each of [...living].reverse()) {
    each.kill();
    each.undo?.();
  }
}
process.on('exit', killAll);

export class Background {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #over: Promise<void>;
  /** What it leaves behind when it is killed. */
  undo: (() => void) | undefined;
  stdout = '';
  stderr = '';
  /** Null while it runs. */
  end: { status: number | null; problem: string } | null = null;

  constructor(command: readonly string[], env: Record<string, string> = {}) {
    this.#name = command.join(' ');
    const child = spawn(command[0], command.slice(1), {
      env: cleanEnv(env),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.stdout.on('data', (data) => {
      this.stdout = `${this.stdout}${data}`.slice(-SAID_MAX);
    });
    child.stderr.on('data', (data) => {
      this.stderr = `${this.stderr}${data}`.slice(-SAID_MAX);
    });
    living.add(this);
    this.#over = new Promise((resolve) => {
      const ended = (status: number | null, problem: string) => {
        living.delete(this);
        this.end ??= { status, problem };
        resolve();
      };
      child.once('error', ({ message }) => ended(null, message));
      child.once('close', (status, signal) => ended(status, signal ?? `exit ${status}`));
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Waits until `look` answers something; throws when the program ends before, or takes a minute. */
  async until<T>(look: () => T | Promise<T>): Promise<NonNullable<T>> {
    const limit = performance.now() + READY_MS;
    for (;;) {
      const seen = await look();
      if (seen) return seen;
      if (this.end !== null || performance.now() > limit) throw this.#failed('is not ready');
      await sleep(POLL_MS);
    }
  }

  /** Waits for its end. Standard output; throws, with what it said, when it fails. */
  async result(): Promise<string> {
    await this.#over;
    if (this.end!.status !== 0) throw this.#failed('failed');
    return this.stdout;
  }

  /** Asks it to end and waits; what does not listen is killed. */
  async stop(): Promise<void> {
    if (this.end !== null) return;
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.kill(), END_MS);
    await this.#over;
    clearTimeout(timer);
  }

  /** At once; `gone` tells when it is. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }

  async gone(): Promise<void> {
    await this.#over;
  }

  #failed(what: string): Error {
    return new Error(
      `${this.#name}: ${what}: ${this.end?.problem ?? ''} ${this.stderr.slice(-2000)}`,
    );
  }
}
