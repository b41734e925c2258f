/** Disks that are full or fail: the source untouched, the target INVALID, the same command goes on. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Ended, inWorld, NODE, type Runtime, type World } from '../support/world.ts';

const test = suite('e2e: full and failing disks');
const MIB = 1024 * 1024;
const isRoot = process.getuid?.() === 0;

function has(command: string, ...args: string[]): boolean {
  return spawnSync(command, args).status === 0;
}

/** A small file system of its own in the world, or undefined where that is not allowed. */
function mountSmall(w: World, name: string, size: string): ((size: string) => void) | undefined {
  fs.mkdirSync(w.path(name));
  if (!has('mount', '-t', 'tmpfs', '-o', `size=${size}`, 'none', w.path(name))) return undefined;
  w.atEnd(() => spawnSync('umount', ['-l', w.path(name)]));
  return (next) => {
    assert.ok(has('mount', '-o', `remount,size=${next}`, w.path(name)));
  };
}

function expectFailure(ended: Ended, exit: number, code: string, says: RegExp): void {
  assert.is(ended.status, exit, ended.stdout + ended.stderr);
  const { error } = JSON.parse(ended.stdout);
  assert.is(error.code, code, error.message);
  assert.match(error.message, says);
}

const FULL = /no room left on the disk/;
const canMount =
  isRoot &&
  (await inWorld(async (w) => mountSmall(w, 'probe', '1m') !== undefined)) &&
  has('losetup', '--version');

function mounted(name: string, work: (w: World) => Promise<void>): void {
  if (!canMount) console.log(`SKIP ${name}: needs root, mount and losetup`);
  (canMount ? test : test.skip)(name, () => inWorld(work));
}

/** A full disk under the proxy, for a copy in this thread and for one in worker threads. */
for (const size of [4 * MIB, 24 * MIB]) {
  mounted(`a full disk in the middle of a join of ${size / MIB} MiB`, async (w) => {
    const resize = mountSmall(w, 'small', '3m')!;
    w.image('vm.img', size, 1);
    const master = w.hash('vm.img');
    const join = ['join', w.path('vm.img'), w.path('small/p.img'), '--json'];

    expectFailure(await w.run(join), 20, 'disk-full', FULL);
    assert.is(w.hash('vm.img'), master);
    const before = await w.info();
    const proxy = before.volumes.find((v) => v.name === 'p')!;
    assert.is(proxy.status, 'INVALID');
    assert.match(proxy.problem ?? '', FULL);
    assert.is(before.pairs[0].state, 'invalid');
    for (const verb of [
      ['start', 'p'],
      ['part', 'p', '--instant'],
      ['fix', 'p'],
    ]) {
      const ended = await w.run([...verb, '--json']);
      assert.ok(ended.status === 13 || ended.status === 20, `${verb[0]}: ${ended.stdout}`);
    }

    expectFailure(await w.run(join), 20, 'disk-full', FULL);
    resize('64m');
    const { pairs } = await w.ok(join.slice(0, 3));
    assert.is(pairs[0].state, 'joined');
    assert.is(w.hash('small/p.img'), master);
    assert.is(w.hash('vm.img'), master);
  });
}

mounted('a full disk under proxy and state folder', async (w) => {
  const resize = mountSmall(w, 'small', '3m')!;
  w.image('vm.img', 4 * MIB, 1);
  const env = { env: { KAGE_HOME: w.path('small/home') } };
  const join = ['join', w.path('vm.img'), w.path('small/p.img')];
  expectFailure(await w.run([...join, '--json'], env), 20, 'disk-full', FULL);
  const info = await w.ok(['info'], env);
  assert.is(info.volumes.find((v: { name: string }) => v.name === 'p').status, 'INVALID');
  resize('64m');
  await w.ok(join, env);
  assert.is(w.hash('small/p.img'), w.hash('vm.img'));
});

mounted('a state folder on a full disk', async (w) => {
  mountSmall(w, 'small', '1m');
  w.image('vm.img', MIB, 1);
  const env = { env: { KAGE_HOME: w.path('small/home') } };
  await w.ok(['join', w.path('vm.img'), w.path('p.img')], env);
  const stuff = Buffer.alloc(MIB);
  try {
    fs.writeFileSync(w.path('small/stuff'), stuff);
  } catch {
    // Full, as it should be.
  }
  const ended = await w.run(['part', 'p', '--json'], env);
  expectFailure(ended, 20, 'disk-full', FULL);
  assert.is((await w.ok(['info'], env)).pairs[0].state, 'joined');
  fs.rmSync(w.path('small/stuff'));
  await w.ok(['part', 'p'], env);
  assert.is(w.hash('p.img'), w.hash('vm.img'));
});

mounted('a full disk in the middle of a tracked write', async (w) => {
  const resize = mountSmall(w, 'small', '3m')!;
  fs.mkdirSync(w.path('other'));
  fs.truncateSync(w.image('small/vm.img', 1), 8 * MIB);
  await w.ok(['join', w.path('small/vm.img'), w.path('p.img')]);
  const write = ['write', 'vm', '--offset', '64K', '--json'];
  const input = Buffer.alloc(6 * MIB, 'x');
  expectFailure(await w.run(write, { input }), 20, 'disk-full', FULL);
  resize('64m');
  const { pairs } = await w.info();
  assert.ok(['joining', 'joined'].includes(pairs[0].state), pairs[0].state);
  await w.ok(['part', 'p']);
  assert.is(w.hash('p.img'), w.hash('small/vm.img'), 'equal after part, whatever the write did');
});

mounted('a block device: tracked, and doubted when others write or its file is cut', async (w) => {
  w.image('disk', 4 * MIB, 1);
  const loop = spawnSync('losetup', ['-f', '--show', w.path('disk')])
    .stdout.toString()
    .trim();
  w.atEnd(() => spawnSync('losetup', ['-d', loop]));
  const methodOf = async () => (await w.ok(['rejoin', 'p'])).pairs[0].copy.method;
  await w.ok(['join', loop, w.path('p.img')]);
  await w.ok(['part', 'p']);
  await w.ok(['write', loop, '--offset', '1M'], { input: 'tracked' });
  assert.is(await methodOf(), 'differential');
  await w.ok(['part', 'p']);
  fs.writeFileSync(loop, 'by others', { flag: 'r+' });
  assert.is(await methodOf(), 'compare');
  assert.is(w.hash('p.img'), w.hash('disk'));
  fs.truncateSync(w.path('disk'), 2 * MIB);
  const shrank = /shrank from 4194304 to 2097152/;
  expectFailure(await w.run(['part', 'p', '--json']), 12, 'image-changed', shrank);
});

// A limit of the shell does for a user what a full disk does, without any rights.

function limited(blocks: number): Runtime {
  return ['sh', '-c', `trap "" XFSZ; ulimit -f ${blocks}; exec "$@"`, 'sh', ...NODE];
}

for (const size of [4 * MIB, 24 * MIB]) {
  test(`a file that may not grow, in the middle of a join of ${size / MIB} MiB`, () =>
    inWorld(async (w) => {
      w.image('vm.img', size, 1);
      const master = w.hash('vm.img');
      // Made beforehand: the limit also counts for making a sparse file.
      fs.truncateSync(w.image('p.img', 1), size);
      const join = ['join', w.path('vm.img'), w.path('p.img')];
      const ended = await w.run([...join, '--json'], { runtime: limited(4096) });
      expectFailure(ended, 20, 'disk-full', FULL);
      const { volumes } = await w.info();
      assert.is(volumes.find((v) => v.name === 'p')?.status, 'INVALID');
      await w.ok(join);
      assert.is(w.hash('p.img'), master);
      assert.is(w.hash('vm.img'), master);
    }));
}

test('a proxy that cannot be made at full length leaves nothing behind', () =>
  inWorld(async (w) => {
    w.image('vm.img', 4 * MIB, 1);
    const join = ['join', w.path('vm.img'), w.path('p.img'), '--json'];
    expectFailure(await w.run(join, { runtime: limited(4096) }), 20, 'disk-full', FULL);
    assert.not.ok(fs.existsSync(w.path('p.img')));
    const { volumes } = await w.engine((disks) => disks.info());
    assert.equal(volumes, []);
  }));

// Errors of the disk, put in by strace

const canTrace = has('strace', '-o', '/dev/null', '-e', 'trace=none', 'true');

function failing(call: string, errno: string, when: string, file: string): Runtime {
  const rule = `inject=${call}:error=${errno}:when=${when}`;
  return [
    'strace',
    '-f',
    '-qq',
    '-o',
    '/dev/null',
    '-P',
    file,
    '-e',
    rule,
    '-e',
    `trace=${call}`,
    ...NODE,
  ];
}

function traced(name: string, work: (w: World) => Promise<void>): void {
  if (!canTrace) console.log(`SKIP ${name}: strace is not installed or not allowed`);
  (canTrace ? test : test.skip)(name, () => inWorld(work));
}

for (const [call, file] of [
  ['pread64', 'vm.img'],
  ['pwrite64', 'p.img'],
  ['fdatasync', 'p.img'],
  ['fdatasync', 'vm.img'],
] as const) {
  for (const size of [4 * MIB, 24 * MIB]) {
    traced(`join of ${size / MIB} MiB: ${call} of ${file} fails`, async (w) => {
      w.image('vm.img', size, 1);
      w.image('p.img', size, 2);
      const master = w.hash('vm.img');
      await w.ok(['add', w.path('vm.img'), w.path('p.img')]);
      const join = ['join', 'vm', 'p'];
      const runtime = failing(call, 'EIO', call === 'fdatasync' ? '1' : '3+', w.path(file));
      expectFailure(await w.run([...join, '--json'], { runtime }), 20, 'io-error', /EIO/);
      const { volumes, pairs } = await w.info();
      assert.is(volumes.find((v) => v.name === 'p')?.status, 'INVALID');
      assert.ok(pairs[0].pendingRegions > 0, 'what failed is still to be copied');
      await w.ok(join);
      assert.is(w.hash('p.img'), master);
      assert.is(w.hash('vm.img'), master);
    });
  }
}

traced('a sync that failed once is not called good by a second one', async (w) => {
  w.image('vm.img', MIB, 1);
  w.image('p.img', MIB, 2);
  await w.ok(['add', '--exclusive', w.path('vm.img'), w.path('p.img')]);
  await w.ok(['join', 'vm', 'p']);
  const runtime = failing('fdatasync', 'EIO', '1', w.path('vm.img'));
  // One thread for system calls, because strace counts them by thread.
  const options = { runtime, env: { UV_THREADPOOL_SIZE: '1' }, input: 'new' };
  expectFailure(await w.run(['write', 'vm', '--json'], options), 20, 'io-error', /EIO/);
  // What the failed sync dropped from the cache: the disk still has the old bytes.
  w.scribble('vm.img', 0, 'old');
  await w.ok(['part', 'p']);
  assert.is(w.hash('p.img'), w.hash('vm.img'), 'region 0 did not pass for equal');
});

for (const size of [4 * MIB, 24 * MIB]) {
  traced(
    `join of ${size / MIB} MiB: nothing is believed equal once a sync has failed`,
    async (w) => {
      w.image('vm.img', size, 1);
      w.image('p.img', size, 2);
      await w.ok(['add', '--exclusive', w.path('vm.img'), w.path('p.img')]);
      const runtime = failing('fdatasync', 'EIO', '1', w.path('p.img'));
      const options = { runtime, env: { UV_THREADPOOL_SIZE: '1' } };
      expectFailure(await w.run(['join', 'vm', 'p', '--json'], options), 20, 'io-error', /EIO/);
      assert.is((await w.pair('p')).pendingRegions, size / 65536);
      await w.ok(['join', 'vm', 'p']);
      assert.is(w.hash('p.img'), w.hash('vm.img'));
    },
  );
}

test.run();
