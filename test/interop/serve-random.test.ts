/**
 * Self-checking random I/O of other people's tools on `kage serve`, while the pair behind it is
 * joined, parted and rejoined under them; at the end both sides are compared.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serve } from '../e2e/serve-support.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { NODE, Running, type Runtime, type World } from '../support/world.ts';
import { cases, MIB, PATTERNS, qemuIo, run } from './support.ts';

const test = suite('interop: kage serve, random I/O');
const check = cases(test, 'interop: kage serve, random I/O');

const SIZE = 16 * MIB;

/** A server with the joined pair `vm` and `vm-proxy`. */
async function joined(w: World, runtime: Runtime = NODE) {
  w.image('vm.img', SIZE);
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  const server = await serve(w, [], runtime);
  return { server, vm: server.uri('default/vm'), proxy: server.uri('default/vm-proxy') };
}

/** Verifies the pair, makes it equal again by what was tracked alone, and looks at the images. */
async function endsEqual(w: World, server: { stop(): Promise<void> }): Promise<void> {
  await w.ok(['verify', 'vm-proxy']);
  const { pairs } = await w.ok(['rejoin', 'vm-proxy']);
  assert.is(pairs[0].copy.method, 'differential');
  await server.stop();
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
}

const fio = (uri: string, ...words: string[]) => [
  ...['fio', '--ioengine=nbd', `--uri=${uri}`, '--thread', '--verify_state_save=0'],
  ...words,
];
const VERIFY = ['--verify=crc32c', '--verify_fatal=1', '--do_verify=1'];

for (const { name, command } of RUNTIMES) {
  check(['qemu-io', 'fio'], `qemu-io and fio, server on ${name}`, async (w) => {
    const { server, vm, proxy } = await joined(w, command);
    await qemuIo(['-t', 'writeback', '-f', 'raw', vm], PATTERNS);
    assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'), 'joined: both have it');
    await w.ok(['part', 'vm-proxy']);
    const snapshot = w.hash('vm.proxy.img');
    await qemuIo(['-t', 'writethrough', '-f', 'raw', vm], PATTERNS);
    const job = ['--name=v', '--rw=randwrite', '--bs=4k', '--size=4m', '--iodepth=16'];
    await run(...fio(vm, ...job, '--fsync=64', ...VERIFY));
    assert.is(w.hash('vm.proxy.img'), snapshot, 'parted: the snapshot stays');
    await qemuIo(['-t', 'writeback', '-f', 'raw', proxy], PATTERNS);
    await endsEqual(w, server);
  });
}

check(['qemu-io'], 'blkverify finds no difference to a plain file', async (w) => {
  const { server } = await joined(w);
  w.image('ref.raw', SIZE);
  const image = `driver=blkverify,raw.driver=file,raw.filename=${w.path('ref.raw')},test.driver=nbd,test.export=default/vm,test.server.type=unix,test.server.path=${w.path('home', 'nbd.sock')}`;
  const compared = (...commands: string[]) => qemuIo(['--image-opts', image], commands);
  await compared('read 0 16M', 'write -P 7 64k 1M', 'discard 128k 64k', 'flush', 'read 0 2M');
  await w.ok(['part', 'vm-proxy']);
  assert.is(w.hash('vm.proxy.img'), w.hash('ref.raw'));
  const snapshot = w.hash('ref.raw');
  await compared('write -P 9 5M 3M', 'discard 6M 1M', 'write -P 3 1000k 100k', 'read 0 16M');
  await w.ok(['rejoin', 'vm-proxy']);
  await compared('write -P 8 0 64k', 'flush', 'read 0 16M');
  await w.ok(['part', 'vm-proxy']);
  assert.is(w.hash('vm.proxy.img'), w.hash('ref.raw'));
  assert.is.not(w.hash('ref.raw'), snapshot);
  await endsEqual(w, server);
});

check(['fio'], 'fio verifies what it wrote while the pair was parted and rejoined', async (w) => {
  const { server, vm } = await joined(w);
  const job = ['--name=v', '--rw=randwrite', '--bsrange=512-64k', '--iodepth=16', '--size=14m'];
  const words = fio(vm, ...job, '--io_size=28m', '--rate=6m', '--fsync=64', ...VERIFY);
  const running = new Running(words, process.env, '');
  w.atEnd(() => running.child.kill('SIGKILL'));
  let rounds = 0;
  while (running.child.exitCode === null) {
    await w.ok(['part', 'vm-proxy']);
    const { pairs } = await w.ok(['rejoin', 'vm-proxy']);
    assert.is(pairs[0].copy.method, 'differential');
    rounds++;
  }
  const { status, stdout, stderr } = await running.ended;
  assert.is(status, 0, `${stdout}${stderr}`);
  assert.ok(rounds > 1, `${rounds} rounds`);
  await w.ok(['part', 'vm-proxy']);
  await endsEqual(w, server);
});

check(['fio'], 'fio trims and reads beside, joined and parted', async (w) => {
  const { server, vm, proxy } = await joined(w);
  const trim = ['--name=t', '--rw=randtrim', '--bs=64k', '--size=16m', '--iodepth=4'];
  const mixed = ['--name=m', '--rw=randrw', '--bsrange=512-256k', '--size=8m', '--iodepth=32'];
  await run(...fio(vm, ...trim));
  assert.ok(w.read('vm.proxy.img').equals(Buffer.alloc(SIZE)), 'all is trimmed, and zero');
  await run(...fio(vm, ...mixed));
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
  await w.ok(['part', 'vm-proxy']);
  const snapshot = w.hash('vm.proxy.img');
  await run(...fio(vm, ...trim));
  assert.is(w.hash('vm.proxy.img'), snapshot);
  await run(...fio(proxy, ...mixed));
  await run(...fio(vm, ...mixed));
  await endsEqual(w, server);
});

test.run();
