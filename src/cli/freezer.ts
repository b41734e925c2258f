/**
 * `--freeze CMD --thaw CMD`: commands of the user around the instant of a verb. They are run here, by the
 * process that the user has started, also when a server does the verb. For each freeze there is one
 * thaw, whatever happens to the verb, the server, or this process, SIGKILL excepted.
 */

import { KageError } from '../base/errors.ts';
import { QUIESCE_SLACK_MS } from '../base/limits.ts';
import { formatSeconds } from '../base/units.ts';
import type { Quiesce, VerbReport } from '../engine/api.ts';
import type { CliEnvironment, Shell, ShellCommand, ShellVariables } from './environment.ts';
import type { QuiesceChoice } from './options.ts';
import type { Printer } from './print.ts';

export class Freezer implements Quiesce {
  readonly limitMs: number;
  readonly #choice: QuiesceChoice;
  readonly #verb: string;
  readonly #variables: ShellVariables;
  readonly #env: CliEnvironment;
  readonly #shell: Shell;
  readonly #printer: Printer;
  #freezing: ShellCommand | undefined;
  #thawing: Promise<void> | undefined;
  #thawRuns = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #release = () => {};
  #since = 0;
  #seconds: number | undefined;
  #problem: string | undefined;

  private constructor(
    verb: string,
    choice: QuiesceChoice,
    variables: ShellVariables,
    { env, printer, shell }: { env: CliEnvironment; printer: Printer; shell: Shell },
  ) {
    this.limitMs = choice.limitMs;
    this.#choice = choice;
    this.#verb = verb;
    this.#variables = variables;
    this.#env = env;
    this.#shell = shell;
    this.#printer = printer;
  }

  /** For the pairs of a plan, whose names the commands find in their environment. */
  static async create(
    choice: QuiesceChoice,
    plan: VerbReport,
    { env, printer }: { readonly env: CliEnvironment; readonly printer: Printer },
  ): Promise<Freezer> {
    const shell = await env.shell?.();
    if (shell === undefined) throw new KageError('not-permitted', 'no commands can be run here');
    const variables = {
      KAGE_CLASS: plan.class,
      KAGE_PROXIES: plan.pairs.map(({ proxy }) => proxy).join(' '),
      KAGE_MASTERS: [...new Set(plan.pairs.map(({ master }) => master))].join(' '),
    };
    return new Freezer(plan.verb, choice, variables, { env, printer, shell });
  }

  /** What came of it, for programs; undefined when nothing was frozen. */
  get outcome(): { readonly seconds: number; readonly thawError: string | null } | undefined {
    if (this.#seconds === undefined) return undefined;
    return { seconds: this.#seconds, thawError: this.#problem ?? null };
  }

  /** Why the service may be frozen still, if it may. */
  get problem(): string | undefined {
    return this.#problem;
  }

  async freeze(): Promise<void> {
    const { freeze } = this.#choice;
    await this.#say(`freezing: ${freeze}`, false);
    this.#since = this.#env.clock();
    this.#freezing = this.#shell.start(freeze, this.#variables);
    this.#release = this.#shell.atEnd(() => this.#thawNow());
    // A server that does not go on must not keep the service frozen. By then it does not switch any more.
    this.#timer = setTimeout(() => void this.#thawUnasked(), this.limitMs + QUIESCE_SLACK_MS);
    const problem = await this.#within(this.#freezing, this.#env.signal);
    if (problem === undefined) return;
    const hint = 'nothing has changed; the thaw was run';
    if (this.#env.signal.aborted) {
      throw new KageError('interrupted', 'interrupted during the freeze', { hint });
    }
    throw new KageError('failed', `the freeze ${problem}: ${freeze}`, { hint });
  }

  /** Never rejects: what is wrong with it is said at once, and kept. */
  async thaw(): Promise<void> {
    if (this.#freezing === undefined) return;
    this.#thawing ??= this.#thaw(this.#freezing);
    await this.#thawing;
  }

  /** Gives what `work` gives, once nothing is frozen any more. */
  async around<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      await this.thaw();
    }
  }

  async #thaw(freezing: ShellCommand): Promise<void> {
    const { thaw } = this.#choice;
    clearTimeout(this.#timer);
    freezing.stop();
    await freezing.ended;
    this.#thawRuns = true;
    const problem = await this.#runThaw().catch((error: Error) => `failed: ${error.message}`);
    this.#release();
    const ms = Math.round(this.#env.clock() - this.#since);
    this.#seconds = ms / 1000;
    this.#problem = problem;
    const text =
      problem === undefined
        ? `the service stood still for ${ms < 1000 ? `${ms} ms` : formatSeconds(ms / 1000)}`
        : `THE THAW FAILED, the service may be frozen still: it ${problem}: ${thaw}`;
    await this.#say(text, problem !== undefined);
  }

  async #runThaw(): Promise<string | undefined> {
    return await this.#within(this.#shell.start(this.#choice.thaw, this.#variables));
  }

  async #thawUnasked(): Promise<void> {
    await this.#say('the instant does not come: thawing', true);
    await this.thaw();
  }

  /** Nobody may be there to read it, which changes nothing. */
  async #say(text: string, loud: boolean): Promise<void> {
    const line = `${this.#verb}: ${text}`;
    await (loud ? this.#printer.warn(line) : this.#printer.say(line)).catch(() => {});
  }

  /** How a command failed, which is ended when its time is over or the user wants that. */
  async #within(command: ShellCommand, signal?: AbortSignal): Promise<string | undefined> {
    let stopped: string | undefined;
    const stop = (why: string) => {
      stopped ??= why;
      command.stop();
    };
    const limit = formatSeconds(this.limitMs / 1000);
    const timer = setTimeout(() => stop(`took longer than ${limit} and was ended`), this.limitMs);
    const interrupt = () => stop('was interrupted');
    signal?.addEventListener('abort', interrupt);
    if (signal?.aborted) interrupt();
    const problem = await command.ended;
    clearTimeout(timer);
    signal?.removeEventListener('abort', interrupt);
    return stopped ?? problem;
  }

  /** This process ends: nothing that takes turns is possible any more. A thaw that runs goes on without us. */
  #thawNow(): void {
    if (this.#thawRuns) return;
    this.#freezing?.kill();
    this.#shell.runNow(this.#choice.thaw, this.#variables, this.limitMs);
  }
}
