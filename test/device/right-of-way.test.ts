/** A file that gives way to clients: a device like others, whose writes wait for theirs, and not for ever. */

import { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlockDevice } from '../../src/device/device.ts';
import { FileDevice } from '../../src/device/file.ts';
import { PatientFile } from '../../src/device/patient-file.ts';
import { Promptness } from '../../src/device/promptness.ts';
import { RightOfWay, YieldingFile } from '../../src/device/right-of-way.ts';
import { SlowLane } from '../../src/device/slow-lane.ts';
import { deviceConformance } from '../conformance/device.ts';
import { inWorld, World } from '../support/world.ts';

const MIB = 1024 * 1024;
/** Long enough to be told from a wait that the machine adds, ms. */
const LONG = 300;

deviceConformance('device: yielding file', async (content) => {
  const world = new World();
  const file = world.path('image');
  world.image('image', content.byteLength + 512, 1);
  world.scribble('image', 512, content);
  const below = [false, true].map((readOnly) => new FileDevice(file, { readOnly }));
  const [device, readOnly] = below.map(
    (disk) => new YieldingFile(disk, 512, content.byteLength, new RightOfWay()),
  );
  return {
    device,
    readOnly,
    async remove() {
      for (const disk of below) await disk.close();
      world.remove();
    },
  };
}).run();

const test = suite('right of way');

/** Counts the writes that come through, and how many clients were writing then. */
function counting(way: RightOfWay, size: number): BlockDevice & { readonly seen: number[] } {
  const seen: number[] = [];
  return {
    name: 'counting',
    size,
    readOnly: false,
    seen,
    read() {},
    write() {
      seen.push(way.clients[0]);
    },
    zero() {},
    async flush() {},
    async close() {},
  };
}

test('nobody is waited for when nobody writes', () => {
  const way = new RightOfWay();
  const began = performance.now();
  way.giveWay(LONG);
  assert.ok(performance.now() - began < LONG);
});

test('a client that does not end is waited for as long as was said', () => {
  const way = new RightOfWay();
  way.begin();
  way.begin();
  way.end();
  const began = performance.now();
  way.giveWay(LONG);
  assert.ok(performance.now() - began >= LONG - 1);
  const below = counting(way, MIB);
  new YieldingFile(below, 0, MIB, way).write(new Uint8Array(MIB), 0);
  assert.equal(below.seen, new Array(MIB / 65536).fill(1), 'the copy goes on, in small pieces');
});

test('the end of the last write of another thread lets it go on at once', async () => {
  const way = new RightOfWay();
  way.begin();
  const client = new Worker(
    `const { clients } = require('node:worker_threads').workerData;
     setTimeout(() => { if (Atomics.sub(clients, 0, 1) === 1) Atomics.notify(clients, 0); }, 50);`,
    { eval: true, workerData: { clients: way.clients } },
  );
  const began = performance.now();
  way.giveWay(60_000);
  assert.ok(performance.now() - began < 30_000);
  assert.is(way.clients[0], 0);
  await client.terminate();
});

for (const prompt of [true, false]) {
  test(`a client's write counts until it has ended, ${prompt ? 'at once' : 'later'}`, () =>
    inWorld(async (w) => {
      const clients = new RightOfWay();
      const speed = new (class extends Promptness {
        override isPrompt() {
          return prompt;
        }
      })();
      const speeds = { reads: speed, writes: speed };
      const options = { readOnly: false, clients };
      const device = new PatientFile(w.image('a', MIB), options, new SlowLane(1), speeds);
      const written = device.write(new Uint8Array(4096), 0);
      const zeroed = device.zero(8192, 4096);
      if (!prompt) assert.ok(clients.clients[0] > 0);
      await written;
      await zeroed;
      assert.is(clients.clients[0], 0);
      // Also when it fails.
      const closed = new PatientFile(w.path('a'), options, new SlowLane(1), speeds);
      await closed.close();
      await (async () => closed.write(new Uint8Array(512), 0))().catch(() => {});
      assert.is(clients.clients[0], 0);
      await device.close();
    }));
}

test.run();
