/** Servers people have, and our client as a process of its own against them. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';
import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import { BUN, DENO, inWorld, Running, until, World } from '../support/world.ts';
import type { Case, Outcome, Step } from './nbd-client-steps.ts';

const root = process.env.KAGE_ROOT ?? process.cwd();
export const MIB = 1024 * 1024;
const place = new World();
const script = place.path('client.mjs');
await build({
  entryPoints: [path.join(root, 'test/interop/nbd-client-program.ts')],
  outfile: script,
  bundle: true,
  platform: 'node',
  format: 'esm',
  logLevel: 'warning',
});

export type Runtime = { readonly name: string; readonly command: readonly string[] };
export const NODE: Runtime = { name: 'Node', command: [process.execPath] };
export const RUNTIMES: readonly Runtime[] = [
  NODE,
  { name: 'Deno', command: [DENO[0], 'run', '-A'] },
  { name: 'Bun', command: [BUN[0]] },
].filter(({ name, command }) => {
  const starts = name === 'Node' || spawnSync(command[0], ['--version']).status === 0;
  if (!starts) console.log(`SKIP interop: the NBD client on ${name}: it does not start here`);
  return starts;
});

/** A case that needs programs: left out by name where they are missing, but not in CI. */
export function needs(
  test: Test,
  tools: readonly string[],
  name: string,
  work: (w: World) => Promise<void>,
): void {
  const missing = tools.filter((tool) => spawnSync(tool, ['--version']).status !== 0);
  if (missing.length === 0) {
    test(name, () => inWorld(work));
  } else if (process.env.CI === 'true') {
    test(name, () => assert.unreachable(`${missing.join(', ')} must be here`));
  } else {
    console.log(`SKIP interop: ${name}: needs ${missing.join(', ')}`);
    test.skip(name, () => {});
  }
}

export async function onAll(work: (runtime: Runtime) => Promise<void>): Promise<void> {
  for (const runtime of RUNTIMES) {
    try {
      await work(runtime);
    } catch (error) {
      (error as Error).message = `${runtime.name}: ${(error as Error).message}`;
      throw error;
    }
  }
}

/** Starts a server that listens on a socket of the world; it ends with it. */
export async function serve(w: World, socket: string, ...command: string[]): Promise<ChildProcess> {
  const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr!.on('data', (data) => {
    text += data;
  });
  w.atEnd(() => child.kill('SIGKILL'));
  await until(`${command.join(' ')} listens`, () => {
    if (child.exitCode !== null) assert.unreachable(`${command.join(' ')} ended: ${text}`);
    return fs.existsSync(w.path(socket));
  });
  return child;
}

/** nbdkit on the socket `s`. */
export const nbdkit = (w: World, ...args: string[]) =>
  serve(w, 's', 'nbdkit', '-f', '-U', w.path('s'), ...args);

export const uriOf = (w: World, query = '') => `nbd+unix:///?socket=${w.path('s')}${query}`;
export const tlsUri = (w: World, query: string, user = '') =>
  `nbds+unix://${user}/?socket=${w.path('s')}${query}`;

export function start(
  runtime: Runtime,
  cases: readonly Case[],
  env: NodeJS.ProcessEnv = {},
): Running {
  const command = [...runtime.command, script, JSON.stringify(cases)];
  return new Running(command, { ...process.env, ...env }, '');
}

export async function outcomes(running: Running): Promise<Outcome[]> {
  const { status, stdout, stderr } = await running.ended;
  assert.is(status, 0, `${stdout}${stderr}`);
  assert.is(stderr, '', 'nothing on stderr');
  return JSON.parse(stdout);
}

export async function client(
  runtime: Runtime,
  uri: string,
  steps: readonly Step[],
  options: Case['options'] = {},
): Promise<Outcome> {
  const [outcome] = await outcomes(start(runtime, [{ uri, steps, options }]));
  return outcome;
}

export function refused({ error, steps }: Outcome, code: string, says: RegExp): void {
  assert.ok(error, `connected: ${JSON.stringify(steps)}`);
  assert.is(error.code, code, error.message);
  assert.match(error.message, says);
}

export const sha1 = (data: Uint8Array) => createHash('sha1').update(data).digest('hex');

/**
 * A client that does `before`, meets the test while nbdkit is killed and started again on the same
 * file, and does `after`.
 */
export async function overRestart(
  w: World,
  runtime: Runtime,
  before: readonly Step[],
  after: readonly Step[],
  { uri = uriOf(w), args = [] as readonly string[] } = {},
): Promise<Outcome> {
  for (const name of ['s', 'come', 'go']) fs.rmSync(w.path(name), { force: true });
  const image = w.image('disk', MIB, 3);
  const first = await nbdkit(w, ...args, 'file', image);
  const meet: Step = ['meet', w.path('come'), w.path('go')];
  const running = start(runtime, [{ uri, steps: [...before, meet, ...after] }]);
  await until('the client comes', () => fs.existsSync(w.path('come')));
  await end(first);
  fs.rmSync(w.path('s'), { force: true });
  const second = await nbdkit(w, ...args, 'file', image);
  fs.writeFileSync(w.path('go'), '');
  const [result] = await outcomes(running);
  await end(second);
  return result;
}

/** Kills a server and waits until it is gone. */
export async function end(server: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => server.on('close', resolve));
  server.kill('SIGKILL');
  await gone;
}
