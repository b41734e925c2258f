/** A class that clients use meanwhile: what verbs refuse, what they wait for, what a flush covers. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { openClass } from '../../src/engine/open.ts';
import { contentOf, join, REGION, refused, SIZE, World } from './live-world.ts';

const test = suite('engine: live');
test('a volume is attached only in a live class, and while it is whole', async () => {
  const world = await World.create();
  await world.disks.close();
  const cold = await openClass('live', { home: '/home', host: world.host, kernel: 'js' });
  assert.match((await refused(cold.attach('m'))).message, /not opened live/);
  await cold.close();
  await world.open();
  await join(world);
  assert.is((await refused(world.disks.attach('p'))).code, 'wrong-state');
});

test('verbs that need a volume to themselves are refused while it is in use', async () => {
  const world = await World.create();
  await join(world);
  await world.disks.part(['p']);
  const proxy = await world.disks.attach('p');
  const master = await world.disks.attach('m');
  for (const verb of ['rejoin', 'update', 'restore'] as const) {
    const error = await refused(world.disks[verb](['p']));
    assert.is(error.code, 'wrong-state', verb);
    assert.match(error.message, /^[mp]: is in use \(1 user\)/);
  }
  await proxy.close();
  assert.match((await refused(world.disks.restore(['p']))).message, /m: is in use/);
  await world.disks.restore(['p'], { live: true });
  assert.equal((await world.pair()).state, 'joined');
  await master.close();
});

test('by force a volume is stopped under its clients; what they wrote and flushed is there', async () => {
  const world = await World.create();
  await join(world);
  const master = await world.disks.attach('m');
  await master.write(Uint8Array.of(7), 3 * REGION);
  await master.flush();
  await world.disks.stop(['m'], { force: true });
  assert.throws(() => master.write(Uint8Array.of(1), 0), /m: was stopped/);
  assert.throws(() => master.read(new Uint8Array(1), 0), /m: was stopped/);
  assert.match((await refused(world.disks.attach('m'))).message, /m: is stopped/);
  await master.close();
  await world.disks.part(['p']);
  const proxy = await world.disks.attach('p');
  assert.equal(await contentOf(proxy), [1, 1, 1, 7, 1, 1, 1, 1]);
  await proxy.close();
});

test('what is in use is neither stopped nor forgotten', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  assert.match((await refused(world.disks.stop(['m']))).message, /m: is in use/);
  assert.match((await refused(world.disks.remove(['m']))).message, /m: is in use/);
  await master.close();
  await world.disks.stop(['m']);
});

test('a class that is closed in the middle of an instant snapshot keeps it', async () => {
  const world = await World.create(false);
  world.hold();
  const joining = join(world, false);
  while ((await Promise.race([joining.then(() => 'done'), world.goOn(1)])) !== 'done');
  const part = world.disks.part(['p'], { instant: true, wait: false });
  while ((await Promise.race([part.then(() => 'done'), world.goOn(1)])) !== 'done');
  // The copy goes on writing to the proxy after the part looked at it.
  await world.goOn(12);
  const closing = world.disks.close();
  await world.finish();
  await closing;
  await world.open();
  assert.is((await world.pair()).state, 'copying');
  const proxy = await world.disks.attach('p', { readOnly: true });
  assert.equal(await contentOf(proxy), [1, 1, 1, 1, 1, 1, 1, 1]);
});

test('a snapshot of a part is the master of that moment, whatever is written then', async () => {
  const world = await World.create();
  await join(world);
  const master = await world.disks.attach('m');
  await world.disks.part(['p']);
  await master.write(new Uint8Array(REGION).fill(9), 2 * REGION);
  const proxy = await world.disks.attach('p', { readOnly: true });
  assert.equal(await contentOf(proxy), [1, 1, 1, 1, 1, 1, 1, 1]);
  assert.equal(await contentOf(master), [1, 1, 9, 1, 1, 1, 1, 1]);
  assert.equal((await world.pair()).changedRegions, 1);
  assert.is(
    (await refused(Promise.resolve().then(() => proxy.write(new Uint8Array(1), 0)))).code,
    'not-permitted',
  );
});

test('a part that waits for a copy can be given up, and the copy goes on', async () => {
  const world = await World.create();
  world.hold();
  const joining = join(world, false);
  while ((await Promise.race([joining.then(() => 'done'), world.goOn(1)])) !== 'done');
  const stop = new AbortController();
  const part = refused(world.disks.part(['p'], { signal: stop.signal }));
  await world.turn();
  stop.abort();
  assert.is((await part).code, 'interrupted');
  assert.is((await world.pair()).state, 'joining');
  await world.finish();
  for (let i = 0; i < 100 && (await world.pair()).pendingRegions > 0; i++) await world.turn();
  assert.is((await world.pair()).state, 'joined');
});

test('an instant part while the first copy runs keeps what clients overwrite', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  world.hold();
  const joining = join(world, false);
  while ((await Promise.race([joining.then(() => 'done'), world.goOn(1)])) !== 'done');
  const part = world.disks.part(['p'], { instant: true });
  while ((await Promise.race([part.then(() => 'done'), world.goOn(1)])) !== 'done');
  assert.ok((await world.pair()).pendingRegions > 0, 'the copy is still under way');
  assert.is((await world.pair()).state, 'copying');
  const write = Promise.resolve(master.write(new Uint8Array(SIZE).fill(7), 0));
  await world.finish();
  await write;
  await master.flush();
  const proxy = await world.disks.attach('p');
  assert.equal(await contentOf(proxy), [1, 1, 1, 1, 1, 1, 1, 1]);
  assert.equal(await contentOf(master), [7, 7, 7, 7, 7, 7, 7, 7]);
});

test('an instant part of a copy that nobody runs any more brings the rest', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  const stopped = new AbortController();
  stopped.abort();
  const { signal } = stopped;
  await refused(world.disks.join('m', 'p', { regionSize: REGION, signal }));
  assert.is((await world.pair()).pendingRegions, 8);
  await world.disks.part(['p'], { instant: true, wait: false });
  const proxy = await world.disks.attach('p', { readOnly: true });
  await master.write(new Uint8Array(SIZE).fill(7), 0);
  assert.equal(await contentOf(proxy), [1, 1, 1, 1, 1, 1, 1, 1]);
  for (let i = 0; i < 200 && (await world.pair()).pendingRegions > 0; i++) await world.turn();
  assert.is((await world.pair()).state, 'parted');
  assert.equal(await contentOf(proxy), [1, 1, 1, 1, 1, 1, 1, 1]);
});

test('an instant part that a crash cut short is finished by an update, at its own moment', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  world.hold();
  const joining = join(world, false);
  while ((await Promise.race([joining.then(() => 'done'), world.goOn(1)])) !== 'done');
  const part = world.disks.part(['p'], { instant: true, wait: false });
  while ((await Promise.race([part.then(() => 'done'), world.goOn(1)])) !== 'done');
  world.host.cutPower();
  await world.finish();
  await world.open();
  const again = await world.disks.attach('m');
  assert.is((await world.pair()).state, 'copying');
  await again.write(new Uint8Array(REGION).fill(7), 0);
  const report = await world.disks.update(['p'], { instant: true });
  assert.match(report.pairs[0].notes.join(), /finishes what was begun/);
  const proxy = await world.disks.attach('p', { readOnly: true });
  assert.equal(await contentOf(proxy), [1, 1, 1, 1, 1, 1, 1, 1]);
  await master.close();
});

test('an instant restore is read from the proxy at once, and what is written stays', async () => {
  const world = await World.create();
  await join(world);
  const master = await world.disks.attach('m');
  await world.disks.part(['p']);
  await master.write(new Uint8Array(SIZE).fill(9), 0);
  world.hold();
  const restore = world.disks.restore(['p'], { live: true, instant: true, wait: false });
  while ((await Promise.race([restore.then(() => 'done'), world.goOn(1)])) !== 'done');
  assert.ok((await world.pair()).pendingRegions > 0, 'the copy is still under way');
  const reading = contentOf(master);
  const writing = Promise.resolve(master.write(new Uint8Array(100).fill(5), 6 * REGION + 50));
  await world.finish();
  assert.equal((await reading).slice(0, 6), [1, 1, 1, 1, 1, 1], 'while it was being copied');
  await writing;
  const into = new Uint8Array(REGION);
  await master.read(into, 6 * REGION);
  assert.equal([into[0], into[50], into[149], into[150]], [1, 5, 5, 1]);
  assert.equal((await contentOf(master)).slice(0, 6), [1, 1, 1, 1, 1, 1]);
});

test('a flush clears what was filled before its syncs, and nothing that was filled after', async () => {
  const world = await World.create();
  await join(world);
  const master = await world.disks.attach('m');
  await world.disks.part(['p']);
  await master.write(new Uint8Array(SIZE).fill(9), 0);
  await master.flush();
  // The copy of the restore is stopped at once: all that is left pending is for clients to fill.
  const stopped = new AbortController();
  stopped.abort();
  await world.disks
    .restore(['p'], { live: true, instant: true, signal: stopped.signal })
    .catch(() => {});
  assert.is((await world.pair()).pendingRegions, 8);
  await master.write(new Uint8Array(REGION).fill(5), 0);
  world.hold();
  const flush = master.flush();
  await world.turn();
  world.host.latency = undefined;
  // The flush waits in its first sync.
  await master.write(new Uint8Array(REGION).fill(5), 3 * REGION);
  await world.finish();
  await flush;
  assert.is((await world.pair()).pendingRegions, 7, 'only the first is durably on the master');
  world.host.cutPower();
  await world.open();
  const again = await world.disks.attach('m');
  const content = await contentOf(again);
  assert.is(content[0], 5, 'flushed');
  assert.ok([1, 5].includes(content[3]), 'the snapshot, or what was written and not flushed');
});

test('what clients use is not made INVALID by a cancel', async () => {
  const world = await World.create();
  await join(world);
  const master = await world.disks.attach('m');
  await world.disks.part(['p']);
  await master.write(new Uint8Array(SIZE).fill(9), 0);
  const stopped = new AbortController();
  stopped.abort();
  const { signal } = stopped;
  await world.disks
    .restore(['p'], { keep: true, live: true, instant: true, signal })
    .catch(() => {});
  assert.is((await world.pair()).state, 'restoring');
  const proxy = await world.disks.attach('p');
  assert.match((await refused(world.disks.cancel('p'))).message, /^m: is in use/);
  await proxy.close();
  assert.match((await refused(world.disks.break('p', { restore: true }))).message, /^m: is in use/);
  await master.close();
  await world.disks.cancel('p');
  assert.is((await world.pair()).state, 'invalid');
});

test('what a verb that is refused would have stopped goes on', async () => {
  const world = await World.create();
  await join(world);
  await world.disks.attach('m');
  await world.disks.part(['p']);
  world.hold();
  const update = world.disks.update(['p'], { instant: true, compare: true, wait: false });
  while ((await Promise.race([update.then(() => 'done'), world.goOn(1)])) !== 'done');
  const restore = refused(world.disks.restore(['p'], { live: true }));
  await world.finish();
  assert.match((await restore).message, /a copy from the master to the proxy is unfinished/);
  for (let i = 0; i < 100 && (await world.pair()).pendingRegions > 0; i++) await world.turn();
  assert.is((await world.pair()).state, 'parted');
});

for (const operation of ['write', 'flush'] as const) {
  test(`a joined proxy that fails a ${operation} is parted before its client hears of anything`, async () => {
    const world = await World.create();
    await join(world);
    const master = await world.disks.attach('m');
    await master.write(new Uint8Array(REGION).fill(4), 0);
    await master.flush();
    world.host.disks.get('/p.img')!.fault = (op) => {
      if (op === operation) throw new KageError('io-error', 'p: fault');
    };
    await Promise.all([2, 3].map((r) => master.write(new Uint8Array(REGION).fill(6), r * REGION)));
    await master.flush();
    world.host.disks.get('/p.img')!.fault = undefined;
    // What the answer promised holds whatever happens next.
    world.host.cutPower();
    await world.open();
    const pair = await world.pair();
    assert.is(pair.joined, false);
    assert.is(pair.state, 'invalid');
    assert.is((await refused(world.disks.attach('p'))).code, 'wrong-state');
    const again = await world.disks.attach('m');
    assert.equal((await contentOf(again)).slice(0, 4), [4, 1, 6, 6]);
    const report = await world.disks.rejoin(['p']);
    assert.is(report.pairs[0].copy!.method, 'differential');
    assert.is((await world.disks.verify(['p'])).pairs[0].differing, 0);
  });
}

test('when the master itself fails, its client is told, and the proxy is copied to again', async () => {
  const world = await World.create();
  await join(world);
  const master = await world.disks.attach('m');
  await master.write(new Uint8Array(REGION).fill(4), 0);
  let left = 1;
  world.host.disks.get('/m.img')!.fault = (op) => {
    if (op === 'write' && left-- > 0) throw new KageError('io-error', 'm: fault');
  };
  const writing = Promise.resolve().then(() => master.write(new Uint8Array(REGION).fill(6), 0));
  assert.is((await refused(writing)).code, 'io-error');
  assert.is((await world.pair()).pendingRegions, 1);
  await world.disks.rejoin(['p']);
  assert.is((await world.disks.verify(['p'])).pairs[0].differing, 0);
});

test('a client who comes and goes while a copy runs is not taken for a stranger', async () => {
  for (const write of ['attached', 'by name'] as const) {
    const world = await World.create(false);
    await join(world);
    await world.disks.part(['p']);
    await world.disks.write('m', 0, new Uint8Array(SIZE).fill(5));
    let paused = true;
    const sleep = world.host.sleep.bind(world.host);
    world.host.sleep = async (ms) => {
      await sleep(ms);
      while (paused) await world.turn();
    };
    const slow = { wait: false, rateBytesPerSec: 700 };
    await world.disks.update(['p'], { instant: true, ...slow });
    await world.turn();
    if (write === 'attached') {
      const client = await world.disks.attach('m');
      await client.write(Uint8Array.of(9), 0);
      await client.close();
    } else {
      await world.disks.write('m', 0, Uint8Array.of(9));
    }
    paused = false;
    while ((await world.pair()).state === 'copying') await world.turn();
    assert.is((await world.pair()).state, 'parted', write);
    assert.equal(await world.disks.read('p', 0, 1), Uint8Array.of(5));
  }
});

test.run();
