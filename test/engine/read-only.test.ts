/** The access mode of started volumes: what clients may do, who may change it, how long it lasts. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import type { DiskClass } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';

const test = suite('engine: read-only');
const REGION = 4096;
const SIZE = 4 * REGION;

class World {
  readonly host = new MemoryHost(1);
  disks!: DiskClass;

  static async create(): Promise<World> {
    const world = new World();
    for (const name of ['m', 'p']) world.host.addDisk(`/${name}.img`, SIZE);
    await world.open();
    await world.disks.add(['m', 'p'].map((name) => ({ path: `/${name}.img`, name })));
    await world.disks.join('m', 'p', { regionSize: REGION });
    return world;
  }

  async open(): Promise<void> {
    const where = { home: '/home', host: this.host, kernel: 'js' } as const;
    this.disks = await openClass('c', { ...where, create: true, live: true });
  }

  async isReadOnly(name: string): Promise<boolean> {
    return (await this.disks.info()).volumes.find((v) => v.name === name)!.readOnly;
  }

  write(name: string): Promise<void> {
    return this.disks.write(name, 10, Uint8Array.of(7));
  }
}

async function refused(work: () => Promise<unknown>): Promise<KageError> {
  try {
    await work();
  } catch (error) {
    assert.instance(error, KageError);
    return error as KageError;
  }
  throw new Error('nothing was refused');
}

test('nobody writes to it, by whichever way', async () => {
  const world = await World.create();
  await world.disks.part(['p'], { readOnly: true });
  assert.ok(await world.isReadOnly('p'));
  const error = await refused(() => world.write('p'));
  assert.is(error.code, 'not-permitted');
  assert.is(error.message, 'p: is started read-only');
  assert.match(error.hint!, /kage start p$/);
  const client = await world.disks.attach('p');
  assert.ok(client.readOnly);
  const byte = Uint8Array.of(1);
  assert.is((await refused(async () => client.write(byte, 0))).code, 'not-permitted');
  assert.is((await refused(async () => client.zero(0, 512))).message, 'p: is started read-only');
  await client.read(byte, 0);
  await client.close();
  assert.equal(await world.disks.read('p', 10, 1), Uint8Array.of(0));
});

test('each start says anew which mode it is', async () => {
  const world = await World.create();
  await world.disks.part(['p'], { readOnly: true });
  await world.disks.start(['p']);
  assert.not(await world.isReadOnly('p'));
  await world.write('p');
  await world.disks.start(['p'], { readOnly: true });
  assert.ok(await world.isReadOnly('p'));
  await world.disks.stop(['p']);
  assert.not(await world.isReadOnly('p'), 'a volume that is stopped has none');
  await world.disks.start(['p']);
  await world.write('p');
});

test('it is not changed under a client', async () => {
  const world = await World.create();
  await world.disks.part(['p']);
  const writer = await world.disks.attach('p');
  const error = await refused(() => world.disks.start(['p'], { readOnly: true }));
  assert.is(error.code, 'wrong-state');
  assert.match(error.message, /^p: is in use \(1 user\)/);
  await world.disks.start(['p']);
  await writer.close();
  await world.disks.start(['p'], { readOnly: true });
  const reader = await world.disks.attach('p');
  assert.is((await refused(() => world.disks.start(['p']))).code, 'wrong-state');
  await world.disks.start(['p'], { readOnly: true });
  await reader.close();
});

test('of several volumes none is started when one cannot be', async () => {
  const world = await World.create();
  await world.disks.part(['p']);
  const client = await world.disks.attach('m');
  await refused(() => world.disks.start(['p', 'm'], { readOnly: true }));
  assert.not(await world.isReadOnly('p'));
  await client.close();
});

test('it lasts over sessions and updates, and ends with the snapshot', async () => {
  const world = await World.create();
  await world.disks.part(['p'], { readOnly: true });
  await world.disks.close();
  await world.open();
  assert.ok(await world.isReadOnly('p'));
  world.host.killProcesses();
  await world.open();
  assert.ok(await world.isReadOnly('p'));
  await world.write('m');
  await world.disks.update(['p']);
  assert.ok(await world.isReadOnly('p'));
  assert.equal(await world.disks.read('p', 10, 1), Uint8Array.of(7));
  await world.disks.rejoin(['p']);
  await world.disks.part(['p']);
  assert.not(await world.isReadOnly('p'));
});

test('copies write to it all the same', async () => {
  const world = await World.create();
  await world.disks.part(['p'], { readOnly: true });
  await world.write('m');
  await world.disks.start(['m'], { readOnly: true });
  const client = await world.disks.attach('m');
  await world.disks.restore(['p'], { live: true });
  assert.equal(await world.disks.read('m', 10, 1), Uint8Array.of(0));
  await client.close();
  assert.is((await world.disks.verify(['p'])).pairs[0].differing, 0);
});

test('a locked proxy is not started by part', async () => {
  const world = await World.create();
  await world.disks.lock(['p']);
  await world.disks.part(['p'], { readOnly: true });
  assert.not(await world.isReadOnly('p'));
  await world.disks.start(['p'], { unlock: true, readOnly: true });
  assert.ok(await world.isReadOnly('p'));
});

test.run();
