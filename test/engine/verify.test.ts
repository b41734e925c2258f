/** `verify` of a class that is in use: who may go on, what is a difference, and what has a checksum. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { KageError } from '../../src/base/errors.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import type { ClassEvent, OwnClass, VerifyReport } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';

const test = suite('engine: verify beside others');
const REGION = 4096;
/** More than is read at once. */
const SIZE = 2 ** 20;

class World {
  readonly host = new MemoryHost(1);
  readonly events: ClassEvent[] = [];
  readonly waiting: (() => void)[] = [];
  disks!: OwnClass;

  /** A pair `m`, `p` that is joined, its disks equal. */
  static async create(): Promise<World> {
    const world = new World();
    for (const name of ['m', 'p']) {
      const disk = world.host.addDisk(`/${name}.img`, SIZE);
      disk.write(new Uint8Array(SIZE).fill(1), 0);
      disk.flush();
    }
    world.disks = await openClass('live', {
      home: '/home',
      host: world.host,
      kernel: 'js',
      create: true,
      live: true,
      onEvent: (event) => world.events.push(event),
    });
    await world.disks.add(
      ['m', 'p'].map((name) => ({ path: `/${name}.img`, name, exclusive: true })),
    );
    await world.disks.join('m', 'p', { regionSize: REGION });
    return world;
  }

  /** Overwrites a byte of an image as a stranger would. */
  scribble(name: string, offset: number): void {
    this.host.disks.get(`/${name}.img`)!.content[offset] ^= 255;
  }

  /** From now on every disk operation waits until one of these lets it go. */
  hold(): void {
    this.host.latency = () => new Promise((resolve) => this.waiting.push(resolve));
  }

  async turn(): Promise<void> {
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  async goOn(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.turn();
      this.waiting.shift()?.();
    }
    await this.turn();
  }

  async finish(): Promise<void> {
    this.host.latency = undefined;
    while (this.waiting.length > 0) await this.goOn(1);
  }
}

type Verdict = VerifyReport['pairs'][number];
const verify = async (world: World): Promise<Verdict> => (await world.disks.verify(['p'])).pairs[0];

/** A promise, and whether it has ended. */
function followed<T>(work: Promise<T>): { readonly work: Promise<T>; ended: boolean } {
  const state = { work, ended: false };
  const end = () => {
    state.ended = true;
  };
  work.then(end, end);
  return state;
}

async function errorOf(work: Promise<unknown>): Promise<KageError> {
  try {
    await work;
  } catch (error) {
    return error as KageError;
  }
  throw new Error('nothing was thrown');
}

test('a write that has reached one side is waited for: it is no difference', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  await master.write(new Uint8Array(10).fill(5), 0);
  world.hold();
  const writing = followed(Promise.resolve(master.write(new Uint8Array(REGION).fill(6), REGION)));
  await world.goOn(2);
  assert.is(world.host.disks.get('/m.img')!.content[REGION], 6);
  assert.is(world.host.disks.get('/p.img')!.content[REGION], 1, 'the other side waits');
  const verifying = followed(verify(world));
  await world.turn();
  // Everything but the write goes on.
  for (let i = 0; i < 100; i++) {
    if (world.waiting.length > 1) world.waiting.pop()!();
    await world.turn();
  }
  assert.equal([verifying.ended, writing.ended], [false, false]);
  await world.finish();
  await writing.work;
  const { differing, unexpected } = await verifying.work;
  assert.equal({ differing, unexpected }, { differing: 0, unexpected: 0 });
  await master.close();
  await world.disks.close();
});

test('beside a writer only what a stranger did is a difference', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  world.scribble('p', 200 * REGION + 5);
  world.host.latency = () => new Promise((resolve) => setImmediate(resolve));
  let stop = false;
  const writer = (async () => {
    for (let i = 0; !stop; i++) {
      await master.write(new Uint8Array(100).fill(i), (((i * 7) % 190) + 0.5) * REGION);
    }
  })();
  for (let i = 0; i < 5; i++) {
    const { differing, unexpected, notes } = await verify(world);
    assert.equal({ differing, unexpected }, { differing: 1, unexpected: 1 });
    assert.is(notes.includes('the next copy will compare everything'), i === 0);
  }
  stop = true;
  await writer;
  await world.turn();
  assert.match((await world.disks.info()).pairs[0].doubt!, /verify found differences/);
  const told = world.events.filter((e) => e.kind === 'differs' || e.kind === 'doubt');
  assert.equal(told.slice(0, 2), [
    { kind: 'differs', master: 'm', proxy: 'p', regions: 1 },
    {
      kind: 'doubt',
      master: 'm',
      proxy: 'p',
      reason: 'verify found differences that no record explains',
    },
  ]);
  await master.close();
  await world.disks.close();
});

test('what a client has changed since the part is known to differ', async () => {
  const world = await World.create();
  await world.disks.part(['p']);
  const master = await world.disks.attach('m');
  await master.write(new Uint8Array(3 * REGION).fill(9), 0);
  world.scribble('p', 100 * REGION);
  const { differing, unexpected } = await verify(world);
  assert.equal({ differing, unexpected }, { differing: 4, unexpected: 1 });
  await master.close();
  await world.disks.close();
});

test('others are let in, also while a disk keeps it waiting', async () => {
  const world = await World.create();
  world.hold();
  const verifying = followed(verify(world));
  await world.goOn(2);
  const attached = await world.disks.attach('m');
  assert.is((await world.disks.info()).pairs[0].state, 'joined');
  assert.is(verifying.ended, false);
  await attached.close();
  await world.finish();
  assert.is((await verifying.work).differing, 0);
  await world.disks.close();
});

test('closing the class stops it; what it has found by then is written down', async () => {
  const world = await World.create();
  world.scribble('p', 5);
  world.hold();
  const verifying = errorOf(verify(world));
  // The first piece, the region that differs, and some of the second piece.
  await world.goOn(9);
  const closing = world.disks.close();
  await world.finish();
  assert.is((await verifying).code, 'interrupted');
  await closing;
  const again = await openClass('live', { home: '/home', host: world.host, kernel: 'js' });
  assert.match((await again.info()).pairs[0].doubt!, /verify found/);
  await again.close();
});

test('a pair that is broken meanwhile', async () => {
  const world = await World.create();
  await world.disks.part(['p']);
  world.hold();
  const verifying = errorOf(verify(world));
  await world.goOn(2);
  const breaking = world.disks.break('p');
  await world.finish();
  await breaking;
  assert.is((await verifying).code, 'wrong-state');
  await world.disks.remove(['p']);
  await world.disks.close();
});

/** Verifies, with `meanwhile` in the middle of it; which sides have a checksum. */
async function hashedBeside(world: World, meanwhile: () => Promise<unknown>): Promise<string[]> {
  world.hold();
  const verifying = verify(world);
  await world.goOn(5);
  const work = meanwhile();
  await world.finish();
  await work;
  const { masterHash, proxyHash, notes } = await verifying;
  const sides = { m: masterHash, p: proxyHash };
  const hashed = Object.entries(sides).filter(([, hash]) => hash !== null);
  assert.is(notes.filter((n) => /^no checksum of [mp]:/.test(n)).length, 2 - hashed.length);
  for (const [, hash] of hashed) assert.match(hash!, /^[0-9a-f]{16}$/);
  return hashed.map(([name]) => name);
}

test('a side that was written while it was read has no checksum', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  const write = async () => master.write(new Uint8Array(10).fill(4), 0);
  assert.equal(await hashedBeside(world, async () => {}), ['m', 'p']);
  assert.equal(await hashedBeside(world, write), [], 'what is written to one reaches the other');
  assert.equal(await hashedBeside(world, () => world.disks.part(['p'])), [], 'a verb');
  assert.equal(await hashedBeside(world, write), ['p'], 'the snapshot stays what it is');
  await master.close();
  assert.equal(await hashedBeside(world, () => world.disks.rejoin(['p'])), [], 'a copy');
  await world.disks.close();
});

test('a write that began before it counts', async () => {
  const world = await World.create();
  await world.disks.part(['p']);
  const master = await world.disks.attach('m');
  world.hold();
  const writing = master.write(new Uint8Array(10).fill(4), SIZE - REGION);
  await world.turn();
  const verifying = verify(world);
  await world.finish();
  await writing;
  const { masterHash, proxyHash } = await verifying;
  assert.is(masterHash, null);
  assert.match(proxyHash!, /^[0-9a-f]{16}$/);
  await master.close();
  await world.disks.close();
});

test('the rate is kept', async () => {
  const world = await World.create();
  const begin = world.host.clock;
  await world.disks.verify(['p'], { rateBytesPerSec: SIZE / 4 });
  const seconds = (world.host.clock - begin) / 1000;
  assert.ok(seconds >= 3 && seconds < 5, `${seconds}`);
  await world.disks.close();
});

test.run();
