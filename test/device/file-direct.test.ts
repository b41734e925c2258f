/** Files with direct reads: the memory of the kernel is page-aligned, so that they really happen. */

import fs from 'node:fs';
import * as assert from 'uvu/assert';
import { FileDevice, isSparse } from '../../src/device/file.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { deviceConformance, same } from '../conformance/device.ts';
import { inWorld, World } from '../support/world.ts';

const WINDOW = 64 * 1024;
const kernel = createKernel('wasm');
const windows = Array.from({ length: 4 }, () => kernel.allocate(WINDOW));

/** Page-aligned memory; the fourth call from here gets the same again. */
function memory(length: number): Uint8Array {
  const address = windows.shift()!;
  windows.push(address);
  return kernel.bytes(address, length);
}

const test = deviceConformance('device: file, direct', async (content) => {
  const world = new World();
  const file = world.path('image');
  fs.writeFileSync(file, content);
  const device = new FileDevice(file, { readOnly: false, direct: true });
  const readOnly = new FileDevice(file, { readOnly: true, direct: true });
  return {
    device,
    readOnly,
    memory,
    async remove() {
      await device.close();
      await readOnly.close();
      world.remove();
    },
  };
});

test('holes read as zeros, data between them as data', () =>
  inWorld(async (w) => {
    const size = 8 * 1024 * 1024;
    fs.writeFileSync(w.path('a'), '');
    fs.truncateSync(w.path('a'), size);
    w.scribble('a', 3_000_000, 'data');
    assert.ok(isSparse(w.path('a')));
    assert.not.ok(isSparse(w.image('b', 100_000)));
    const device = new FileDevice(w.path('a'), { readOnly: true, direct: true });
    const large = createKernel('wasm');
    const into = large.bytes(large.allocate(size), size).fill(1);
    await device.read(into, 0);
    const must = new Uint8Array(size);
    must.set(new TextEncoder().encode('data'), 3_000_000);
    same(into, must, 'the whole');
    await device.close();
  }));

test('an image in linear memory that grows is read into the new memory', () =>
  inWorld(async (w) => {
    const device = new FileDevice(w.image('a', 8192, 5), { readOnly: true, direct: true });
    const small = createKernel('wasm');
    const address = small.allocate(8192);
    small.allocate(64 * 1024 * 1024);
    await device.read(small.bytes(address, 8192), 0);
    same(small.bytes(address, 8192), w.read('a'), 'the whole');
    await device.close();
  }));

test.run();
