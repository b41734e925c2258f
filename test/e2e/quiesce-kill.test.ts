/** Servers and clients that are killed or stopped around a freeze: thawed all the same, and nobody waits for ever. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { exists, NODE, sleep, until } from '../support/world.ts';
import { withPair } from './quiesce-support.ts';
import { serve } from './serve-support.ts';

const test = suite('quiesce: kill');

test('a server that is killed during the freeze: its client thaws, and nothing was parted', () =>
  withPair(async (c) => {
    const { pid } = c.server.process.child;
    const ended = await c.run(c.words(`kill -9 ${pid}; sleep 0.2`));
    assert.is(ended.status, 1, ended.stderr);
    assert.match(ended.stderr, /the server ended before it answered/);
    assert.match(c.log, /thawed\n$/);
    assert.is(c.log.match(/thawed/g)?.length, 1);
    await c.server.kill();
    const again = await serve(c.w);
    assert.is(await c.state(), 'joined');
    await c.w.ok(['part', 'vm-proxy']);
    await again.stop();
  }));

test('a server that dies in the commit after the switch: thawed once, and the pair is as before', () =>
  withPair(
    async (c) => {
      const env = { KAGE_FAULT: 'commit:maps-written' };
      const server = await serve(c.w, [], NODE, env);
      const ended = await c.run(c.words());
      assert.is(ended.status, 1, ended.stderr);
      await server.process.ended;
      assert.is(c.log, 'frozen\nthawed\n');
      assert.is(await c.state(), 'joined');
      const again = await serve(c.w);
      await c.w.ok(['part', 'vm-proxy']);
      await again.stop();
    },
    { served: false },
  ));

test('a server that is stopped (SIGTERM) during the freeze ends in order, and all is thawed', () =>
  withPair(async (c) => {
    const { child } = c.server.process;
    const part = c.start(c.words(`kill ${child.pid}; ${c.halt('halt')}`));
    const ended = await part.ended;
    assert.is(ended.status, 130, ended.stderr);
    assert.match(c.log, /^thawed\n$/);
    assert.is((await c.server.process.ended).status, 0);
    assert.is(await c.state(), 'joined');
  }));

test('a server that hangs past the time limit is thawed without it, and switches no more', () =>
  withPair(async (c) => {
    const { child } = c.server.process;
    const client = await c.attach();
    const part = c.start(c.words(`kill -STOP ${child.pid}`, 'true', '--timeout', '1'));
    await until('it is thawed', () => c.log.includes('thawed'));
    assert.match(part.stderr, /the instant does not come: thawing/);
    child.kill('SIGCONT');
    const ended = await part.ended;
    assert.is(ended.status, 1, ended.stderr);
    assert.match(ended.stderr, /part vm-proxy: given up 1\.0 s after the freeze began/);
    assert.is(c.log, 'frozen\nthawed\n');
    assert.is(await c.state(), 'joined');
    await client.close();
    await c.server.kill();
  }));

test('a client that is killed during its freeze keeps neither the server nor others', () =>
  withPair(async (c) => {
    const client = await c.attach();
    const part = c.start(c.words(c.halt('halt')));
    await until('the freeze runs', () => exists(c.w.path('halt')));
    let writes = 0;
    let writing = true;
    const writer = (async () => {
      while (writing) {
        await client.write(new Uint8Array(4096).fill(writes), (writes % 64) * 4096);
        writes++;
      }
    })();
    await sleep(200);
    assert.ok(writes > 0, 'clients go on while it is frozen');
    part.child.kill('SIGKILL');
    // Its freeze goes on, and holds what `ended` waits for.
    await new Promise((resolve) => part.child.once('exit', resolve));
    const before = writes;
    const other = await c.run(['part', 'vm-proxy']);
    assert.is(other.status, 0, other.stderr);
    assert.ok(exists(c.w.path('halt')), 'it did not have to wait for that freeze');
    await sleep(100);
    assert.ok(writes > before);
    writing = false;
    await writer;
    await client.close();
    fs.rmSync(c.w.path('halt'), { force: true });
    assert.match(c.server.process.stderr, /part vm-proxy: the connection ended during the freeze/);
    await c.server.stop();
  }));

test.run();
