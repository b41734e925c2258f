/**
 * `kage serve` with NBD clients of other people, while the other commands run through it: what
 * snapshots hold, who is refused, and what is left after SIGTERM and after kill -9.
 */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cases, run, tell } from '../interop/support.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { exists, inWorld, NODE, randomBytes, sleep, until, type World } from '../support/world.ts';
import { NbdClient, serve } from './serve-support.ts';

const test = suite('serve');
const check = cases(test, 'serve');
const MIB = 1024 * 1024;
const REGION = 64 * 1024;
const SIZE = 8 * MIB;

/** An image `vm` in class default, and a proxy of it that is parted, both made without a server. */
async function partedPair(w: World): Promise<void> {
  w.image('vm.img', SIZE);
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  await w.ok(['part', 'vm-proxy']);
}

/** Waits until a command succeeds; fails after ten seconds. */
async function eventually(w: World, args: readonly string[]): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if ((await w.run(args)).status === 0) return;
    await sleep(100);
  }
  assert.unreachable(`in vain: ${args.join(' ')}`);
}

async function untilState(w: World, proxy: string, state: string): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if ((await w.pair(proxy)).state === state) return;
    await sleep(100);
  }
  assert.unreachable(`${proxy} does not become ${state}`);
}

check(['nbdcopy', 'nbdinfo', 'qemu-io'], 'verbs run beside clients of NBD', async (w) => {
  w.image('vm.img', SIZE);
  await w.ok(['add', w.path('vm.img')]);
  const server = await serve(w);
  const vm = server.uri('default/vm');
  assert.is((await run('nbdinfo', '--size', vm)).trim(), `${SIZE}`);
  const joined = await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  assert.is(joined.pairs[0].state, 'joined');

  fs.writeFileSync(w.path('content'), randomBytes(SIZE, 7));
  await run('nbdcopy', '--flush', w.path('content'), vm);
  await w.ok(['part', 'vm-proxy']);
  assert.is(w.hash('vm.proxy.img'), w.hash('content'), 'the snapshot is what was written');
  const listed = await run('nbdinfo', '--list', server.uri(''));
  assert.match(listed, /"default\/vm"/);
  assert.match(listed, /"default\/vm-proxy"/);

  await run('qemu-io', '-f', 'raw', '-c', 'write -P 0x51 1M 192k', '-c', 'flush', vm);
  assert.is(w.hash('vm.proxy.img'), w.hash('content'), 'the snapshot stays');
  const rejoined = await w.ok(['rejoin', 'vm-proxy']);
  const { method, regions } = rejoined.pairs[0].copy;
  assert.equal({ method, regions }, { method: 'differential', regions: 3 });
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
  const { holder } = await w.info();
  assert.match(holder!.command, /^kage serve/);
  assert.match((await w.run(['info'])).stdout, /served since/);
  const verified = await w.ok(['verify', 'vm-proxy']);
  assert.is(verified.pairs[0].differing, 0);
  await server.stop();
  assert.not.ok(exists(w.path('home', 'control.sock')) || exists(w.path('home', 'nbd.sock')));
  await w.ok(['part', 'vm-proxy']);
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
});

check(['nbdsh'], 'a live restore gives connected clients what the proxy holds', async (w) => {
  await partedPair(w);
  const server = await serve(w);
  const client = new NbdClient(w, server.uri('default/vm'));
  await client.fill('a', 0, 3 * REGION);
  await w.ok(['rejoin', 'vm-proxy']);
  await w.ok(['part', 'vm-proxy']);
  await client.fill('b', REGION, REGION);

  const refused = await w.run(['restore', 'vm-proxy']);
  assert.is(refused.status, 13, refused.stderr);
  assert.ok(await client.holds('b', REGION, REGION));
  const restored = await w.ok(['restore', 'vm-proxy', '--live', '--instant']);
  assert.ok(['restoring', 'joined'].includes(restored.pairs[0].state), 'came back at once');
  assert.ok(await client.holds('a', 0, 3 * REGION), 'on the same connection');
  await client.fill('c', 2 * REGION, 100);
  await untilState(w, 'vm-proxy', 'joined');
  await w.ok(['part', 'vm-proxy']);
  await client.fill('d', 0, 100);
  const kept = w.read('vm.proxy.img');
  assert.is(kept.subarray(0, 2 * REGION).toString('latin1'), 'a'.repeat(2 * REGION));
  assert.is(kept.subarray(2 * REGION, 2 * REGION + 100).toString('latin1'), 'c'.repeat(100));
  await client.close();
  await server.stop();
});

check(
  ['nbdsh', 'nbdinfo', 'qemu-io'],
  'a proxy in use is not overwritten, a stopped volume not opened',
  async (w) => {
    await partedPair(w);
    const server = await serve(w);
    const client = new NbdClient(w, server.uri('default/vm-proxy'));
    await client.fill('a', 0, 10);
    const refused = await w.run(['rejoin', 'vm-proxy']);
    assert.ok([11, 13].includes(refused.status!), refused.stderr);
    await client.close();
    await eventually(w, ['rejoin', 'vm-proxy']);
    await w.ok(['stop', 'vm']);
    const read = ['-f', 'raw', '-c', 'read 0 512', server.uri('default/vm')];
    const stopped = await tell('qemu-io', ...read);
    assert.is.not(stopped.status, 0);
    assert.match(stopped.all, /vm: is stopped/);
    assert.not.match(await run('nbdinfo', '--list', server.uri('')), /"default\/vm"/);
    assert.match((await tell('nbdinfo', server.uri('default/nothing'))).all, /No such file/);
    assert.match((await tell('nbdinfo', server.uri(`default/${w.path('vm.img')}`))).all, /No such/);
    await server.stop();
  },
);

check(['nbdsh'], 'after kill -9 all that was flushed is there', async (w) => {
  await partedPair(w);
  const server = await serve(w);
  const client = new NbdClient(w, server.uri('default/vm'));
  await client.fill('k', 5 * REGION, REGION);
  await server.kill();
  assert.ok(exists(w.path('home', 'control.sock')), 'the socket of a dead server');
  const pair = await w.pair('vm-proxy');
  assert.is(pair.state, 'parted');

  const again = await serve(w);
  const reader = new NbdClient(w, again.uri('default/vm'));
  assert.ok(await reader.holds('k', 5 * REGION, REGION));
  await reader.close();
  await w.ok(['rejoin', 'vm-proxy']);
  await again.stop();
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
});

test('a dead server is no server', () =>
  inWorld(async (w) => {
    await partedPair(w);
    const server = await serve(w);
    await server.kill();
    assert.ok(exists(w.path('home', 'control.sock')));
    const rejoined = await w.ok(['rejoin', 'vm-proxy']);
    assert.is(rejoined.pairs[0].state, 'joined');
    const noWait = await w.run(['rejoin', 'vm-proxy', '--no-wait']);
    assert.is(noWait.status, 2);
    assert.match(noWait.stderr, /--no-wait needs a server/);
  }));

test('a state folder has one server; a class that is named has to be there', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE);
    const server = await serve(w);
    const second = await w.run(['serve']);
    assert.is(second.status, 11, second.stderr);
    assert.match(second.stderr, /control\.sock: another server listens there/);
    // Made by a client, served from then on.
    await w.ok(['add', w.path('vm.img'), '-c', 'db']);
    assert.match((await w.run(['info', '-c', 'db'])).stdout, /served since/);
    await server.stop();
    const nothing = await w.run(['serve', '-c', 'nothing']);
    assert.is(nothing.status, 10, nothing.stderr);
    assert.not.ok(exists(w.path('home', 'control.sock')), 'nothing is left of it');
    w.image('other.img', SIZE, 2);
    const named = await serve(w, ['-c', 'db']);
    await w.ok(['add', w.path('other.img')]);
    assert.not.match((await w.run(['info'])).stdout, /served since/);
    await named.stop();
  }));

test('a copy nobody waits for goes on, also after the server was started again', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE);
    const server = await serve(w);
    const words = ['join', w.path('vm.img'), w.path('vm.proxy.img'), '--rate', '1M', '--no-wait'];
    const begun = await w.run(words);
    assert.is(begun.status, 0, begun.stderr);
    assert.match(begun.stdout, /^vm-proxy: being made equal to vm; see `kage info`\n/);
    assert.is((await w.pair('vm-proxy')).state, 'joining');
    await server.stop();
    assert.is((await w.pair('vm-proxy')).state, 'joining');
    const again = await serve(w);
    await untilState(w, 'vm-proxy', 'joined');
    await again.stop();
    assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
  }));

test('Ctrl-C of who waits stops the copy, and the server goes on', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE);
    const server = await serve(w);
    const words = ['join', w.path('vm.img'), w.path('vm.proxy.img')];
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      const waiting = w.start([...words, '--rate', '1M']);
      await sleep(1000);
      assert.is((await w.pair('vm-proxy')).state, 'joining');
      waiting.child.kill(signal);
      const ended = await waiting.ended;
      if (signal === 'SIGINT') {
        assert.is(ended.status, 130, ended.stderr);
        assert.match(ended.stderr, /run the same command again/);
      }
      await until('the log tells of it', () =>
        /join .*stopped at a safe point/.test(server.process.stderr),
      );
      assert.is((await w.pair('vm-proxy')).state, 'joining');
      server.process.stderr = '';
    }
    await w.ok(words);
    assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
    await server.stop();
  }));

test('words and statuses are the same as without a server', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE);
    await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
    const lines = [
      ['rejoin', 'vm-proxy'],
      ['rejoin', 'nothing'],
      ['part', 'vm-proxy', '--dry-run'],
      ['start', 'vm-proxy'],
      ['read', 'vm', '--offset', '7M', '--length', '512'],
      ['write', 'vm', '--offset', '9M'],
      ['join', 'vm', w.path('absent', 'x.img')],
      ['sdxvolume', '-N', '-c', 'nothing'],
      ['verify', 'vm', '--json'],
    ];
    const all = async () => {
      const ended = [];
      for (const line of lines) ended.push(await w.run(line, { input: 'data' }));
      return ended.map(({ status, stdout, stderr }) => [status, stdout, stderr]);
    };
    const without = await all();
    const server = await serve(w);
    assert.equal(await all(), without);
    server.process.child.kill('SIGTERM');
    assert.is((await server.process.ended).status, 0);
  }));

for (const { name, command } of RUNTIMES) {
  check(['qemu-io'], `a short run on ${name}, clients on Node and on ${name}`, async (w) => {
    await partedPair(w);
    const server = await serve(w, [], command);
    for (const [i, runtime] of [NODE, command].entries()) {
      const vm = server.uri('default/vm');
      await run('qemu-io', '-f', 'raw', '-c', `write -P 0x7${i} ${i}M 64k`, '-c', 'flush', vm);
      await w.ok(['rejoin', 'vm-proxy'], { runtime });
      await w.ok(['part', 'vm-proxy'], { runtime });
      assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
    }
    await server.stop();
    const rejoined = await w.ok(['rejoin', 'vm-proxy', '--dry-run']);
    assert.is(rejoined.pairs[0].copy.method, 'differential');
  });
}

test.run();
