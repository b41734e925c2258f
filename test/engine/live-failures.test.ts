/**
 * Disks and state folders that fail under clients while verbs run, at every moment of both: what is
 * believed equal is equal, a snapshot that is no more is read by nobody, and a proxy's trouble is no
 * matter of the master's clients.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import type { MemoryDisk } from '../../src/device/memory-host.ts';
import type { AttachedVolume } from '../../src/engine/api.ts';
import { failing, join, REGION, refused, SIZE, World } from './live-world.ts';

const test = suite('engine: live failures');
/** More operations than any case below has. */
const MOMENTS = 40;

const bytes = (value: number, length = 100) => new Uint8Array(length).fill(value);

function write(volume: AttachedVolume, value: number, region: number): Promise<void> {
  return Promise.resolve().then(() => volume.write(bytes(value), region * REGION));
}

async function outcome(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => 'done',
    (error) => (error instanceof KageError ? error.code : String(error)),
  );
}

/** Everything that is not equal is known to be copied, and is. */
async function becomeEqual(world: World): Promise<void> {
  const { pairs } = await world.disks.verify(['p']);
  assert.is(pairs[0].unexpected, 0, 'believed equal, and is not');
  const { joined } = await world.pair();
  await (joined ? world.disks.join('m', 'p') : world.disks.rejoin(['p']));
  assert.is((await world.disks.verify(['p'])).pairs[0].differing, 0);
}

test('a write that waits while two volumes are swapped goes to the disk that is the master then', async () => {
  for (let moment = 0; moment < MOMENTS; moment++) {
    const world = await World.create();
    await join(world);
    const master = await world.disks.attach('m');
    await write(master, 3, 0);
    world.hold();
    const swap = world.disks.swap('p');
    await world.goOn(moment);
    const writing = write(master, 7, 2);
    await world.until(Promise.all([swap, writing]));
    assert.is(world.byte(world.m, 2), 7, `begun after ${moment} operations`);
    assert.is(world.byte(world.p, 2), 7, `begun after ${moment} operations`);
  }
});

test('whoever reads a snapshot while it fails gets its content or an error', async () => {
  const seen = new Set<string>();
  for (let moment = -10; moment < MOMENTS; moment++) {
    const world = await World.create();
    await world.disks.join('m', 'p', { regionSize: REGION });
    const master = await world.disks.attach('m');
    await world.disks.part(['p']);
    await master.write(bytes(1, SIZE), 0);
    const stopped = new AbortController();
    stopped.abort();
    const { signal } = stopped;
    world.p.write(bytes(2, SIZE), 0);
    await world.disks.update(['p'], { instant: true, signal }).catch(() => {});
    const snapshot = await world.disks.attach('p');
    failing(world.p, 'write');
    world.hold();
    const early = moment < 0 ? undefined : write(master, 7, 5);
    await world.goOn(Math.max(0, moment));
    const into = new Uint8Array(3 * REGION);
    const read = async () => await snapshot.read(into, 0);
    const reading = read().then(
      () => {
        assert.equal([...new Set(into)], [1], `read after ${moment} operations`);
        return 'content';
      },
      (error) => (error as KageError).code,
    );
    await world.goOn(Math.max(0, -moment));
    const writing = early ?? write(master, 7, 5);
    await world.until(Promise.all([writing, reading]));
    assert.is(await outcome(writing), 'done', 'the master goes on');
    seen.add(await reading);
  }
  assert.equal([...seen].sort(), ['content', 'wrong-state']);
});

/** Clients that write to the master, and flush, until the answer is called. */
function writers(world: World, master: AttachedVolume): () => Promise<string> {
  let ended = false;
  const one = async (lane: number) => {
    for (let i = 0; !ended; i++) {
      await world.host.latency?.();
      await write(master, 10 + i, lane + 4 * (i % 2));
      if (i % 5 === 4) await master.flush();
    }
  };
  const all = Promise.all([0, 1, 2, 3].map(one));
  return () => {
    ended = true;
    return outcome(all);
  };
}

for (const operation of ['write', 'flush'] as const) {
  test(`a joined proxy whose ${operation} fails under verbs: no snapshot, nothing lost, the master goes on`, async () => {
    const seen = new Set<string>();
    for (let i = 0; i < 3 * MOMENTS; i++) {
      const [n, later] = [1 + Math.floor(i / 4), i % 4];
      const world = await World.create();
      world.host.syncsFailForGood = true;
      await join(world);
      await world.disks.part(['p']);
      const master = await world.disks.attach('m');
      await master.write(bytes(4, 3 * REGION), 0);
      world.hold();
      const verbs = (async () => {
        const end = writers(world, master);
        failing(world.p, operation, n);
        const rejoin = await outcome(world.disks.rejoin(['p']));
        // Not yet, or it was given up before, or it is now.
        if (rejoin !== 'done') assert.is((await world.pair()).state === 'joined', false);
        for (let wait = 0; wait < later; wait++) await world.host.latency!();
        const part = await outcome(world.disks.part(['p']));
        assert.is(await end(), 'done', `the ${n}th ${operation} of the proxy fails`);
        return part;
      })();
      await world.until(verbs);
      const part = await verbs;
      await world.finish();
      seen.add(part);
      world.p.fault = undefined;
      const { state } = await world.pair();
      if (part === 'done') assert.is(state, 'parted', `${n}`);
      const isSnapshot = (await outcome(world.disks.attach('p').then((p) => p.close()))) === 'done';
      assert.is(isSnapshot, state === 'parted', `${n}: ${state}`);
      // Closed in order nothing is in the log that would hide what was forgotten.
      await master.close();
      await world.disks.close().catch(() => world.host.killProcesses());
      await world.open();
      await becomeEqual(world);
    }
    assert.ok(seen.has('done') && seen.size > 1, [...seen].join());
  });
}

test('a copy during which the proxy failed under a client has not succeeded', async () => {
  const seen = new Set<string>();
  for (let n = 1; n <= 2 * MOMENTS; n++) {
    const world = await World.create();
    await join(world);
    await world.disks.part(['p']);
    const master = await world.disks.attach('m');
    await master.write(bytes(4, 3 * REGION), 0);
    world.hold();
    const verbs = (async () => {
      const end = writers(world, master);
      failing(world.p, 'write', n);
      const rejoin = await outcome(world.disks.rejoin(['p']));
      const pair = await world.pair();
      assert.is(await end(), 'done');
      if (rejoin === 'done') assert.is.not(pair.state, 'invalid', `the ${n}th write fails`);
      return rejoin;
    })();
    await world.until(verbs);
    await world.finish();
    seen.add(await verbs);
  }
  assert.equal([...seen].sort(), ['done', 'io-error']);
});

test('a proxy that fails while another one is copied first is no snapshot', async () => {
  const seen = new Set<string>();
  for (let n = 1; n <= MOMENTS / 2; n++) {
    const world = await World.create();
    const q = world.host.addDisk('/q.img', SIZE);
    await world.disks.add([{ path: '/q.img', name: 'q', exclusive: true }]);
    await world.disks.join('m', 'q', { regionSize: REGION });
    const stopped = new AbortController();
    stopped.abort();
    await world.disks
      .join('m', 'p', { regionSize: REGION, signal: stopped.signal })
      .catch(() => {});
    const master = await world.disks.attach('m');
    // Something is left to be copied to the second one, too.
    failing(world.m, 'write');
    await outcome(write(master, 3, 7));
    world.hold();
    const verbs = (async () => {
      const end = writers(world, master);
      failing(q, 'write', n);
      const part = await outcome(world.disks.part(['p', 'q']));
      assert.is(await end(), 'done');
      return part;
    })();
    await world.until(verbs);
    await world.finish();
    seen.add(await verbs);
    const pair = (await world.disks.info()).pairs.find(({ proxy }) => proxy === 'q')!;
    const isSnapshot = !pair.joined && pair.state !== 'invalid';
    assert.is(isSnapshot, (await verbs) === 'done', `the ${n}th write of the second one fails`);
  }
  assert.ok(seen.has('io-error'), [...seen].join());
});

test('a snapshot whose sync fails while a write to the master settles a region is given up', async () => {
  const seen = new Set<string>();
  for (let n = 1; n <= MOMENTS; n++) {
    const world = await World.create();
    await join(world);
    await world.disks.part(['p']);
    const master = await world.disks.attach('m');
    await master.write(bytes(4, SIZE), 0);
    world.hold();
    const verbs = (async () => {
      await world.disks.update(['p'], { instant: true, wait: false });
      failing(world.p, 'flush', n, true);
      for (let i = 0; i < 8; i++) {
        await world.host.latency!();
        await write(master, 5 + i, i);
      }
    })();
    await world.until(verbs);
    await world.finish();
    assert.is(await outcome(verbs), 'done', `the ${n}th sync of the proxy fails`);
    seen.add((await world.pair()).state);
    world.p.fault = undefined;
    world.host.killProcesses();
    await world.open();
    await becomeEqual(world);
  }
  assert.ok(seen.has('invalid') && seen.has('parted'), [...seen].join());
});

test('what a lost server had not made durable is copied to it again', async () => {
  const seen = new Set<string>();
  for (let n = 1; n <= MOMENTS; n++) {
    const world = await World.create(true, 'nbd://elsewhere/p');
    world.host.syncsFailForGood = true;
    await join(world);
    await world.disks.part(['p']);
    const master = await world.disks.attach('m');
    await master.write(bytes(4, 3 * REGION), 5 * REGION);
    world.hold();
    const verbs = (async () => {
      await world.disks.rejoin(['p'], { wait: false });
      // Written on both sides, and synced on neither, when the copy's own sync fails.
      failing(world.p, 'flush', n);
      for (const region of [1, 2, 3]) await write(master, 8, region);
    })();
    await world.until(verbs);
    await world.finish();
    for (let i = 0; i < 20; i++) await world.turn();
    seen.add((await world.pair()).state);
    world.p.fault = undefined;
    const { joined } = await world.pair();
    await (joined ? world.disks.join('m', 'p') : world.disks.rejoin(['p'])).catch(() => {});
    await master.close();
    await world.disks.close();
    const { state } = await world.open().then(() => world.pair());
    assert.is(state, 'joined');
    assert.is(Buffer.compare(world.p.durable, world.m.durable), 0, `the ${n}th sync failed`);
  }
  assert.ok(seen.has('invalid') && seen.has('joined'), [...seen].join());
});

/** From now on devices of a server are lost with it for good, as our client gives them up. */
function loseable(world: World): { down: boolean } {
  const server = { down: false };
  let lost = 0;
  const open = world.host.openDevice.bind(world.host);
  world.host.openDevice = async (path, options) => {
    const device = await open(path, options);
    if (!path.startsWith('nbd://')) return device;
    const required = () => {
      if (server.down) lost = Math.max(lost, born);
      if (born <= lost) throw new KageError('io-error', `${path}: the server was lost`);
    };
    const born = ++opened;
    required();
    return new Proxy(device, {
      get(target, key) {
        const value = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          if (key === 'flush')
            return Promise.resolve()
              .then(required)
              .then(() => target.flush());
          if (key === 'read' || key === 'write') required();
          return value.apply(target, args);
        };
      },
    });
  };
  let opened = 0;
  return server;
}

for (const joined of [false, true]) {
  test(`a lost server that is back is reached by the next verb: ${joined ? 'joined' : 'parted'}`, async () => {
    const world = await World.create(true, 'nbd://elsewhere/p');
    const server = loseable(world);
    await join(world);
    const master = await world.disks.attach('m');
    await write(master, 3, 2);
    if (!joined) await world.disks.part(['p']);
    await write(master, 4, 5);
    server.down = true;
    const verb = () => (joined ? world.disks.part(['p']) : world.disks.rejoin(['p']));
    assert.is((await refused(verb())).code, 'io-error');
    assert.is((await refused(verb())).code, joined ? 'wrong-state' : 'io-error');
    assert.is(await outcome(write(master, 6, 1)), 'done', 'the master goes on');
    server.down = false;
    // What was written to one side alone while it was away has made it INVALID.
    if (joined) assert.is((await world.pair()).state, 'invalid');
    const report = await world.disks.rejoin(['p']);
    assert.is(report.pairs[0].copy?.method, 'differential');
    assert.is((await world.disks.verify(['p'])).pairs[0].differing, 0);
    await world.disks.part(['p']);
    assert.is(world.byte(world.p, 1), 6);
    await master.close();
    await world.disks.close();
  });
}

test('what a lost server had not synced is copied again before its side is a snapshot', async () => {
  const world = await World.create(true, 'nbd://elsewhere/p');
  const server = loseable(world);
  await join(world);
  const master = await world.disks.attach('m');
  await write(master, 3, 2);
  server.down = true;
  // It had not synced that.
  world.p.content.set(world.p.durable);
  assert.is(world.byte(world.p, 2), 1);
  assert.is((await refused(world.disks.verify(['p']))).code, 'io-error');
  server.down = false;
  await world.disks.part(['p']);
  assert.is(world.byte(world.p, 2), 3, 'copied again');
  await master.close();
  await world.disks.close();
});

test('a failed proxy is not said to be a snapshot', async () => {
  const world = await World.create();
  await join(world);
  const master = await world.disks.attach('m');
  failing(world.p, 'write');
  await write(master, 3, 2);
  const error = await refused(world.disks.part(['p']));
  assert.match(error.message, /p is INVALID and no snapshot/);
  assert.match(error.hint ?? '', /kage rejoin p/);
});

// State folders

function stateFails(world: World, which: RegExp, code: 'disk-full' | 'io-error' = 'disk-full') {
  world.host.stateFault = (operation, name) => {
    if (operation === 'write' && which.test(name)) throw new KageError(code, `${name}: no room`);
  };
}

test('a full state folder costs no client anything that needs no room there', async () => {
  const world = await World.create();
  await join(world);
  const master = await world.disks.attach('m');
  await write(master, 4, 0);
  stateFails(world, /^root/);
  assert.is((await refused(world.disks.lock(['m']))).code, 'disk-full');
  assert.is((await refused(world.disks.part(['p']))).code, 'disk-full');
  assert.is(await outcome(write(master, 5, 0)), 'done');
  assert.is(await outcome(Promise.resolve(master.flush())), 'done');
  world.host.stateFault = undefined;
  await world.disks.part(['p']);
  assert.is(world.byte(world.p, 0), 5);
  await world.disks.close();
  await world.open();
  await becomeEqual(world);
});

/** The next write of the disk fails in its middle. */
function tearing(disk: MemoryDisk): void {
  disk.fault = (operation, _, offset) => {
    if (operation !== 'write') return;
    disk.fault = undefined;
    disk.write(bytes(99, 10), offset);
    throw new KageError('disk-full', `${disk.name}: no room left on the disk`);
  };
}

for (const [side, what] of [
  ['m', /^root|^pair/],
  ['m', /^root/],
  ['p', /^root|^pair/],
  ['p', /^root/],
] as const) {
  test(`a full disk under ${side} and ${what.source}: nothing is believed equal until there is room`, async () => {
    const world = await World.create();
    await world.disks.close();
    world.extentsMax = 4;
    await world.open();
    await join(world);
    const master = await world.disks.attach('m');
    await write(master, 4, 0);
    await master.flush();
    stateFails(world, what);
    tearing(world[side]);
    assert.is.not(await outcome(write(master, 5, 0)), 'done');
    // Through the whole log and back: the extent must not leave it.
    for (let region = 1; region < 8; region++) await outcome(write(master, 6, region));
    world.host.killProcesses();
    world.host.stateFault = undefined;
    await world.open();
    await becomeEqual(world);
  });

  test(`a full disk under ${side} and ${what.source}, and then there is room`, async () => {
    const world = await World.create();
    await join(world);
    const master = await world.disks.attach('m');
    await write(master, 4, 0);
    stateFails(world, what);
    failing(world[side], 'write');
    assert.is.not(await outcome(write(master, 5, 0)), 'done');
    world.host.stateFault = undefined;
    // The first root since is the one that follows the last good one.
    await world.disks.lock(['m']);
    world.host.killProcesses();
    await world.open();
    const again = await world.disks.attach('m');
    assert.is(await outcome(write(again, 7, 0)), 'done');
    assert.is(await outcome(Promise.resolve(again.flush())), 'done');
    assert.is((await world.pair()).state, side === 'm' ? 'joining' : 'invalid');
    await becomeEqual(world);
    assert.is(world.byte(world.p, 0), 7);
  });
}

test('a verb whose commit fails leaves a snapshot as it is, also under the writes that waited', async () => {
  const world = await World.create();
  const trouble: string[] = [];
  await world.disks.close();
  await world.open((event) => void (event.kind === 'broken' && trouble.push(event.reason)));
  await join(world);
  await world.disks.part(['p']);
  const master = await world.disks.attach('m');
  await master.write(bytes(4, SIZE), 0);
  stateFails(world, /^pair/);
  world.hold();
  const rejoin = world.disks.rejoin(['p']);
  const writes = (async () => {
    const all: Promise<string>[] = [];
    for (let i = 0; i < 60; i++) {
      await world.host.latency!();
      all.push(outcome(write(master, 5, i % 8)));
    }
    return await Promise.all(all);
  })();
  await world.until(Promise.all([outcome(rejoin), writes]));
  await world.finish();
  const error = await refused(rejoin);
  assert.match(`${error.message} ${error.hint}`, /no room .*restart the server/);
  const outcomes = await writes;
  assert.equal([...new Set(outcomes)].sort(), ['done', 'failed']);
  assert.match((await refused(world.disks.attach('m'))).message, /could not be written down/);
  assert.is(trouble.length, 1);
  world.host.killProcesses();
  world.host.stateFault = undefined;
  await world.open();
  const { state } = await world.pair();
  assert.is(state, 'parted');
  assert.equal([...new Set(world.p.content)], [1], 'the snapshot');
  await becomeEqual(world);
});

test.run();
