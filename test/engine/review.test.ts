/** Single sequences of events that once led to data wrongly believed right, each with its story. */

import assert from 'node:assert';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { suite } from 'uvu';
import { KageError } from '../../src/base/errors.ts';
import { MapFile } from '../../src/bitmap/map-file.ts';
import { RegionMap } from '../../src/bitmap/region-map.ts';
import { threadCrew, workerCode } from '../../src/copy/crew.ts';
import { FileFolder } from '../../src/device/file-folder.ts';
import { type MemoryDisk, MemoryHost, type Operation } from '../../src/device/memory-host.ts';
import type { DiskClass, PairInfo } from '../../src/engine/api.ts';
import { copyImage } from '../../src/engine/images.ts';
import { openClass } from '../../src/engine/open.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('review');

const REGION = 4096;
const REGIONS = 8;
const SIZE = REGIONS * REGION;
const CLASS = '/home/classes/r';

type Setting = { readonly exclusive?: boolean; readonly proxies?: readonly string[] };

class Case {
  readonly host = new MemoryHost(1);

  async open(): Promise<DiskClass> {
    return await openClass('r', {
      home: '/home',
      host: this.host,
      kernel: 'js',
      create: true,
      tuning: { extentSize: REGION, extentsMax: 8 },
    });
  }

  /** `m` and its proxies, joined and equal. */
  async joined(setting: Setting = {}): Promise<DiskClass> {
    const proxies = setting.proxies ?? ['p'];
    const { exclusive } = setting;
    for (const [i, name] of ['m', ...proxies].entries()) {
      const disk = this.host.addDisk(`/${name}.img`, SIZE);
      disk.write(new Uint8Array(SIZE).fill(10 + i), 0);
      disk.flush();
    }
    const disks = await this.open();
    await disks.add(['m', ...proxies].map((name) => ({ path: `/${name}.img`, name, exclusive })));
    for (const proxy of proxies) await disks.join('m', proxy, { regionSize: REGION });
    return disks;
  }

  disk(name: string): MemoryDisk {
    return this.host.disks.get(`/${name}.img`)!;
  }

  /** Whoever writes past the engine. */
  scribble(name: string, region: number, value: number): void {
    this.disk(name).write(new Uint8Array(100).fill(value), region * REGION);
  }

  byte(name: string, region: number): number {
    return this.disk(name).content[region * REGION];
  }

  /** Regions in which two images differ. */
  differing(a: string, b: string): number[] {
    return Array.from({ length: REGIONS }, (_, r) => r).filter((r) => {
      const part = (name: string) => this.disk(name).content.subarray(r * REGION, (r + 1) * REGION);
      return Buffer.compare(part(a), part(b)) !== 0;
    });
  }

  /** Lets the `left`-th such operation on a file of the class fail, once. */
  failState(name: RegExp, operation: Operation, left = 1): void {
    const { names } = this.host.folders.get(CLASS)!;
    for (const [key, file] of names) {
      if (!name.test(key)) continue;
      file.fault = (op) => {
        if (op !== operation || --left > 0) return;
        file.fault = undefined;
        throw new KageError('io-error', `${key}: fault`);
      };
    }
  }

  kill(): void {
    this.host.killProcesses();
  }
}

/** A copy that is stopped before its first region. */
async function stopped(run: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
  const stop = new AbortController();
  stop.abort();
  await assert.rejects(run(stop.signal), (e: KageError) => e.code === 'interrupted');
}

async function pairOf(disks: DiskClass, proxy: string): Promise<PairInfo> {
  return (await disks.info()).pairs.find((p) => p.proxy === proxy)!;
}

function bytes(value: number, length = 512): Uint8Array {
  return new Uint8Array(length).fill(value);
}

test('a flushed write to an instant update survives the kill that follows', async () => {
  const w = new Case();
  let disks = await w.joined();
  await disks.part(['p']);
  await disks.write('m', 2 * REGION, bytes(42));
  await disks.write('m', 3 * REGION, bytes(43));
  await disks.close();
  disks = await w.open();
  await stopped((signal) => disks.update(['p'], { signal, instant: true }));
  await disks.write('p', 3 * REGION, bytes(99));
  await disks.flush('p');
  w.kill();
  disks = await w.open();
  const volume = (await disks.info()).volumes.find((v) => v.name === 'p')!;
  if (volume.status === 'INVALID') return;
  await disks.update(['p']);
  const read = await disks.start(['p']).then(() => disks.read('p', 3 * REGION, 1));
  assert.equal(read[0], 99);
});

test('a restore that goes on by comparison tells the siblings what it brought', async () => {
  const w = new Case();
  let disks = await w.joined({ proxies: ['p', 'q'] });
  await disks.part(['p', 'q']);
  await disks.write('m', REGION, bytes(42));
  await stopped((signal) => disks.restore(['p'], { signal }));
  await disks.close();
  w.scribble('p', 5, 77);
  disks = await w.open();
  await disks.restore(['p']);
  assert.equal(w.byte('m', 5), 77);
  await disks.rejoin(['q']);
  assert.deepEqual(w.differing('m', 'q'), []);
});

test('an extent that could not be noted is not believed noted', async () => {
  const w = new Case();
  let disks = await w.joined({ exclusive: true });
  await disks.write('m', 0, bytes(1));
  w.failState(/^intent$/, 'flush');
  await assert.rejects(disks.write('m', 3 * REGION, bytes(2)));
  // Again, and killed between the two sides.
  w.disk('p').fault = (op) => {
    if (op === 'write') {
      w.kill();
      throw new Error('killed');
    }
  };
  await assert.rejects(disks.write('m', 3 * REGION, bytes(2)));
  w.disk('p').fault = undefined;
  w.host.folders.get(CLASS)!.cutPower(() => 0.9);
  disks = await w.open();
  await disks.part(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
});

test('a flush that failed on the map is not good the second time without it', async () => {
  const w = new Case();
  let disks = await w.joined({ exclusive: true });
  await disks.part(['p']);
  await disks.write('m', 3 * REGION, bytes(43));
  await stopped((signal) => disks.update(['p'], { signal, instant: true }));
  await disks.write('p', 3 * REGION, bytes(99));
  w.failState(/^pair\d+-pending/, 'flush');
  await assert.rejects(disks.flush('p'));
  await disks.flush('p');
  for (const file of w.host.folders.get(CLASS)!.names.values()) file.content = file.durable.slice();
  w.kill();
  disks = await w.open();
  assert.equal((await disks.read('p', 3 * REGION, 1))[0], 99);
});

test('a region whose old content could not be kept stays changed', async () => {
  const w = new Case();
  const disks = await w.joined({ exclusive: true });
  await disks.part(['p']);
  await disks.write('m', 3 * REGION, bytes(43));
  await stopped((signal) => disks.update(['p'], { signal, instant: true }));
  w.failState(/^pair\d+-pending/, 'flush');
  await disks.write('m', 3 * REGION, bytes(44));
  await disks.rejoin(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
});

test('a page with two damaged slots is doubt, after a power cut too', async () => {
  const w = new Case();
  const kernel = createKernel('js');
  const folder = w.host.folder('/maps');
  const facts = { name: 'a', regions: 100, regionSize: REGION };
  const map = new RegionMap(kernel, 100);
  map.set(7);
  const file = await MapFile.create(folder, facts, map);
  map.set(8);
  await file.save(map);
  await file.close();
  const disk = w.host.folders.get('/maps')!.names.get('a')!;
  disk.content[4096 + 100] ^= 1;
  disk.content[8192 + 100] ^= 1;
  const opened = await MapFile.open(folder, facts, kernel, { tornIsOld: true });
  assert.notEqual(opened.doubt, null);
});

test('a save that failed is not repeated over the last good slot', async () => {
  const w = new Case();
  const kernel = createKernel('js');
  const folder = w.host.folder('/maps');
  const facts = { name: 'a', regions: 100, regionSize: REGION };
  const map = new RegionMap(kernel, 100);
  map.set(7);
  const file = await MapFile.create(folder, facts, map);
  const disk = w.host.folders.get('/maps')!.names.get('a')!;
  let fails = true;
  disk.fault = (op) => {
    if (op === 'flush' && fails) throw new KageError('io-error', 'fault');
  };
  map.set(8);
  await assert.rejects(file.save(map));
  const good = disk.durable.slice(4096, 8192);
  await assert.rejects(file.save(map));
  assert.ok(Buffer.compare(disk.content.subarray(4096, 8192), good) === 0, 'written over');
  fails = false;
});

test('a stranger between two verbs of one session is noticed: the target', async () => {
  const w = new Case();
  const disks = await w.joined();
  await disks.part(['p']);
  await disks.write('m', REGION, bytes(42));
  w.scribble('p', 5, 77);
  await disks.rejoin(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
  await disks.close();
});

test('a stranger between the open and the first write of a session is noticed', async () => {
  const w = new Case();
  let disks = await w.joined();
  await disks.part(['p']);
  await disks.close();
  disks = await w.open();
  w.scribble('m', 5, 77);
  await disks.write('m', REGION, bytes(42));
  await disks.close();
  disks = await w.open();
  await disks.rejoin(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
});

test('a snapshot whose source was written during the copy does not look good', async () => {
  const w = new Case();
  const disks = await w.joined();
  await disks.part(['p']);
  await disks.write('m', REGION, bytes(42));
  await disks.write('m', 6 * REGION, bytes(43));
  await disks.close();
  const again = await w.open();
  let once = true;
  w.disk('p').fault = (op) => {
    if (op === 'write' && once) {
      once = false;
      w.scribble('m', 6, 78);
    }
  };
  await assert.rejects(again.update(['p']), (e: KageError) => e.code === 'written-during-copy');
  const volume = (await again.info()).volumes.find((v) => v.name === 'p')!;
  assert.equal(volume.status, 'INVALID');
  await again.update(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
});

test('the increment of a joined sibling holds what a restore brought', async () => {
  const w = new Case();
  const disks = await w.joined({ proxies: ['p', 'q'] });
  await disks.part(['p', 'q']);
  await disks.write('m', REGION, bytes(42));
  await disks.rejoin(['q']);
  await disks.part(['q']); // A backup pulls region 1 now.
  await disks.rejoin(['q']);
  assert.equal((await pairOf(disks, 'q')).incrementRegions, 0);
  await disks.restore(['p']);
  await disks.part(['q']);
  assert.equal((await pairOf(disks, 'q')).incrementRegions, 1);
});

test('the increment holds what the lost log hid', async () => {
  const w = new Case();
  let disks = await w.joined({ exclusive: true });
  await disks.part(['p']);
  await disks.rejoin(['p']);
  await disks.write('m', REGION, bytes(42));
  w.kill();
  w.host.folders.get(CLASS)!.names.get('intent')!.content.fill(255);
  disks = await w.open();
  await disks.part(['p']);
  assert.ok((await pairOf(disks, 'p')).incrementRegions > 0);
});

test('close may be called twice, and nothing slips in behind it', async () => {
  const w = new Case();
  const disks = await w.joined();
  await disks.write('m', 0, bytes(1));
  const first = disks.close();
  const late = disks.write('m', 0, bytes(2));
  const second = disks.close();
  await first;
  await second;
  await assert.rejects(late, (e: KageError) => e.code === 'usage');
});

test('a dry run of verify notes nothing', async () => {
  const w = new Case();
  const disks = await w.joined({ exclusive: true });
  w.scribble('p', 5, 77);
  const before = (await disks.info()).generation;
  await disks.verify(['p'], { dryRun: true });
  assert.equal((await disks.info()).generation, before);
});

test('no restore from a proxy that was never synchronized', async () => {
  const w = new Case();
  w.host.addDisk('/m.img', SIZE);
  w.host.addDisk('/p.img', SIZE);
  w.scribble('m', 1, 1);
  const disks = await w.open();
  await disks.relate('/m.img', '/p.img', { regionSize: REGION });
  await assert.rejects(disks.restore(['p']), (e: KageError) => e.code === 'wrong-state');
  assert.equal(w.byte('m', 1), 1);
});

test('a catalog taken from its older root trusts no unfinished snapshot', async () => {
  const { reopenCatalog } = await import('../../src/engine/open.ts');
  const w = new Case();
  let disks = await w.joined({ exclusive: true });
  await disks.part(['p']);
  await disks.write('m', REGION, bytes(42));
  await stopped((signal) => disks.update(['p'], { signal, instant: true }));
  w.kill();
  const { names } = w.host.folders.get(CLASS)!;
  // The newest root goes: which of the two it is shows in the generations.
  const generation = (name: string) =>
    Number(/"generation": (\d+)/.exec(Buffer.from(names.get(name)!.content).toString())![1]);
  const newest = generation('root.0') > generation('root.1') ? 'root.0' : 'root.1';
  const older = newest === 'root.0' ? 'root.1' : 'root.0';
  // One more commit, so that the older root is the one with the copy.
  disks = await w.open();
  await disks.lock(['m']);
  w.kill();
  names.get(older)!.content.fill(0);
  await reopenCatalog('r', { home: '/home', host: w.host, kernel: 'js' });
  disks = await w.open();
  const volume = (await disks.info()).volumes.find((v) => v.name === 'p')!;
  assert.equal(volume.status, 'INVALID');
});

test('a lost log is doubt, also when nothing else happens in the session that finds it', async () => {
  const w = new Case();
  let disks = await w.joined({ exclusive: true });
  await disks.write('m', 0, bytes(1));
  w.disk('p').fault = (op) => {
    if (op !== 'write') return;
    w.kill();
    throw new Error('killed');
  };
  await assert.rejects(disks.write('m', 3 * REGION, bytes(2)));
  w.disk('p').fault = undefined;
  w.host.folders.get(CLASS)!.names.get('intent')!.content = new Uint8Array(100);
  disks = await w.open();
  await disks.close();
  disks = await w.open();
  await disks.part(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
});

test('a copy that goes on after a failed save of the map leaves nothing out', async () => {
  const w = new Case();
  const disks = await w.joined({ exclusive: true });
  await disks.part(['p']);
  for (const r of [1, 3, 5]) await disks.write('m', r * REGION, bytes(40 + r));
  let left = 2;
  w.disk('p').fault = (op) => {
    if (op === 'write' && --left === 0) throw new KageError('io-error', 'fault');
  };
  w.host.onOperation = () => {};
  await assert.rejects(disks.rejoin(['p']));
  w.disk('p').fault = undefined;
  await disks.rejoin(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
});

test('a proxy that is parted by a failed write knows every region it missed', async () => {
  const w = new Case();
  const disks = await w.joined({ exclusive: true });
  await disks.write('m', 2 * REGION, bytes(2));
  w.disk('p').fault = (op) => {
    if (op === 'write') throw new KageError('io-error', 'fault');
  };
  await disks.write('m', 0, bytes(7, 6 * REGION));
  w.disk('p').fault = undefined;
  assert.equal((await pairOf(disks, 'p')).state, 'invalid');
  await disks.rejoin(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
});

test('a break after a copy that caught a stranger leaves no good looking proxy', async () => {
  const w = new Case();
  const disks = await w.joined();
  await disks.part(['p']);
  for (const r of [1, 6]) await disks.write('m', r * REGION, bytes(42));
  await disks.close();
  const again = await w.open();
  let once = true;
  w.disk('p').fault = (op) => {
    if (op === 'write' && once) {
      once = false;
      w.scribble('m', 6, 78);
    }
  };
  await assert.rejects(again.rejoin(['p']), (e: KageError) => e.code === 'written-during-copy');
  w.disk('p').fault = undefined;
  assert.equal((await pairOf(again, 'p')).state, 'joining');
  await again.break('p');
  const volume = (await again.info()).volumes.find((v) => v.name === 'p')!;
  assert.equal(volume.status, 'INVALID');
});

test('a restore whose proxy was written during it is run again to its end', async () => {
  const w = new Case();
  let disks = await w.joined({ proxies: ['p', 'q'] });
  await disks.part(['p', 'q']);
  for (const r of [1, 6]) await disks.write('m', r * REGION, bytes(42));
  await disks.close();
  disks = await w.open();
  let once = true;
  w.disk('m').fault = (op) => {
    if (op === 'write' && once) {
      once = false;
      w.scribble('p', 6, 78);
      w.scribble('p', 7, 79);
    }
  };
  await assert.rejects(disks.restore(['p']), (e: KageError) => e.code === 'written-during-copy');
  w.disk('m').fault = undefined;
  await assert.rejects(disks.read('m', 0, 1));
  await disks.restore(['p']);
  assert.deepEqual(w.differing('m', 'p'), []);
  await disks.rejoin(['q']);
  assert.deepEqual(w.differing('m', 'q'), []);
});

test('a half-made snapshot is not copied out of its class as if it were whole', async () => {
  const w = new Case();
  const disks = await w.joined();
  await disks.part(['p']);
  await disks.write('m', REGION, bytes(42));
  const options = { home: '/home', host: w.host, kernel: 'js' as const };
  await stopped((signal) => disks.update(['p'], { signal, instant: true }));
  await disks.close();
  const refused = (e: KageError) => e.code === 'wrong-state';
  await assert.rejects(copyImage('/p.img', '/out.img', options), refused);
  assert.ok(!w.host.disks.has('/out.img'));
  const again = await w.open();
  await again.update(['p']);
  await again.close();
  await copyImage('/p.img', '/out.img', options);
});

test('whoever asks for the holder of a lock leaves its socket alone', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kage-review-'));
  try {
    const at = path.join(folder, 'lock-1.sock');
    const program = `require('node:net').createServer().listen(${JSON.stringify(at)}, () => console.log('up'))`;
    const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'ignore'] });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('close', resolve));
    // Refused, as from another machine that shares the folder.
    assert.equal(await new FileFolder(folder).alive('lock-1.sock'), false);
    assert.ok(fs.existsSync(at));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test('a copy thread that ends by itself ends the copy', async () => {
  const before = workerCode.text;
  try {
    const ready = '{ result: { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 } }';
    workerCode.text = `const { parentPort } = process.getBuiltinModule('node:worker_threads');
      parentPort.postMessage(${ready});
      parentPort.on('message', () => process.exit(0));`;
    const spec = { path: '/nowhere', offset: 0, size: 1, identity: '' };
    const order = { source: spec, target: spec, mode: 'diff' as const, regionSize: REGION };
    // This thread takes the first piece and never ends, so that the others go to the thread.
    const own = { members: 1, run: () => new Promise<never>(() => {}), close: async () => {} };
    const crew = threadCrew(own, order, 'js', 1);
    void crew.run([{ offset: 0, length: 1 }]);
    await assert.rejects(crew.run([{ offset: 0, length: 1 }]), /ended by itself/);
    await assert.rejects(crew.run([{ offset: 0, length: 1 }]), /ended by itself/);
    await crew.close();
  } finally {
    workerCode.text = before;
  }
});

test('an image replaced in the middle of a session is not taken for the one that was written', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kage-review-'));
  try {
    const at = (name: string) => path.join(folder, name);
    fs.writeFileSync(at('m.img'), new Uint8Array(SIZE).fill(1));
    fs.writeFileSync(at('p.img'), new Uint8Array(SIZE).fill(2));
    const home = at('home');
    let disks = await openClass('r', { home, kernel: 'js', create: true });
    await disks.join(at('m.img'), at('p.img'), { regionSize: REGION });
    fs.writeFileSync(at('new'), new Uint8Array(SIZE).fill(3));
    fs.renameSync(at('new'), at('p.img'));
    await disks.write('m', 0, bytes(9));
    await disks.close();
    disks = await openClass('r', { home, kernel: 'js' });
    const { problem } = (await disks.info()).disks.find((d) => d.path === at('p.img'))!;
    await disks.close();
    assert.match(problem ?? '', /replaced/);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test('a loop device is no proxy of the file behind it', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kage-review-'));
  const file = path.join(folder, 'm.img');
  fs.writeFileSync(file, new Uint8Array(1024 * 1024));
  const loop = spawnSync('losetup', ['-f', '--show', file], { encoding: 'utf8' });
  try {
    if (loop.status !== 0) return; // Only root has loop devices, and not everywhere.
    const disks = await openClass('r', { home: path.join(folder, 'home'), create: true });
    const refused = (e: KageError) => e.code === 'same-file';
    await assert.rejects(disks.join(file, loop.stdout.trim()), refused);
    await disks.close();
  } finally {
    if (loop.status === 0) spawnSync('losetup', ['-d', loop.stdout.trim()]);
    fs.rmSync(folder, { recursive: true });
  }
});

test('a verb of two proxies that is stopped in the rest of an earlier copy is whole when run again', async () => {
  const world = new Case();
  const disks = await world.joined({ proxies: ['p', 'q'] });
  await disks.part(['p', 'q']);
  await disks.write('m', 0, bytes(99));
  await stopped((signal) => disks.rejoin(['q'], { signal }));
  await disks.cancel('q').catch(() => {});
  await stopped((signal) => disks.rejoin(['q', 'p'], { signal }));
  // Had it been committed for p and not for q, the same command would be refused now.
  assert.equal((await pairOf(disks, 'p')).state, 'parted');
  await disks.rejoin(['q', 'p']);
  assert.deepEqual([world.differing('m', 'p'), world.differing('m', 'q')], [[], []]);
  await disks.close();
});

test.run();
