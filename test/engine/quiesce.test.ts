/**
 * A service that is frozen around the instant of part and update: what comes before, between and after,
 * and that each freeze has its one thaw whatever fails.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { setFaultHook } from '../../src/base/faults.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import type { AttachedVolume, DiskClass, Quiesce } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';

const test = suite('engine: quiesce');
const REGION = 4096;
const REGIONS = 8;
const SIZE = REGIONS * REGION;

class World {
  readonly host = new MemoryHost(1);
  /** What happened, in order. */
  readonly log: string[] = [];
  disks!: DiskClass;
  #waiting: (() => void)[] = [];

  /** A pair `m` and `p`, joined, and a further one `m2` and `p2`. */
  static async create(options: { live?: boolean; exclusive?: boolean } = {}): Promise<World> {
    const world = new World();
    const { live = true, exclusive = live } = options;
    const names = ['m', 'p', 'm2', 'p2'];
    for (const [i, name] of names.entries()) {
      const disk = world.host.addDisk(`/${name}.img`, SIZE);
      disk.write(new Uint8Array(SIZE).fill(i + 1), 0);
      disk.flush();
    }
    await world.open(live);
    await world.disks.add(names.map((name) => ({ path: `/${name}.img`, name, exclusive })));
    await world.disks.join('m', 'p', { regionSize: REGION });
    await world.disks.join('m2', 'p2', { regionSize: REGION });
    return world;
  }

  async open(live = true): Promise<void> {
    this.disks = await openClass('still', {
      home: '/home',
      host: this.host,
      kernel: 'js',
      create: true,
      live,
      tuning: { extentSize: REGION, extentsMax: 8, pieceSize: REGION },
    });
  }

  /** Notes freeze and thaw, and does what is to be done in them. */
  quiesce(
    inside: { freeze?: () => unknown; thaw?: () => unknown; limitMs?: number } = {},
  ): Quiesce {
    return {
      limitMs: inside.limitMs ?? 20_000,
      freeze: async () => {
        this.log.push('freeze');
        await inside.freeze?.();
        this.log.push('frozen');
      },
      thaw: async () => {
        this.log.push('thaw');
        await inside.thaw?.();
        this.log.push('thawed');
      },
    };
  }

  /** Notes durable steps of these names as well; `sync` stands for the syncs of any file. */
  note(...steps: string[]): void {
    setFaultHook((step) => {
      if (steps.includes(step)) this.log.push(step);
    });
    this.host.onOperation = (operation) => {
      const noted = operation === 'flush' && steps.includes('sync');
      if (noted && this.log.at(-1) !== 'sync') this.log.push('sync');
    };
  }

  /** A byte for each region of an image. */
  image(name: string): number[] {
    const { content } = this.host.disks.get(`/${name}.img`)!;
    return Array.from({ length: REGIONS }, (_, region) => content[region * REGION]);
  }

  /** What any other program writes to an image. */
  scribble(name: string, region: number, byte: number): void {
    this.host.disks.get(`/${name}.img`)!.write(new Uint8Array(REGION).fill(byte), region * REGION);
  }

  /** Waits until it is in the log. */
  async until(what: string): Promise<void> {
    for (let i = 0; i < 10_000 && this.count(what) === 0; i++) await turn();
    assert.ok(this.count(what) > 0, `waited in vain for ${what}`);
  }

  async state(proxy = 'p'): Promise<string> {
    return (await this.disks.info()).pairs.find((pair) => pair.proxy === proxy)!.state;
  }

  count(what: string): number {
    return this.log.filter((word) => word === what).length;
  }

  /** From now on every disk operation waits until `letGo`. */
  hold(): void {
    this.host.latency = () => new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Lets one operation after the other go until `work` has ended. */
  async drive(work: Promise<unknown>): Promise<void> {
    let ended = false;
    void work.finally(() => {
      ended = true;
    });
    while (!ended) {
      this.#waiting.shift()?.();
      await turn();
    }
  }

  letGo(): void {
    this.host.latency = undefined;
    for (const go of this.#waiting.splice(0)) go();
  }
}

async function refused(work: Promise<unknown>): Promise<KageError> {
  try {
    await work;
  } catch (error) {
    assert.instance(error, KageError);
    return error as KageError;
  }
  throw new Error('nothing was refused');
}

const turn = (ms = 1) => new Promise((resolve) => setTimeout(resolve, ms));

function fill(volume: AttachedVolume, region: number, byte: number): Promise<void> {
  return Promise.resolve(volume.write(new Uint8Array(REGION).fill(byte), region * REGION));
}

const EQUAL = [1, 1, 1, 1, 1, 1, 1, 1];

test.after.each(() => setFaultHook());

test('in use: syncs, freeze, switch, thaw at once, and only then syncs and the commit', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  await fill(master, 0, 7);
  world.note('verb:settled', 'sync', 'verb:synced', 'commit:done');
  await world.disks.part(['p', 'p2'], { quiesce: world.quiesce() });
  const steps = world.log.filter((word) => word !== 'thawed');
  // The commit shows that the state folder can be written.
  const slow = ['verb:settled', 'sync', 'verb:synced', 'commit:done'];
  assert.equal(steps, [...slow, 'freeze', 'frozen', 'thaw', 'sync', 'commit:done']);
  await master.close();
});

test('clients go on during the freeze; what it writes is in the snapshot, what comes with the thaw not', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  let thawed: Promise<void> | undefined;
  const quiesce = world.quiesce({
    freeze: async () => {
      await fill(master, 2, 5);
      await master.flush();
    },
    thaw: () => {
      thawed = fill(master, 2, 6);
      return thawed;
    },
  });
  await world.disks.part(['p'], { quiesce });
  await thawed;
  assert.equal(world.image('p'), [1, 1, 5, 1, 1, 1, 1, 1]);
  assert.equal(world.image('m'), [1, 1, 6, 1, 1, 1, 1, 1]);
  await master.close();
});

test('a thaw that hangs keeps neither the commit nor other calls waiting', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  let goOn = () => {};
  const thaw = () => new Promise<void>((resolve) => (goOn = resolve));
  world.note('commit:done');
  const part = world.disks.part(['p'], { quiesce: world.quiesce({ thaw }) });
  await world.until('commit:done');
  assert.is(await world.state(), 'parted');
  assert.is(await Promise.race([part.then(() => 'ended'), turn().then(() => 'waits')]), 'waits');
  goOn();
  await part;
  await master.close();
});

/** Begins a copy of the pair that goes on only when `letGo` says so. */
async function unfinishedCopy(world: World): Promise<void> {
  await world.disks.part(['p']);
  const onProgress = () => void world.log.push('copied');
  world.hold();
  await world.drive(world.disks.rejoin(['p'], { compare: true, wait: false, onProgress }));
}

test('an unfinished copy is waited for before the freeze', async () => {
  const world = await World.create();
  await unfinishedCopy(world);
  const part = world.disks.part(['p'], { quiesce: world.quiesce() });
  for (let i = 0; i < 20; i++) await turn();
  assert.equal(world.log, []);
  world.letGo();
  await part;
  assert.is(world.log[0], 'copied');
  assert.equal(world.log.slice(-5), ['copied', 'freeze', 'frozen', 'thaw', 'thawed']);
});

test('a doubtful pair is compared before the freeze', async () => {
  const world = await World.create({ exclusive: false });
  world.scribble('m', 3, 9);
  const onProgress = () => void world.log.push('compared');
  await world.disks.part(['p'], { quiesce: world.quiesce(), onProgress });
  assert.equal(world.log.slice(-5), ['compared', 'freeze', 'frozen', 'thaw', 'thawed']);
  assert.is(world.image('p')[3], 9);
});

test('what the last client left unsynced is synced after the freeze', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  const freeze = async () => {
    await fill(master, 1, 4);
    await master.close();
  };
  await world.disks.part(['p'], { quiesce: world.quiesce({ freeze }) });
  world.host.cutPower();
  assert.is(world.image('m')[1], 4);
  assert.is(world.image('p')[1], 4);
});

test('without a server the service stands still while its image is compared', async () => {
  const world = await World.create({ live: false });
  world.scribble('m', 1, 8);
  const quiesce = world.quiesce({
    // What it had in memory.
    freeze: () => world.scribble('m', 2, 9),
    thaw: () => world.scribble('m', 3, 10),
  });
  world.note('commit:done');
  const onProgress = () => void world.log.push('compared');
  const report = await world.disks.part(['p'], { quiesce, onProgress });
  assert.equal(world.image('p'), [1, 8, 9, 1, 1, 1, 1, 1]);
  assert.is(report.pairs[0].copy?.method, 'compare');
  assert.is(world.log[0], 'freeze');
  assert.ok(world.log.indexOf('compared') > world.log.indexOf('frozen'));
  assert.equal(world.log.slice(-3), ['commit:done', 'thaw', 'thawed']);
});

test('an update takes the moment of the freeze; without a server it is refused', async () => {
  const world = await World.create();
  await world.disks.part(['p']);
  const master = await world.disks.attach('m');
  const quiesce = world.quiesce({
    freeze: () => fill(master, 2, 5),
    thaw: () => fill(master, 2, 6),
  });
  await world.disks.update(['p'], { quiesce });
  assert.equal(world.image('p'), [1, 1, 5, 1, 1, 1, 1, 1]);
  await master.close();

  const alone = await World.create({ live: false });
  await alone.disks.part(['p']);
  const error = await refused(alone.disks.update(['p'], { quiesce: alone.quiesce() }));
  assert.is(error.code, 'usage');
  assert.match(error.message, /needs a server/);
  assert.equal(alone.log, []);
});

for (const live of [true, false]) {
  const server = live ? 'with a server' : 'without a server';

  test(`${server}: a freeze that fails is thawed, and nothing is parted`, async () => {
    const world = await World.create({ live });
    const freeze = () => {
      throw new KageError('failed', 'the freeze ended with status 3');
    };
    const error = await refused(world.disks.part(['p'], { quiesce: world.quiesce({ freeze }) }));
    assert.is(error.message, 'the freeze ended with status 3');
    assert.equal(world.log, ['freeze', 'thaw', 'thawed']);
    assert.is(await world.state(), 'joined');
    await world.disks.part(['p']);
  });

  test(`${server}: a verb that is refused, and a dry run, freeze nothing`, async () => {
    const world = await World.create({ live });
    await world.disks.part(['p'], { dryRun: true, quiesce: world.quiesce() });
    await world.disks.part(['p']);
    await refused(world.disks.part(['p'], { quiesce: world.quiesce() }));
    if (live) await world.disks.update(['p'], { dryRun: true, quiesce: world.quiesce() });
    assert.equal(world.log, []);
  });

  test(`${server}: what is aborted during the freeze is thawed, and nothing is parted`, async () => {
    const world = await World.create({ live });
    const stop = new AbortController();
    const quiesce = world.quiesce({ freeze: () => stop.abort() });
    const error = await refused(world.disks.part(['p'], { quiesce, signal: stop.signal }));
    assert.is(error.code, 'interrupted');
    assert.equal(world.log, ['freeze', 'frozen', 'thaw', 'thawed']);
    assert.is(await world.state(), 'joined');
    const { signal } = stop;
    await refused(world.disks.part(['p'], { quiesce: world.quiesce(), signal }));
    assert.is(world.count('freeze'), 1, 'not even begun');
  });

  test(`${server}: a thaw that fails is told as such, and the snapshot stands`, async () => {
    const world = await World.create({ live });
    const thaw = () => {
      throw new Error('no such command');
    };
    const error = await refused(world.disks.part(['p'], { quiesce: world.quiesce({ thaw }) }));
    assert.is(error.code, 'partly');
    assert.match(error.message, /^part p: done, but the thaw failed: no such command$/);
    assert.is(await world.state(), 'parted');
  });

  test(`${server}: a commit that fails is thawed once`, async () => {
    const world = await World.create({ live });
    const master = live ? await world.disks.attach('m') : undefined;
    const freeze = () =>
      setFaultHook((step) => {
        if (step === 'commit:maps-written') throw new KageError('io-error', 'no state folder');
      });
    const error = await refused(world.disks.part(['p'], { quiesce: world.quiesce({ freeze }) }));
    assert.match(error.message, /no state folder/);
    assert.is(world.count('thaw'), 1);
    await master?.close();
  });
}

test('a time limit that passes before the switch: thawed, and no snapshot of what comes then', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  let writing: Promise<void> | undefined;
  const freeze = () => {
    world.hold();
    // The switch has to wait for it.
    writing = fill(master, 0, 5);
  };
  const quiesce = world.quiesce({ freeze, limitMs: 50 });
  const part = refused(world.disks.part(['p'], { quiesce }));
  await world.until('thawed');
  world.letGo();
  const error = await part;
  assert.is(error.code, 'failed');
  assert.match(error.message, /^part p: given up 0\.1 s after the freeze began/);
  await writing;
  assert.is(world.count('thaw'), 1);
  assert.is(await world.state(), 'joined');
  assert.equal(world.image('p'), [5, ...EQUAL.slice(1)], 'the pair goes on');
  await master.close();
});

test('a process that was stopped itself sees that it is too late', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  const quiesce = world.quiesce({
    freeze: () => {
      world.host.clock += 20_000;
    },
  });
  const error = await refused(world.disks.part(['p'], { quiesce }));
  assert.match(error.message, /given up 20 s after/);
  assert.is(await world.state(), 'joined');
  await master.close();
});

test('a client that never answers does not keep the class for ever', async () => {
  const world = await World.create();
  const quiesce = world.quiesce({ freeze: () => new Promise(() => {}), limitMs: 50 });
  const part = refused(world.disks.part(['p'], { quiesce }));
  const other = world.disks.part(['p2']);
  assert.match((await part).message, /given up/);
  assert.equal(world.log, ['freeze', 'thaw', 'thawed']);
  await other;
  assert.is(await world.state('p2'), 'parted');
});

test('without a server the time limit counts for the copy, too', async () => {
  const world = await World.create({ live: false });
  world.scribble('m', 2, 5);
  // From the commit that begins the copy.
  const hold = () => setFaultHook((step) => void (step === 'commit:done' && world.hold()));
  const quiesce = world.quiesce({ freeze: hold, limitMs: 500 });
  const part = refused(world.disks.part(['p'], { quiesce }));
  await world.until('thawed');
  setFaultHook();
  world.letGo();
  assert.match((await part).message, /^part p: given up 0.5 s/);
  assert.is(world.count('thaw'), 1);
  // It was stopped before its first region.
  assert.is(await world.state(), 'joining');
});

test('a pair that fails during the freeze is not parted as if it were equal', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  const freeze = async () => {
    world.host.disks.get('/p.img')!.fault = (operation) => {
      if (operation === 'write') throw new KageError('io-error', 'p: fault');
    };
    await fill(master, 1, 5);
    world.host.disks.get('/p.img')!.fault = undefined;
  };
  const error = await refused(world.disks.part(['p'], { quiesce: world.quiesce({ freeze }) }));
  assert.is(error.code, 'wrong-state');
  assert.is(world.count('thaw'), 1);
  assert.is(await world.state(), 'invalid');
  await master.close();
});

test('a region that became unequal during the freeze is copied before the switch', async () => {
  const world = await World.create();
  const master = await world.disks.attach('m');
  const freeze = async () => {
    let left = 1;
    world.host.disks.get('/m.img')!.fault = (operation) => {
      if (operation === 'write' && left-- > 0) throw new KageError('io-error', 'm: fault');
    };
    await refused(fill(master, 1, 5));
    assert.is(world.count('thaw'), 0);
  };
  const report = await world.disks.part(['p'], { quiesce: world.quiesce({ freeze }) });
  assert.is(report.pairs[0].copy?.regions, 1);
  assert.is(await world.state(), 'parted');
  assert.equal(world.image('p'), world.image('m'));
  await master.close();
});

test('an update that only finishes an earlier one freezes nothing, and says so', async () => {
  const world = await World.create();
  await world.disks.part(['p']);
  const master = await world.disks.attach('m');
  await fill(master, 1, 5);
  const stopped = AbortSignal.abort();
  await refused(world.disks.update(['p'], { signal: stopped }));
  assert.is(await world.state(), 'copying');
  const report = await world.disks.update(['p'], { quiesce: world.quiesce() });
  assert.match(report.pairs[0].notes.join(), /finishes what was begun.*nothing was frozen/);
  assert.equal(world.log, []);
  await master.close();
});

test('a time limit has to be one', async () => {
  const world = await World.create();
  for (const limitMs of [0, -1, Number.NaN, 2 ** 31]) {
    const quiesce = world.quiesce({ limitMs });
    assert.is((await refused(world.disks.part(['p'], { quiesce }))).code, 'usage');
  }
  assert.equal(world.log, []);
});

test.run();
