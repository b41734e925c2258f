/** What a tool that pulls increments has to get: no region that differs from the previous part is left out. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { loadRoots } from '../../src/catalog/root.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import type { DiskClass } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { Pair } from '../../src/proxy/pair.ts';

const test = suite('engine: increment');
const REGION = 4096;
const SIZE = 8 * REGION;
const HOME = '/home';
const tuning = { extentSize: REGION, extentsMax: 8 };

async function open(host: MemoryHost): Promise<DiskClass> {
  return await openClass('c', { home: HOME, host, kernel: 'js', create: true, tuning });
}

/** A master with two proxies, both parted once: their increments begin here. */
async function family(host: MemoryHost): Promise<DiskClass> {
  for (const name of ['m', 'p1', 'p2']) host.addDisk(`/${name}.img`, SIZE);
  const disks = await open(host);
  await disks.add(['m', 'p1', 'p2'].map((name) => ({ path: `/${name}.img`, name })));
  for (const proxy of ['p1', 'p2']) {
    await disks.join('m', proxy, { regionSize: REGION });
    await disks.part([proxy]);
  }
  return disks;
}

const write = (disks: DiskClass, volume: string, region: number) =>
  disks.write(volume, region * REGION + 100, Uint8Array.of(1, 2, 3));

/** The regions of the increment of p1, as they lie on disk. */
async function incrementOf(host: MemoryHost): Promise<number[]> {
  const kernel = createKernel('js');
  const folder = host.folder(HOME).folder('classes').folder('c');
  const { record } = await loadRoots(folder, kernel);
  const { id } = record!.volumes.find((v) => v.name === 'p1')!;
  const pairRecord = record!.pairs.find((p) => p.proxy === id)!;
  const options = { clean: record!.clean, readOnly: true };
  const { pair } = await Pair.load(folder, pairRecord, SIZE, kernel, options);
  const regions = [];
  for (const { first, count } of pair.maps.increment.runs()) {
    for (let region = first; region < first + count; region++) regions.push(region);
  }
  await pair.close();
  return regions;
}

test('writes to the master while parted, and while joined, are in it', async () => {
  const host = new MemoryHost(1);
  const disks = await family(host);
  await write(disks, 'm', 1);
  await disks.rejoin(['p1']);
  await write(disks, 'm', 3);
  await disks.part(['p1']);
  await write(disks, 'm', 5);
  await disks.close();
  assert.equal(await incrementOf(host), [1, 3]);
});

test('writes to the proxy are in it: the rejoin undoes them', async () => {
  const host = new MemoryHost(1);
  const disks = await family(host);
  await write(disks, 'p1', 2);
  await disks.rejoin(['p1']);
  await disks.part(['p1']);
  await disks.close();
  assert.equal(await incrementOf(host), [2]);
});

test('what a restore from another proxy brings to the master is in it', async () => {
  const host = new MemoryHost(1);
  const disks = await family(host);
  await disks.rejoin(['p1']);
  await write(disks, 'p2', 4);
  await disks.restore(['p2']);
  await disks.part(['p1']);
  await disks.close();
  assert.equal(await incrementOf(host), [4]);
});

test('it survives a process that is killed after the part', async () => {
  const host = new MemoryHost(1);
  const disks = await family(host);
  await disks.rejoin(['p1']);
  await write(disks, 'm', 6);
  await disks.part(['p1']);
  host.killProcesses();
  assert.ok((await incrementOf(host)).includes(6));
  await (await open(host)).close();
  assert.ok((await incrementOf(host)).includes(6));
});

test('a write that failed on the master half-way is in it', async () => {
  const host = new MemoryHost(1);
  const disks = await family(host);
  await disks.rejoin(['p1']);
  const master = host.disks.get('/m.img')!;
  master.fault = (operation) => {
    if (operation !== 'write') return;
    master.content.fill(9, 7 * REGION, 7 * REGION + 50);
    throw new KageError('io-error', 'fault');
  };
  let failed = false;
  await write(disks, 'm', 7).catch(() => {
    failed = true;
  });
  assert.ok(failed);
  master.fault = undefined;
  await disks.part(['p1']);
  await disks.close();
  assert.ok((await incrementOf(host)).includes(7));
});

test('what the proxy kept from a restore is in it', async () => {
  const host = new MemoryHost(1);
  const disks = await family(host);
  await write(disks, 'p1', 2);
  await disks.restore(['p1'], { keep: true });
  await disks.rejoin(['p1']);
  await disks.part(['p1']);
  await disks.close();
  assert.ok((await incrementOf(host)).includes(2));
});

test('what an update had brought before it was given up is in it', async () => {
  const host = new MemoryHost(1);
  const disks = await family(host);
  await write(disks, 'm', 1);
  await write(disks, 'm', 5);
  const stop = new AbortController();
  const onProgress = () => stop.abort();
  const options = { rateBytesPerSec: 700, signal: stop.signal, onProgress };
  await disks.update(['p1'], options).catch(() => {});
  assert.is((await disks.info()).pairs[0].pendingRegions, 1);
  await disks.rejoin(['p1']);
  await disks.part(['p1']);
  await disks.close();
  const increment = await incrementOf(host);
  assert.ok(increment.includes(1) && increment.includes(5), `${increment}`);
});

test('what went to both sides before the proxy failed is in it', async () => {
  const host = new MemoryHost(1);
  const disks = await family(host);
  await disks.rejoin(['p1']);
  await write(disks, 'm', 0);
  await disks.close();
  const again = await open(host);
  const proxy = host.disks.get('/p1.img')!;
  proxy.fault = (operation) => {
    if (operation === 'write') throw new KageError('io-error', 'fault');
  };
  await write(again, 'm', 3);
  proxy.fault = undefined;
  await again.rejoin(['p1']);
  await again.part(['p1']);
  await again.close();
  const increment = await incrementOf(host);
  assert.ok(increment.includes(0) && increment.includes(3), `${increment}`);
});

test.run();
