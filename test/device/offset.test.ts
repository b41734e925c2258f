/** A part of a device as a device: on a file, and on a part of a part. */

import * as assert from 'uvu/assert';
import { AssertionFault } from '../../src/base/assert.ts';
import { OffsetLayer } from '../../src/device/layers/offset.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import { deviceConformance, same } from '../conformance/device.ts';

const BEFORE = 1000;
const AFTER = 333;

const test = deviceConformance('device: offset', async (content) => {
  const host = new MemoryHost(1);
  const disk = host.addDisk('/disk', BEFORE + content.byteLength + AFTER);
  disk.content.fill(0xaa);
  disk.content.set(content, BEFORE);
  const parts = [];
  for (const readOnly of [false, true]) {
    const below = await host.openDevice('/disk', { readOnly });
    const middle = new OffsetLayer(below, BEFORE - 7, content.byteLength + 7);
    parts.push({ below, layer: new OffsetLayer(middle, 7, content.byteLength) });
  }
  return {
    device: parts[0].layer,
    readOnly: parts[1].layer,
    async remove() {
      const { content: all } = disk;
      const rest = [...all.subarray(0, BEFORE), ...all.subarray(all.byteLength - AFTER)];
      assert.ok(rest.every((byte) => byte === 0xaa));
    },
  };
});

test('closing a part leaves the device below open', async () => {
  const host = new MemoryHost(1);
  host.addDisk('/disk', 100).content.fill(5);
  const below = await host.openDevice('/disk', { readOnly: true });
  await new OffsetLayer(below, 10, 20).close();
  const into = new Uint8Array(100);
  await below.read(into, 0);
  same(into, new Uint8Array(100).fill(5), 'the device below');
});

test('a part must lie inside', async () => {
  const host = new MemoryHost(1);
  host.addDisk('/disk', 100);
  const below = await host.openDevice('/disk', { readOnly: false });
  for (const [offset, size] of [
    [-1, 10],
    [0, 101],
    [100, 1],
    [10, -1],
  ]) {
    assert.throws(
      () => new OffsetLayer(below, offset, size),
      (error: Error) => error instanceof AssertionFault,
    );
  }
  assert.is(new OffsetLayer(below, 100, 0).size, 0);
});

test.run();
