/** A look at a class waits for nobody and belongs to one moment; what happens is told once. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { setFaultHook } from '../../src/base/faults.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import type { ClassEvent, OwnClass, PairLook } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';

const test = suite('engine: look');
const REGION = 4096;
const SIZE = 8 * REGION;

class World {
  readonly host = new MemoryHost(1);
  readonly events: ClassEvent[] = [];
  readonly waiting: (() => void)[] = [];
  disks!: OwnClass;

  static async create(): Promise<World> {
    const world = new World();
    for (const name of ['m', 'p']) world.host.addDisk(`/${name}.img`, SIZE).flush();
    await world.open();
    await world.disks.add(
      ['m', 'p'].map((name) => ({ path: `/${name}.img`, name, exclusive: true })),
    );
    return world;
  }

  async open(): Promise<void> {
    this.disks = await openClass('live', {
      home: '/home',
      host: this.host,
      kernel: 'js',
      create: true,
      live: true,
      tuning: { extentSize: REGION, extentsMax: 8, pieceSize: REGION },
      onEvent: (event) => this.events.push(event),
    });
  }

  join(more = {}) {
    return this.disks.join('m', 'p', { regionSize: REGION, ...more });
  }

  get pair(): PairLook {
    return this.disks.look().pairs[0];
  }

  /** From now on every disk operation waits until `goOn` lets it go. */
  hold(): void {
    this.host.latency = () => new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Lets one operation go on, as far as it comes; false: none waits. */
  async goOn(): Promise<boolean> {
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
    const next = this.waiting.shift();
    next?.();
    return next !== undefined;
  }

  async finish(): Promise<void> {
    this.host.latency = undefined;
    while (await this.goOn());
  }
}

/** Of each event what is the same in every run. */
const kinds = (events: readonly ClassEvent[]) =>
  events.map((e) => (e.kind === 'copy-ended' ? `${e.kind} ${e.end}` : e.kind));

test('a look answers while a call and a copy wait for a disk', async () => {
  const world = await World.create();
  world.hold();
  const joining = world.join();
  let most = 0;
  for (let i = 0; world.pair?.copy == null && i < 1000; i++) await world.goOn();
  assert.is(world.pair.state, 'joining');
  assert.is(world.pair.pendingBytes, SIZE);
  for (let i = 0; i < 1000 && world.pair.copy !== null; i++) {
    most = Math.max(most, world.pair.copy.doneBytes);
    assert.is(world.pair.copy.totalBytes, SIZE);
    await world.goOn();
  }
  assert.ok(most > 0, 'it has come further');
  await world.finish();
  await joining;
  const { state, pendingBytes, copy, copies, lastWhole, lastCopyAt } = world.pair;
  assert.equal({ state, pendingBytes, copy }, { state: 'joined', pendingBytes: 0, copy: null });
  assert.equal(copies, [{ method: 'compare', end: 'done', count: 1 }]);
  assert.match(lastWhole!.reason, /first copy/);
  assert.ok(lastCopyAt !== null);
  await world.disks.close();
});

test('records and maps of a look belong together, at every step of a verb', async () => {
  const world = await World.create();
  await world.join();
  await world.disks.part(['p']);
  const master = await world.disks.attach('m');
  await master.write(new Uint8Array(2 * REGION).fill(1), 0);
  world.hold();
  const seen = new Set<string>();
  const rejoining = world.disks.rejoin(['p']);
  let ended = false;
  void rejoining.finally(() => {
    ended = true;
  });
  for (let i = 0; !ended && i < 2000; i++) {
    const { state, changedBytes, pendingBytes } = world.pair;
    seen.add(`${state} ${changedBytes / REGION} ${pendingBytes / REGION}`);
    await world.goOn();
  }
  await world.finish();
  await rejoining;
  seen.add(`${world.pair.state} 0 0`);
  // The last one but one: clear bits are being written down.
  assert.equal([...seen], ['parted 2 0', 'joining 0 2', 'joining 0 0', 'joined 0 0']);
  assert.is(world.disks.look().volumes[0].users, 1);
  await master.close();
  await world.disks.close();
});

test('the times of snapshot and copies outlive the session, a differential copy hides no other', async () => {
  const world = await World.create();
  await world.join();
  assert.is(world.pair.snapshotAt, null);
  world.host.clock += 1000;
  await world.disks.part(['p']);
  const at = world.pair.snapshotAt!;
  await world.disks.write('m', 0, new Uint8Array(10).fill(3));
  world.host.clock += 1000;
  await world.disks.rejoin(['p']);
  await world.disks.close();
  await world.open();
  const { snapshotAt, lastWhole, copies, lastCopyAt } = world.pair;
  assert.is(snapshotAt, at, 'joined again since');
  assert.is(lastWhole?.method, 'compare');
  assert.equal(copies, [], 'counted since the class was opened');
  assert.ok(lastCopyAt! > at);
  world.host.clock += 1000;
  await world.disks.part(['p']);
  assert.ok(world.pair.snapshotAt! > lastCopyAt!);
  await world.disks.close();
});

test('copies are told from begin to end, also those that nobody waits for', async () => {
  const world = await World.create();
  await world.join({ wait: false });
  while (world.pair.copy !== null) await world.goOn();
  const [begun, ended] = world.events;
  const what = {
    master: 'm',
    proxy: 'p',
    verb: 'join',
    direction: 'toProxy',
    method: 'compare',
    reason: 'first copy, to an image that was there before',
  };
  assert.equal(begun, { kind: 'copy-begun', ...what, totalBytes: SIZE });
  assert.ok(ended.kind === 'copy-ended' && ended.end === 'done' && ended.error === null);
  assert.is(ended.report?.regions, 8);

  await world.disks.part(['p']);
  await world.disks.write('m', 0, new Uint8Array(SIZE).fill(3));
  world.events.length = 0;
  world.hold();
  const stop = new AbortController();
  const rejoining = world.disks.rejoin(['p'], { signal: stop.signal }).catch((e) => e.code);
  while (world.pair.copy === null) await world.goOn();
  stop.abort();
  await world.finish();
  assert.is(await rejoining, 'interrupted');
  assert.equal(kinds(world.events), ['copy-begun', 'copy-ended stopped']);
  await world.disks.close();
});

test('a side that fails: INVALID, and the copy FAILED with its reason', async () => {
  const world = await World.create();
  world.host.disks.get('/p.img')!.write(new Uint8Array(SIZE).fill(7), 0);
  world.host.disks.get('/p.img')!.fault = (operation) => {
    if (operation === 'write') throw new KageError('io-error', '/p.img: writing failed: EIO');
  };
  await world.join({ wait: false });
  while (world.pair.copy !== null) await world.goOn();
  assert.equal(kinds(world.events), ['copy-begun', 'invalid', 'copy-ended failed']);
  const [, invalid, ended] = world.events;
  assert.ok(invalid.kind === 'invalid' && invalid.volume === 'p');
  assert.match(invalid.problem, /the copy to it failed/);
  assert.ok(ended.kind === 'copy-ended');
  assert.match(ended.error!, /p\.img/);
  const { state, copies } = world.pair;
  assert.is(state, 'invalid');
  assert.equal(copies, [{ method: 'compare', end: 'failed', count: 1 }]);
  assert.is(world.disks.look().volumes[1].status, 'INVALID');
});

test('a state that cannot be written down shows', async () => {
  const world = await World.create();
  assert.is(world.disks.look().broken, null);
  setFaultHook((step) => {
    if (step === 'commit:root-renamed') throw new KageError('disk-full', 'no room left');
  });
  await world.disks.lock(['m']).catch(() => {});
  setFaultHook();
  assert.match(world.disks.look().broken!, /no room/);
  assert.equal(kinds(world.events), ['broken']);
});

test.run();
