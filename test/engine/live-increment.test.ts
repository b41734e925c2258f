/**
 * What a tool that pulls from a server is told of a snapshot: exactly what differs, for as long as it
 * stays connected, and what clients do while a copy runs is not forgotten.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import type { DiskClass, Increment } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';

const test = suite('engine: live increment');
const REGION = 4096;
/** Eight regions, the last one short. */
const SIZE = 7 * REGION + 1000;
const tuning = { extentSize: REGION, extentsMax: 8, pieceSize: REGION };

class World {
  readonly host = new MemoryHost(1);
  disks!: DiskClass;
  #paused: (() => void)[] | undefined;

  /** A master with two joined proxies. */
  static async create(): Promise<World> {
    const world = new World();
    const sleep = world.host.sleep.bind(world.host);
    world.host.sleep = async (ms) => {
      await sleep(ms);
      const paused = world.#paused;
      if (paused) await new Promise<void>((resolve) => paused.push(resolve));
    };
    for (const name of ['m', 'p', 'q']) world.host.addDisk(`/${name}.img`, SIZE);
    await world.open();
    await world.disks.add(['m', 'p', 'q'].map((name) => ({ path: `/${name}.img`, name })));
    for (const proxy of ['p', 'q']) await world.disks.join('m', proxy, { regionSize: REGION });
    return world;
  }

  async open(): Promise<void> {
    const where = { home: '/home', host: this.host, kernel: 'js' } as const;
    this.disks = await openClass('c', { ...where, create: true, live: true, tuning });
  }

  /** Part, read-only, and the backup of it. */
  async part(options: { instant?: boolean } = {}): Promise<void> {
    await this.disks.part(['p'], { readOnly: true, ...options });
  }

  /** By a client who is connected for as long as it takes. */
  async write(volume: string, ...regions: number[]): Promise<void> {
    const client = await this.disks.attach(volume);
    try {
      for (const region of regions) {
        await client.write(Uint8Array.of(1, 2, 3), region * REGION + 100);
      }
    } finally {
      await client.close();
    }
  }

  /** A stranger writes to an image while the class is closed. */
  async strange(name: string, region: number): Promise<void> {
    // Else nobody could tell who was the last to write.
    this.host.clock += 60_000;
    await this.disks.close();
    this.host.disks.get(`/${name}.img`)!.write(Uint8Array.of(9), region * REGION);
    await this.open();
  }

  /** Copies stand still behind their first piece, with `slow` among their options. */
  pause(): void {
    this.#paused = [];
  }

  async goOn(): Promise<void> {
    const paused = this.#paused!;
    this.#paused = undefined;
    for (const resolve of paused) resolve();
    for (let i = 0; i < 1000; i++) {
      if ((await this.disks.info()).pairs[0].pendingRegions === 0) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.unreachable('the copy does not end');
  }

  async increment(): Promise<number[]> {
    await this.disks.start(['p'], { readOnly: true });
    const proxy = await this.disks.attach('p');
    const regions = regionsOf(proxy.increment!);
    await proxy.close();
    return regions;
  }
}

const slow = { wait: false, rateBytesPerSec: 700 };
const ALL = [0, 1, 2, 3, 4, 5, 6, 7];

function regionsOf(increment: Increment): number[] {
  return ALL.filter((region) => increment.runs(region * REGION, 1)[0].differs);
}

async function codeOf(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (error instanceof KageError) return error.code;
    throw error;
  }
  return 'done';
}

async function turn(): Promise<void> {
  for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
}

test('only a parted proxy that is started read-only has one', async () => {
  const world = await World.create();
  const has = async (name: string, options = {}) => {
    const volume = await world.disks.attach(name, options);
    await volume.close();
    return volume.increment !== undefined;
  };
  await world.disks.part(['p']);
  assert.not(await has('p'));
  assert.not(await has('p', { readOnly: true }), 'its other clients may write');
  await world.disks.start(['p', 'm'], { readOnly: true });
  assert.ok(await has('p'));
  assert.not(await has('m'));
  await world.disks.break('p');
  assert.not(await has('p'));
});

test('the runs are those of the regions that differ, and end where nothing is asked', async () => {
  const world = await World.create();
  await world.part();
  assert.equal(await world.increment(), ALL, 'of the first part there is none before it');
  await world.write('m', 1, 2);
  await world.disks.rejoin(['p']);
  await world.write('m', 7);
  await world.part();
  await world.write('m', 5);
  assert.equal(await world.increment(), [1, 2, 7]);
  const proxy = await world.disks.attach('p');
  const { regionSize, runs } = proxy.increment!;
  assert.is(regionSize, REGION);
  const told = (offset: number, length: number) =>
    runs(offset, length).map((run) => (run.differs ? run.length : -run.length));
  assert.equal(told(0, SIZE), [-REGION, 2 * REGION, -4 * REGION, 1000]);
  assert.equal(told(REGION + 10, 20), [REGION - 10], 'to the end of its region');
  assert.equal(told(3 * REGION, REGION + 1), [-2 * REGION]);
  assert.equal(told(SIZE - 1, 1), [1]);
  await proxy.close();
  assert.is(await codeOf(async () => runs(0, 1)), 'usage');
});

test('it stays what it was while a client is connected', async () => {
  const world = await World.create();
  await world.part();
  world.pause();
  await world.disks.update(['p'], { instant: true, compare: true, ...slow });
  const early = await world.disks.attach('p');
  assert.equal(regionsOf(early.increment!), ALL, 'nothing is compared yet');
  await world.goOn();
  assert.equal(await world.increment(), []);
  assert.equal(regionsOf(early.increment!), ALL);
  await early.close();
});

test('what was written to the proxy since the part differs', async () => {
  const world = await World.create();
  await world.part();
  await world.disks.update(['p']);
  await world.disks.start(['p']);
  await world.write('p', 3);
  await world.disks.start(['p'], { readOnly: true });
  assert.equal(await world.increment(), [3]);
});

test('after a restore that kept the proxy nobody knows what differs', async () => {
  const world = await World.create();
  await world.part();
  await world.disks.update(['p']);
  assert.equal(await world.increment(), []);
  await world.disks.start(['p']);
  await world.write('p', 3);
  await world.disks.restore(['p'], { keep: true });
  assert.equal(await world.increment(), ALL);
});

test('after a stranger wrote to the proxy nobody knows what differs', async () => {
  const world = await World.create();
  await world.part();
  await world.disks.update(['p']);
  assert.equal(await world.increment(), []);
  world.host.disks.get('/p.img')!.write(Uint8Array.of(9), 5);
  assert.equal(await world.increment(), ALL, 'in the middle of a session');
  await world.disks.update(['p']);
  assert.equal(await world.increment(), ALL, 'what was there instead is unknown');
  await world.disks.update(['p']);
  assert.equal(await world.increment(), []);
  await world.strange('p', 5);
  assert.equal(await world.increment(), ALL, 'between two sessions');
});

test('what a comparison has to find is found: a stranger wrote to the master', async () => {
  const world = await World.create();
  await world.part();
  await world.write('m', 1);
  await world.strange('m', 6);
  await world.disks.update(['p']);
  assert.equal(await world.increment(), [1, 6]);
});

test('a region that a client overwrites before the comparison has come by is not forgotten', async () => {
  const world = await World.create();
  await world.part();
  await world.strange('m', 6);
  world.pause();
  await world.disks.update(['p'], { instant: true, ...slow });
  await turn();
  await world.write('m', 6);
  await world.goOn();
  assert.equal(await world.increment(), [6]);
});

test('a region that a client writes behind the comparison is not forgotten', async () => {
  const world = await World.create();
  await world.part();
  world.pause();
  await world.disks.rejoin(['p'], { compare: true, ...slow });
  await turn();
  await world.write('m', 0);
  await world.goOn();
  await world.part();
  assert.equal(await world.increment(), [0]);
});

test('what the proxy was written while it was copied is not forgotten', async () => {
  const world = await World.create();
  await world.disks.part(['p']);
  await world.write('m', 1, 2);
  world.pause();
  await world.disks.update(['p'], { instant: true, ...slow });
  await turn();
  await world.write('p', 7);
  await world.goOn();
  assert.equal(await world.increment(), [1, 2, 7]);
});

test('a write to the master that failed half-way is in the increment of an instant part', async () => {
  const world = await World.create();
  await world.part();
  await world.disks.rejoin(['p']);
  await world.write('m', 0);
  const master = world.host.disks.get('/m.img')!;
  master.fault = (operation) => {
    if (operation !== 'write') return;
    master.write(Uint8Array.of(9), 5 * REGION);
    throw new KageError('io-error', 'fault');
  };
  assert.is(await codeOf(() => world.write('m', 5)), 'io-error');
  master.fault = undefined;
  await world.part({ instant: true });
  assert.equal(await world.increment(), [0, 5]);
});

test('what another proxy brought to the master is in the increment of an instant part', async () => {
  const world = await World.create();
  await world.disks.part(['p', 'q'], { readOnly: true });
  await world.disks.rejoin(['p']);
  await world.disks.start(['q']);
  await world.write('q', 4);
  await world.disks.restore(['q']);
  await world.part({ instant: true });
  assert.equal(await world.increment(), [4]);
});

test.run();
