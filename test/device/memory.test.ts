/** Disks in memory: a device like any other, and a power cut that loses what a real one may lose. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { MemoryDisk, MemoryHost, PowerCut, seededRandom } from '../../src/device/memory-host.ts';
import { deviceConformance, same } from '../conformance/device.ts';

const test = deviceConformance('device: memory', async (content) => {
  const host = new MemoryHost(1);
  host.addDisk('/disk', content.byteLength).content.set(content);
  return {
    device: await host.openDevice('/disk', { readOnly: false }),
    readOnly: await host.openDevice('/disk', { readOnly: true }),
    async remove() {},
  };
});

const SIZE = 5000;
const write = fc.record({ offset: fc.nat(SIZE - 1), length: fc.nat(2000), flush: fc.boolean() });

/** A disk after writes of the values 1, 2, 3 … */
function written(writes: readonly { offset: number; length: number; flush: boolean }[]) {
  const disk = new MemoryDisk('/disk', SIZE);
  /** Which values each byte may have after a power cut: the flushed one, and all later ones. */
  const allowed = Array.from({ length: SIZE }, () => new Set([0]));
  for (const [i, { offset, length, flush }] of writes.entries()) {
    const data = new Uint8Array(Math.min(length, SIZE - offset)).fill(i + 1);
    disk.write(data, offset);
    for (let at = offset; at < offset + data.byteLength; at++) allowed[at].add(i + 1);
    if (!flush) continue;
    disk.flush();
    for (const [at, values] of allowed.entries()) {
      values.clear();
      values.add(disk.content[at]);
    }
  }
  return { disk, allowed };
}

test('a power cut keeps what was flushed, and of the rest some', () => {
  fc.assert(
    fc.property(fc.array(write, { maxLength: 12 }), fc.nat(), (writes, seed) => {
      const { disk, allowed } = written(writes);
      disk.cutPower(seededRandom(seed));
      const bad = allowed.findIndex((values, at) => !values.has(disk.content[at]));
      assert.is(bad, -1, `byte ${bad} is ${disk.content[bad]}`);
      same(disk.content, disk.durable, 'content and what is durable');
    }),
  );
});

test('a write tears at multiples of 512 only', () => {
  fc.assert(
    fc.property(fc.nat(SIZE - 1), fc.nat(3000), fc.nat(), (offset, length, seed) => {
      const { disk } = written([{ offset, length, flush: false }]);
      disk.cutPower(seededRandom(seed));
      const end = Math.min(SIZE, offset + length);
      for (let at = offset + 1; at < end; at++) {
        if (at % 512 !== 0) assert.is(disk.content[at], disk.content[at - 1], `tears at ${at}`);
      }
    }),
  );
});

test('a torn write is possible, and so are none and all of it', () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 50; seed++) {
    const { disk } = written([{ offset: 0, length: 1024, flush: false }]);
    disk.cutPower(seededRandom(seed));
    seen.add(`${disk.content[0]}${disk.content[512]}`);
  }
  assert.equal([...seen].sort(), ['00', '01', '10', '11']);
});

test('the same seed gives the same world', () => {
  const run = (seed: number) => {
    const host = new MemoryHost(seed);
    const disk = host.addDisk('/disk', SIZE);
    for (let i = 0; i < 9; i++) disk.write(new Uint8Array(900).fill(i + 1), i * 450);
    host.cutPower();
    return [host.randomId(), host.now(), Buffer.from(disk.content).toString('base64')].join();
  };
  assert.is(run(7), run(7));
  assert.is.not(run(7), run(8));
});

test('seeded numbers are spread over the whole range', () => {
  const random = seededRandom(1);
  const tenths = new Array(10).fill(0);
  for (let i = 0; i < 10_000; i++) tenths[Math.floor(random() * 10)]++;
  assert.ok(tenths.every((count) => count > 800 && count < 1200));
});

test('devices of a life before the power cut do nothing any more', async () => {
  const host = new MemoryHost(1);
  const disk = host.addDisk('/disk', 100);
  const device = await host.openDevice('/disk', { readOnly: false });
  const folder = host.folder('/state');
  await folder.write('a', Uint8Array.of(1));
  for (const end of [() => host.cutPower(), () => host.killProcesses()]) {
    end();
    const dead = [
      () => device.write(Uint8Array.of(1), 0),
      () => device.read(new Uint8Array(1), 0),
      () => device.flush(),
      () => folder.write('b', Uint8Array.of(2)),
      () => folder.sync(),
    ];
    for (const action of dead) {
      let thrown: unknown;
      await Promise.resolve(action()).catch((error) => {
        thrown = error;
      });
      assert.instance(thrown, PowerCut);
    }
  }
  assert.is(disk.content[0], 0);
});

test('a killed process loses nothing that was written', async () => {
  const host = new MemoryHost(1);
  const disk = host.addDisk('/disk', 100);
  const device = await host.openDevice('/disk', { readOnly: false });
  await device.write(Uint8Array.of(9), 50);
  await host.folder('/state').write('a', Uint8Array.of(1));
  await host.folder('/state').beacon('b');
  host.killProcesses();
  assert.is(disk.content[50], 9);
  assert.equal(await host.folder('/state').list(), ['a']);
  assert.not.ok(await host.folder('/state').alive('b'));
});

test('a fault makes one operation of one disk fail, before it does anything', async () => {
  const host = new MemoryHost(1);
  const disk = host.addDisk('/disk', 100);
  const device = await host.openDevice('/disk', { readOnly: false });
  disk.fault = (operation, at, offset) => {
    assert.is(at, disk);
    if (operation === 'write' && offset === 10) throw new KageError('io-error', 'fault');
  };
  await device.write(Uint8Array.of(1), 9);
  let code = '';
  await Promise.resolve(device.write(Uint8Array.of(1), 10)).catch((error: KageError) => {
    code = error.code;
  });
  assert.is(code, 'io-error');
  assert.equal([...disk.content.subarray(8, 12)], [0, 1, 0, 0]);
});

test('names in a folder are lost from the newest on, whole', async () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 60; seed++) {
    const host = new MemoryHost(seed);
    const folder = host.folder('/state');
    await folder.write('root', Uint8Array.of(1));
    await folder.sync();
    await folder.write('new', Uint8Array.of(2));
    await folder.rename('new', 'root');
    await folder.write('other', Uint8Array.of(3));
    await folder.remove('root');
    host.cutPower();
    const after = host.folder('/state');
    const root = (await after.read('root'))?.[0] ?? '-';
    seen.add(`${(await after.list()).join()} ${root}`);
  }
  const prefixes = ['root 1', 'new,root 1', 'root 2', 'other,root 2', 'other -'];
  assert.equal([...seen].sort(), [...prefixes].sort());
});

test.run();
