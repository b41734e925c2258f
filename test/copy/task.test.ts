/** One piece of work in each mode, against byte arrays of odd sizes. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { COPY_CHUNK_SIZE } from '../../src/base/limits.ts';
import {
  Buffers,
  type CopyMode,
  type Range,
  runTask,
  sideOf,
  type TaskResult,
} from '../../src/copy/task.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('copy: task');
const kernel = createKernel('wasm');
const REGION = 1024;

type Case = { source: Uint8Array; target: Uint8Array; ranges: Range[]; mode: CopyMode };

async function run({ source, target, ranges, mode }: Case, regionSize = REGION) {
  const host = new MemoryHost(1);
  const disks = [source, target].map((content, i) => {
    const disk = host.addDisk(`/${i}`, content.byteLength);
    disk.content.set(content);
    return disk;
  });
  const from = await host.openDevice('/0', { readOnly: true });
  const to = await host.openDevice('/1', { readOnly: mode === 'diff' });
  const buffers = new Buffers(kernel, regionSize);
  try {
    const result = await runTask(buffers, from, to, ranges, mode);
    return { result, source: disks[0].content, target: disks[1].content };
  } finally {
    buffers.release();
  }
}

/** What the mode must do, region by region. */
function expected({ source, target, ranges, mode }: Case, regionSize = REGION) {
  const after = target.slice();
  const result: TaskResult = { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 };
  for (const { offset, length } of ranges) {
    for (let at = offset; at < offset + length; at += regionSize) {
      const end = Math.min(at + regionSize, offset + length);
      const old = target.subarray(at, end);
      const fresh = source.subarray(at, end);
      result.bytesRead += end - at;
      if (mode === 'compare' || mode === 'diff') result.bytesRead += end - at;
      const wanted =
        mode === 'write' ||
        (mode === 'fresh' ? fresh.some((byte) => byte !== 0) : Buffer.compare(old, fresh) !== 0);
      if (!wanted) continue;
      if (mode !== 'diff') {
        after.set(fresh, at);
        result.bytesWritten += end - at;
      }
      result.regionCount++;
      const region = at / regionSize;
      const last = result.regions.at(-1);
      if (last && last.first + last.count === region) last.count++;
      else result.regions.push({ first: region, count: 1 });
    }
  }
  return { result, target: after };
}

const SIZE = 9 * REGION + 333;
const sparse = fc
  .array(fc.tuple(fc.nat(SIZE - 1), fc.nat(1500), fc.nat(255)), { maxLength: 5 })
  .map((patches) => {
    const bytes = new Uint8Array(SIZE);
    for (const [offset, length, value] of patches) bytes.fill(value, offset, offset + length);
    return bytes;
  });
const cases: fc.Arbitrary<Case> = fc
  .record({
    source: sparse,
    patches: fc.array(fc.tuple(fc.nat(SIZE - 1), fc.nat(255)), { maxLength: 4 }),
    regions: fc.uniqueArray(fc.nat(9), { minLength: 1 }),
    mode: fc.constantFrom<CopyMode>('write', 'fresh', 'compare', 'diff'),
  })
  .map(({ source, patches, regions, mode }) => {
    const target = mode === 'fresh' ? new Uint8Array(SIZE) : source.slice();
    for (const [at, value] of mode === 'fresh' ? [] : patches) target[at] = value;
    const ranges = regions
      .sort((a, b) => a - b)
      .map((region) => {
        const offset = region * REGION;
        return { offset, length: Math.min(REGION, SIZE - offset) };
      });
    return { source, target, ranges, mode };
  });

test('each mode writes just what it must, and says so', async () => {
  await fc.assert(
    fc.asyncProperty(cases, async (c) => {
      const is = await run(c);
      const must = expected(c);
      assert.equal(is.result, must.result);
      assert.is(Buffer.compare(is.target, must.target), 0, 'the target');
      assert.is(Buffer.compare(is.source, c.source), 0, 'the source is untouched');
    }),
    { numRuns: 200 },
  );
});

test('ranges longer than one transfer, and regions larger than one', async () => {
  for (const regionSize of [4096, 65536, 4 * COPY_CHUNK_SIZE]) {
    const size = 2 * 4 * COPY_CHUNK_SIZE + COPY_CHUNK_SIZE + 777;
    const source = new Uint8Array(size);
    const target = new Uint8Array(size);
    for (const at of [0, COPY_CHUNK_SIZE - 1, COPY_CHUNK_SIZE, size - 1]) source[at] = 1;
    target[5 * COPY_CHUNK_SIZE] = 1;
    const c: Case = { source, target, ranges: [{ offset: 0, length: size }], mode: 'compare' };
    const is = await run(c, regionSize);
    assert.equal(is.result, expected(c, regionSize).result, String(regionSize));
    assert.is(Buffer.compare(is.target, source), 0);
  }
});

test('an error of a device names its side, and stays what it was', async () => {
  const host = new MemoryHost(1);
  for (const path of ['/0', '/1']) host.addDisk(path, 10_000).content.fill(path === '/0' ? 1 : 2);
  const from = await host.openDevice('/0', { readOnly: true });
  const to = await host.openDevice('/1', { readOnly: false });
  const buffers = new Buffers(kernel, REGION);
  const fail = async (path: string, operation: string) => {
    const disk = host.disks.get(path)!;
    disk.fault = (op) => {
      if (op === operation) throw new KageError('io-error', `${path} ${operation}`);
    };
    try {
      await runTask(buffers, from, to, [{ offset: 0, length: 10_000 }], 'compare');
    } catch (error) {
      return [(error as Error).message, sideOf(error)];
    } finally {
      disk.fault = undefined;
    }
    return [];
  };
  assert.equal(await fail('/0', 'read'), ['/0 read', 'source']);
  assert.equal(await fail('/1', 'read'), ['/1 read', 'target']);
  assert.equal(await fail('/1', 'write'), ['/1 write', 'target']);
  assert.is(sideOf(new Error('other')), undefined);
  assert.is(sideOf('text'), undefined);
  buffers.release();
});

test('long work gives way now and then', async () => {
  const size = 40 * COPY_CHUNK_SIZE;
  const host = new MemoryHost(1);
  for (const path of ['/0', '/1']) host.addDisk(path, size);
  const from = await host.openDevice('/0', { readOnly: true });
  const to = await host.openDevice('/1', { readOnly: false });
  const buffers = new Buffers(kernel, 65536);
  let breaths = 0;
  await runTask(buffers, from, to, [{ offset: 0, length: size }], 'compare', async () => {
    breaths++;
  });
  assert.ok(breaths >= 4, String(breaths));
  buffers.release();
});

test.run();
