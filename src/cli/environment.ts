/**
 * Everything the command line takes from outside, as one argument: streams, variables, the signal
 * and the engine. `main.ts` builds the real one; a test builds its own. Also: where the state lives.
 */

import { KageError } from '../base/errors.ts';
import type { ClassInfo, CopyOptions, DiskClass, ImageReport, RunOptions } from '../engine/api.ts';
import type { Captive, CaptiveOptions } from '../serve/captive.ts';
import type { RunningServer, ServeOptions } from '../serve/serve.ts';

/** `command` is what others are told about the process that has a class open. */
export type EngineOptions = {
  readonly home: string;
  readonly kernel?: 'wasm' | 'js';
  readonly command?: string;
};

/** The entry points of the engine; each may throw `KageError`. */
export type EngineApi = {
  openClass(name: string, options: EngineOptions & { create?: boolean }): Promise<DiskClass>;
  readClass(name: string, options: EngineOptions): Promise<ClassInfo>;
  listClasses(options: EngineOptions): Promise<string[]>;
  findImage(
    path: string,
    options: EngineOptions,
  ): Promise<{ class: string; volume: string } | undefined>;
  reopenCatalog(name: string, options: EngineOptions): Promise<string>;
  diffImages(
    a: string,
    b: string,
    options: EngineOptions & RunOptions & { regionSize?: number; rangesMax?: number },
  ): Promise<ImageReport>;
  copyImage(
    source: string,
    target: string,
    options: EngineOptions &
      CopyOptions & { regionSize?: number; onOverwrite?: () => void | Promise<void> },
  ): Promise<ImageReport>;
};

/** The server of a state folder: asked, and started. All may throw `KageError`. */
export type ServerApi = {
  /** A class of the server that lives in the state folder; undefined: none does, or not this class. */
  openServed(
    name: string,
    options: EngineOptions & { create?: boolean },
  ): Promise<DiskClass | undefined>;
  start(options: Omit<ServeOptions, 'clock'>): Promise<RunningServer>;
  /** Serves volumes until they are given back. */
  hold(options: Omit<CaptiveOptions, 'clock'>): Promise<Captive>;
};

/** What a command finds in its environment beside ours. */
export type ShellVariables = Readonly<Record<string, string>>;

/** A command of the user that runs. */
export type ShellCommand = {
  /** Undefined when it has ended well; else how, for people: `ended with status 3`. Never rejects. */
  readonly ended: Promise<string | undefined>;
  /** Ends it and what it has started, by force after two seconds. */
  stop(): void;
  /** Ends them by force. */
  kill(): void;
};

/** Commands of the user, run by `/bin/sh`. */
export type Shell = {
  /** Throws `failed` when nothing may be run at all. */
  start(text: string, variables: ShellVariables): ShellCommand;
  /** Runs it to its end before this returns, `limitMs` at most. */
  runNow(text: string, variables: ShellVariables, limitMs: number): void;
  /**
   * `work` is called when this process ends, however it does (but by SIGKILL), until the function that
   * comes back was called.
   */
  atEnd(work: () => void): () => void;
};

/** Where text goes. `write` ends when the text is handed over and fails with EPIPE as `code`. */
export type Output = {
  write(data: string | Uint8Array): Promise<void>;
  readonly isTTY: boolean;
  /** Width of the terminal; 80 when nobody knows. */
  readonly columns: number;
};

export type CliEnvironment = {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly stdinIsTTY: boolean;
  /** Throws `usage` at once when nothing can be read from it. */
  readStdin(): AsyncIterable<Uint8Array>;
  /** Undefined when unset, and when the runtime does not let us look. */
  env(name: string): string | undefined;
  /** 0 is root; undefined when the system has no such numbers or does not tell. */
  userId(): number | undefined;
  readonly processId: number;
  /** Name of this machine for tables, if known. */
  hostName(): string | undefined;
  exists(path: string): boolean;
  readonly version: string;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  readonly engine: EngineApi;
  /**
   * Runs a command with our streams until it ends; signals that ask us to end go to it meanwhile.
   * `variables` are added to ours. The status is that of a shell; `problem`: it could not be started.
   */
  execute(
    command: readonly string[],
    variables: Readonly<Record<string, string>>,
  ): Promise<{ readonly status: number; readonly problem?: string }>;
  /** Absent: there are no servers. */
  readonly server?: ServerApi;
  /** Absent: no commands can be run. Loaded by those who need it. */
  readonly shell?: () => Promise<Shell>;
  /** ms since any moment; never goes back. */
  clock(): number;
};

/** State folder: `--home`, KAGE_HOME, /var/lib/kagemusha for root, the XDG state folder. */
export function resolveHome(option: string | undefined, env: CliEnvironment): string {
  const given = option ?? env.env('KAGE_HOME');
  if (given) return given;
  if (env.userId() === 0) return '/var/lib/kagemusha';
  const xdg = env.env('XDG_STATE_HOME');
  // The XDG rules ask to ignore a relative path.
  if (xdg?.startsWith('/')) return `${xdg}/kagemusha`;
  const home = env.env('HOME') || env.env('USERPROFILE');
  if (home) return `${home}/.local/state/kagemusha`;
  throw new KageError('usage', 'no folder for the state is known', {
    hint: 'give one with --home DIR or in KAGE_HOME',
  });
}

/** KAGE_KERNEL: which kernel does the block work; undefined lets the engine choose. */
export function resolveKernel(env: CliEnvironment): 'wasm' | 'js' | undefined {
  const kernel = env.env('KAGE_KERNEL');
  if (!kernel) return undefined;
  if (kernel === 'wasm' || kernel === 'js') return kernel;
  throw new KageError('usage', `KAGE_KERNEL is ${kernel}, and must be wasm or js`);
}
