/** The programs the bench runs: the three runtimes, and peers where they are installed. */

import { spawnSync } from 'node:child_process';

export interface Runtime {
  name: string;
  version: string;
  /** Program and leading arguments. */
  command: readonly string[];
}

/** No variable of the caller's shell slows or changes a side (`NODE_OPTIONS`, proxies, locales). */
export function cleanEnv(more: Record<string, string> = {}): Record<string, string> {
  return { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '/', LANG: 'C.UTF-8', ...more };
}

/**
 * Runs to the end and returns standard output. Throws, with what it said, when it fails.
 */
export function runProgram(
  command: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): string {
  const { status, stdout, stderr, error } = spawnSync(command[0], command.slice(1), {
    cwd: options.cwd,
    env: cleanEnv(options.env),
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (error || status !== 0) {
    throw new Error(`${command.join(' ')}: ${error?.message ?? `exit ${status}: ${stderr}`}`);
  }
  return stdout;
}

/**
 * The runtimes that start here. The packages of Deno and Bun bring a launcher each; timing wants
 * the program itself, which is asked where it lies.
 */
export function findRuntimes(root: string): Runtime[] {
  const node = { name: 'node', version: process.versions.node, command: [process.execPath] };
  const deno = runtimeOf('deno', `${root}node_modules/.bin/deno`, [
    ['eval', 'console.log(JSON.stringify([Deno.execPath(), Deno.version.deno]))'],
    ['run', '-A'],
  ]);
  const bun = runtimeOf('bun', `${root}node_modules/.bin/bun`, [
    ['-e', 'console.log(JSON.stringify([process.execPath, Bun.version]))'],
    [],
  ]);
  return [node, deno, bun].filter((runtime) => runtime !== undefined);
}

function runtimeOf(name: string, launcher: string, [ask, lead]: string[][]): Runtime | undefined {
  try {
    const [program, version] = JSON.parse(runProgram([launcher, ...ask]));
    return { name, version, command: [program, ...lead] };
  } catch {
    return undefined;
  }
}

/** First line of `--version`, without the name; undefined when the program is not installed. */
export function versionOf(program: string): string | undefined {
  const { error, stdout } = spawnSync(program, ['--version'], {
    env: cleanEnv(),
    encoding: 'utf8',
  });
  if (error) return undefined;
  return /\d+(\.\d+)+/.exec(stdout ?? '')?.[0] ?? 'unknown';
}
