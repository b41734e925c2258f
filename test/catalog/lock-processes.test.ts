/** The lock between real processes on real files, of all runtimes that are there. */

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { KageError } from '../../src/base/errors.ts';
import { acquireLock, currentHolder } from '../../src/catalog/lock.ts';
import { FileHost } from '../../src/device/file-host.ts';
import { BUN, DENO, until, World } from '../support/world.ts';

const test = suite('catalog: lock between processes');
const root = process.env.KAGE_ROOT ?? process.cwd();
const zero = async () => 0;

const world = new World();
const script = world.path('contender.mjs');
const children = new Set<ChildProcess>();
test.before(async () => {
  await build({
    entryPoints: [path.join(root, 'test/catalog/lock-contender.ts')],
    outfile: script,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'warning',
  });
});
test.after(() => {
  for (const child of children) child.kill('SIGKILL');
  world.remove();
});

const NODE_COMMAND = [process.execPath, script];
const OTHERS = [
  [DENO[0], 'run', '-A', script],
  [BUN[0], script],
].filter(([command]) => fs.existsSync(command));

function start(command: readonly string[], args: readonly string[]) {
  const child = spawn(command[0], [...command.slice(1), ...args], { stdio: 'pipe' });
  children.add(child);
  const running = { child, text: '', ended: Promise.resolve(-1) };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      running.text += data;
    });
  }
  running.ended = new Promise((resolve) =>
    child.on('close', (status) => {
      children.delete(child);
      resolve(status ?? -1);
    }),
  );
  return running;
}

let folders = 0;
function newFolder(): string {
  const folder = world.path(`c${folders++}`);
  fs.mkdirSync(folder);
  return folder;
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return (error as KageError).code;
  }
  return 'taken';
}

for (const command of [NODE_COMMAND, ...OTHERS]) {
  const name = path.basename(command[0]);
  test(`a kill -9 of a ${name} process leaves nothing to clean up`, async () => {
    const at = newFolder();
    const host = new FileHost();
    const folder = host.folder(at);
    const me = { ...host.self(), command: 'test' };
    const holder = start(command, ['hold', at]);
    await until('the holder holds', () => holder.text.includes('held'));
    assert.is(await codeOf(acquireLock(folder, host, me, zero)), 'in-use');
    assert.is((await currentHolder(folder))?.pid, holder.child.pid);
    assert.is((await currentHolder(folder))?.command, 'hold');
    holder.child.kill('SIGKILL');
    await holder.ended;
    assert.is(await currentHolder(folder), undefined);
    const lock = await acquireLock(folder, host, me, zero);
    assert.is(lock.epoch, 2);
    await lock.release();
    assert.equal(fs.readdirSync(at), []);
  });
}

test('a stopped process still holds it', async () => {
  const at = newFolder();
  const host = new FileHost();
  const holder = start(NODE_COMMAND, ['hold', at]);
  await until('the holder holds', () => holder.text.includes('held'));
  holder.child.kill('SIGSTOP');
  const me = { ...host.self(), command: 'test' };
  assert.is(await codeOf(acquireLock(host.folder(at), host, me, zero)), 'in-use');
  holder.child.kill('SIGKILL');
  await holder.ended;
});

test('twenty at once, some of them killed while they hold it: never two holders', async () => {
  const at = newFolder();
  const rounds = 3;
  const contenders = Array.from({ length: 17 }, (_, i) => {
    const command = i < 2 && OTHERS[i] ? OTHERS[i] : NODE_COMMAND;
    return start(command, ['contend', at, String(rounds)]);
  });
  for (let i = 0; i < 3; i++) {
    const holder = start(NODE_COMMAND, ['hold', at]);
    await until('a holder holds', () => holder.text.includes('held'));
    holder.child.kill('SIGKILL');
    await holder.ended;
  }
  const epochs: number[] = [];
  for (const contender of contenders) {
    assert.is(await contender.ended, 0, contender.text);
    for (const match of contender.text.matchAll(/held (\d+)/g)) epochs.push(Number(match[1]));
  }
  assert.is(epochs.length, 17 * rounds);
  assert.is(new Set(epochs).size, epochs.length, 'no epoch was held twice');
  // One of the killed ones may have been the last of all: whoever comes next clears it away.
  const host = new FileHost();
  const me = { ...host.self(), command: 'test' };
  await (await acquireLock(host.folder(at), host, me, zero)).release();
  const left = fs.readdirSync(at).filter((name) => name !== 'epoch');
  assert.equal(left, [], 'nothing is left');
});

test.run();
