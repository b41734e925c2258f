/** What the interop tests of the NBD server share: other people's tools, and our server on any runtime. */

import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { build } from 'esbuild';
import * as assert from 'uvu/assert';
import { BUN, DENO, inWorld, Running, until, type World } from '../support/world.ts';
import type { Serve } from './support-serve.ts';

const root = process.env.KAGE_ROOT ?? process.cwd();
export const MIB = 1024 * 1024;

/** The system's own folders first: nbdsh takes the first `python3`, nbd-client lies in sbin. */
const env = { ...process.env, PATH: `/usr/bin:/bin:/usr/sbin:/sbin:${process.env.PATH}` };

export type ServerRuntime = {
  readonly name: 'Node' | 'Deno' | 'Bun';
  readonly command: readonly string[];
};
export const ON_NODE: ServerRuntime = { name: 'Node', command: [process.execPath] };
export const RUNTIMES: readonly ServerRuntime[] = [
  ON_NODE,
  { name: 'Deno', command: [DENO[0], 'run', '-A'] },
  { name: 'Bun', command: [BUN[0]] },
];

/** The part of a suite that `cases` needs. */
type Suite = {
  (name: string, work: () => Promise<void>): void;
  skip(name: string, work: () => Promise<void>): void;
};

export type Case = (
  /** Programs it needs, or paths of programs. */
  tools: readonly string[],
  name: string,
  work: (world: World) => Promise<void>,
) => void;

/** Declares cases that need programs: left out by name where one is missing, but failed in CI. */
export function cases(test: Suite, area: string): Case {
  return (tools, name, work) => {
    const missing = tools.filter((tool) => spawnSync('which', [tool], { env }).status !== 0);
    if (missing.length === 0) {
      test(name, () => inWorld(work));
    } else if (process.env.CI === 'true') {
      test(name, async () => assert.unreachable(`${missing.join(', ')} must be here`));
    } else {
      leaveOut(test, `${area}: ${name}`, name, `needs ${missing.join(', ')}`);
    }
  };
}

/** Leaves a case out where it cannot be, in a line that the test runner shows. */
export function leaveOut(test: Pick<Suite, 'skip'>, what: string, name: string, why: string): void {
  console.log(`SKIP ${what}: ${why}`);
  test.skip(name, async () => {});
}

export type Told = {
  readonly status: number | null;
  readonly all: string;
  readonly stdout: string;
};

/** Runs a tool to its end, whatever that is. */
export async function tell(...command: readonly string[]): Promise<Told> {
  const { status, stdout, stderr } = await new Running(command, env, '').ended;
  return { status, stdout, all: `${stdout}${stderr}` };
}

/** Runs a tool that must succeed; what it printed. */
export async function run(...command: readonly string[]): Promise<string> {
  const { status, stdout, all } = await tell(...command);
  assert.is(status, 0, `${command.join(' ')}: ${all}`);
  return stdout;
}

/** Commands of qemu-io that look for what they wrote, within 8 MiB. */
export const PATTERNS = [
  'write -P 0xa5 4k 64k',
  'read -P 0xa5 4k 64k',
  'write -z -u 8k 4k',
  'read -P 0 8k 4k',
  'write -z 20k 4k',
  'read -P 0 20k 4k',
  'discard 16k 4k',
  'read -P 0 16k 4k',
  'read -P 0xa5 12k 4k',
  'write -P 0x11 1 511',
  'read -P 0x11 1 511',
  'aio_write -P 0x22 1M 1M',
  'aio_write -P 0x33 3M 2M',
  'aio_flush',
  'read -P 0x22 1M 1M',
  'read -P 0x33 3M 2M',
  'flush',
];

/** Runs commands of qemu-io, all of which must find what they look for. */
export async function qemuIo(
  options: readonly string[],
  commands: readonly string[],
): Promise<void> {
  const told = await run(
    'qemu-io',
    ...options.slice(0, -1),
    ...commands.flatMap((c) => ['-c', c]),
    ...options.slice(-1),
  );
  assert.not.match(told, /fail|error/i);
}

let script: Promise<string> | undefined;

/** The server program, bundled once. */
function program(): Promise<string> {
  script ??= (async () => {
    const outfile = path.join(root, 'build/test/interop/support-serve.mjs');
    await build({
      entryPoints: [path.join(root, 'test/interop/support-serve.ts')],
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      logLevel: 'warning',
    });
    return outfile;
  })();
  return script;
}

export type Disk = {
  readonly socket: string;
  /** Of the TCP place, if one was wanted. */
  readonly port: number;
  readonly uri: string;
  readonly process: Running;
  /** Ends the server in order, and wants that to go well. */
  stop(): Promise<void>;
};

/** Serves a disk on a unix socket of the world, and on a free port if `tcp` says where. */
export async function serveDisk(
  world: World,
  what: Omit<Serve, 'places'>,
  runtime = ON_NODE,
  tcp?: string,
): Promise<Disk> {
  const socket = world.path('nbd.sock');
  const places: Serve['places'] = [
    { kind: 'unix', path: socket },
    ...(tcp === undefined ? [] : [{ kind: 'tcp', host: tcp, port: 0 } as const]),
  ];
  const command = [...runtime.command, await program(), JSON.stringify({ places, ...what })];
  const running = new Running(command, process.env, '');
  world.atEnd(() => running.child.kill('SIGKILL'));
  await until(`the server on ${runtime.name} is ready`, () => {
    assert.is(running.child.exitCode, null, `${running.stdout}${running.stderr}`);
    return running.stdout.includes('\n');
  });
  const [, port = ''] = /^ready - ?(\d*)$/m.exec(running.stdout) ?? [];
  return {
    socket,
    port: Number(port),
    uri: `nbd+unix:///disk?socket=${socket}`,
    process: running,
    async stop() {
      running.child.kill('SIGTERM');
      const { status, stdout, stderr } = await running.ended;
      assert.match(stdout, /stopped true/, stderr);
      assert.is(status, 0, stderr);
      assert.is(stderr, '');
    },
  };
}

/** Runs `work` for each runtime that starts; what fails is named by it. */
export async function onEach(work: (runtime: ServerRuntime) => Promise<void>): Promise<void> {
  for (const runtime of RUNTIMES) {
    try {
      await work(runtime);
    } catch (error) {
      (error as Error).message = `${runtime.name}: ${(error as Error).message}`;
      throw error;
    }
  }
}
