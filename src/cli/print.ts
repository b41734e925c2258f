/**
 * What a command prints: results on stdout as text or as exactly one JSON object, everything else
 * on stderr. With `--quiet` only errors, warnings and what was asked for (`info`, `diff`…) remain.
 */

import { EXIT, errnoOf, KageError } from '../base/errors.ts';
import type { Progress } from '../engine/api.ts';
import type { CliEnvironment } from './environment.ts';
import { ProgressLine } from './progress.ts';

export type PrinterOptions = {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
};

export class Printer {
  readonly options: PrinterOptions;
  readonly #env: CliEnvironment;
  readonly #progress: ProgressLine;

  constructor(env: CliEnvironment, options: PrinterOptions) {
    this.options = options;
    this.#env = env;
    this.#progress = new ProgressLine(env.stderr);
  }

  /** What was done: silent with `--quiet`. */
  async result(object: object, lines: readonly string[]): Promise<void> {
    if (this.options.json || !this.options.quiet) await this.data(object, lines);
  }

  /** What was asked for: printed in any case. */
  async data(object: object, lines: readonly string[]): Promise<void> {
    this.#progress.clear();
    const text = this.options.json ? JSON.stringify(object) : lines.join('\n');
    if (text !== '') await this.#env.stdout.write(`${text}\n`);
  }

  /** A remark before or beside the result, on stderr; silent with `--quiet`. */
  async say(line: string): Promise<void> {
    if (!this.options.quiet) await this.warn(line);
  }

  async warn(line: string): Promise<void> {
    this.#progress.clear();
    await this.#env.stderr.write(`${line}\n`);
  }

  readonly progress = (progress: Progress): void => {
    if (!this.options.quiet) this.#progress.show(progress);
  };

  /** Prints the error and gives the exit status. Never throws. */
  async error(error: unknown, style: (message: string) => string = kageStyle): Promise<number> {
    if (errnoOf(error) === 'EPIPE' && !(error instanceof KageError)) return EXIT.done;
    const known = this.#asKnown(error);
    try {
      if (this.options.json) await this.data({ error: known.json }, []);
      else {
        await this.warn(style(known.message));
        if (known.hint !== undefined) await this.warn(`  ${known.hint}`);
      }
      if (known.stack !== undefined && this.options.verbose) await this.warn(known.stack);
    } catch {
      // Nobody reads us any more; the status still says it.
    }
    return known.exitStatus;
  }

  #asKnown(error: unknown): {
    message: string;
    hint?: string;
    stack?: string;
    json: Record<string, unknown>;
    exitStatus: number;
  } {
    const known = this.#interrupted(error);
    if (known instanceof KageError) {
      const { message, hint, exitStatus } = known;
      return { message, hint, exitStatus, json: known.toJSON() };
    }
    const message = `internal error: ${error instanceof Error ? error.message : String(error)}`;
    const json = { code: 'internal', exitStatus: EXIT.failed, message };
    const stack = error instanceof Error ? error.stack : undefined;
    const hint = this.options.verbose ? undefined : 'run it again with -v for where it happened';
    return { message, hint, stack, json, exitStatus: EXIT.failed };
  }

  /** After Ctrl-C a bare abort of a stream means `interrupted` as well. */
  #interrupted(error: unknown): unknown {
    const isBareAbort = (error as { name?: unknown } | null)?.name === 'AbortError';
    if (!isBareAbort || !this.#env.signal.aborted) return error;
    return new KageError('interrupted', 'interrupted', { cause: error });
  }
}

function kageStyle(message: string): string {
  return `kage: ${message}`;
}
