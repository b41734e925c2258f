/** What is told as zeros: never a byte that was not read as zero, and as much as is worth it. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { createKernel } from '../../src/kernel/select.ts';
import type { Extent } from '../../src/nbd/export.ts';
import { type Read, ZeroFinder } from '../../src/nbd/zeros.ts';
import { chance } from '../support/world.ts';

const test = suite('zeros');
const KIB = 1024;
const MIB = 1024 * KIB;
const UNIT = 64 * KIB;
const ZERO = 2;
const noTurn = async () => {};

const finder = (turn = noTurn, kind: Kernel['kind'] = 'wasm') =>
  new ZeroFinder(createKernel(kind), turn);

/** A disk in memory, and the reads that were asked of it: offset and length. */
class Disk {
  readonly bytes: Uint8Array;
  readonly reads: [number, number][] = [];

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  readonly read: Read = (into, offset) => {
    assert.ok(offset >= 0 && offset + into.length <= this.bytes.length, 'inside');
    this.reads.push([offset, into.length]);
    into.set(this.bytes.subarray(offset, offset + into.length));
  };
}

const pairs = (extents: readonly Extent[]) => extents.map(({ length, flags }) => [length, flags]);
const isZero = (bytes: Uint8Array) => bytes.every((byte) => byte === 0);

/** Fails unless each range told as zeros is zeros; neighbours differ, the first byte is covered. */
function judge(extents: readonly Extent[], bytes: Uint8Array, offset: number, length: number) {
  let at = offset;
  for (const [i, extent] of extents.entries()) {
    assert.ok(extent.length > 0 && (extent.flags === 0 || extent.flags === ZERO));
    assert.ok(i === 0 || extents[i - 1].flags !== extent.flags);
    const told = bytes.subarray(at, at + extent.length);
    assert.ok(extent.flags === 0 || isZero(told), `${at}+${extent.length} holds data`);
    at += extent.length;
  }
  assert.ok(at > offset && at <= offset + length);
}

for (const kind of ['wasm', 'js'] as const) {
  test(`zeros are told in units of 64 KiB, by the ${kind} kernel`, async () => {
    const disk = new Disk(3 * MIB + 77);
    const find = finder(noTurn, kind);
    const ask = async (offset: number, length: number) =>
      pairs(await find.extents(disk.read, offset, length));
    assert.equal(await ask(0, 3 * MIB + 77), [[3 * MIB + 77, ZERO]]);
    assert.equal(await ask(5, 1), [[1, ZERO]]);
    disk.bytes[3 * MIB + 76] = 1;
    assert.equal(await ask(MIB, 2 * MIB), [[2 * MIB, ZERO]]);
    assert.equal(await ask(3 * MIB - 100, 177), [
      [100, ZERO],
      [77, 0],
    ]);
    disk.bytes[UNIT - 1] = 1;
    assert.equal((await ask(0, MIB))[0], [UNIT, 0], 'the last byte of a unit');
    disk.bytes[UNIT - 1] = 0;
    disk.bytes[10 * UNIT + 3] = 9;
    const [first, second] = await ask(100, MIB);
    assert.equal(first, [10 * UNIT - 100, ZERO]);
    assert.is(second[1], 0);
  });
}

test('nothing but zeros is told as zeros, whatever lies where', async () => {
  const find = finder();
  const disk = new Disk(2 * MIB + 513);
  const spot = fc.nat(disk.bytes.length - 1);
  await fc.assert(
    fc.asyncProperty(
      fc.array(spot, { maxLength: 6 }),
      fc.boolean(),
      spot,
      fc.integer({ min: 1, max: 3 * MIB }),
      async (spots, full, offset, most) => {
        disk.bytes.fill(full ? 7 : 0);
        for (const at of spots) disk.bytes.fill(full ? 0 : 7, at, at + (full ? 200 * KIB : 1));
        const length = Math.min(most, disk.bytes.length - offset);
        judge(await find.extents(disk.read, offset, length), disk.bytes, offset, length);
      },
    ),
    { numRuns: 300 },
  );
});

test('what is cleared is zeros, and what was zeros is not written', async () => {
  const find = finder();
  const disk = new Disk(3 * MIB + 100);
  const written: [number, number][] = [];
  const clear = (offset: number, length: number) =>
    find.clear(
      disk.read,
      async (from, count) => {
        written.push([from, count]);
        disk.bytes.fill(0, from, from + count);
      },
      offset,
      length,
    );
  await clear(0, 3 * MIB + 100);
  assert.equal(written, []);
  for (let seed = 1; seed <= 60; seed++) {
    const roll = chance(seed);
    disk.bytes.fill(0);
    for (let i = 0; i < 6; i++) {
      const at = roll(disk.bytes.length);
      disk.bytes.fill(7, at, at + roll(seed % 2 ? 100 : 600 * KIB));
    }
    const before = disk.bytes.slice();
    const offset = roll(disk.bytes.length);
    const end = offset + 1 + roll(disk.bytes.length - offset);
    written.length = 0;
    await clear(offset, end - offset);
    assert.ok(isZero(disk.bytes.subarray(offset, end)));
    before.fill(0, offset, end);
    assert.equal(Buffer.compare(before, disk.bytes), 0, 'nothing outside has changed');
    for (const [from, count] of written) assert.ok(from >= offset && from + count <= end);
  }
  disk.bytes.fill(0);
  disk.bytes[2 * MIB + 5] = 1;
  written.length = 0;
  await clear(0, 3 * MIB);
  assert.equal(written, [[2 * MIB, UNIT]], 'only the unit that held data');
});

test('data costs a short read for each step, steps grow, and one answer ends', async () => {
  const disk = new Disk(64 * MIB);
  disk.bytes.fill(1);
  let turns = 0;
  const find = finder(async () => void turns++);
  assert.equal(pairs(await find.extents(disk.read, 0, 64 * MIB)), [[32 * MIB, 0]]);
  assert.ok(disk.reads.length < 40 && disk.reads.every(([, length]) => length <= 512));
  assert.is(turns, disk.reads.length - 1, 'others have a turn between two steps');
  disk.bytes.fill(0);
  disk.reads.length = 0;
  turns = 0;
  assert.equal(pairs(await find.extents(disk.read, 0, 64 * MIB)), [[32 * MIB, ZERO]]);
  const whole = disk.reads.filter(([, length]) => length > 512);
  assert.ok(whole.every(([, length]) => length <= MIB));
  assert.is(turns, whole.length - 1);
  disk.bytes[5 * MIB] = 1;
  disk.reads.length = 0;
  await find.extents(disk.read, 0, 64 * MIB);
  assert.ok(
    disk.reads.every(([offset]) => offset < 7 * MIB),
    'nothing is read behind the first run',
  );
});

test('a read that fails is the answer', async () => {
  const find = finder();
  for (const read of [
    () => {
      throw new Error('bad sector');
    },
    () => Promise.reject(new Error('bad sector')),
  ]) {
    try {
      await find.extents(read, 0, MIB);
      assert.unreachable();
    } catch (error) {
      assert.is((error as Error).message, 'bad sector');
    }
  }
  assert.equal(pairs(await find.extents(new Disk(MIB).read, 0, MIB)), [[MIB, ZERO]]);
});

test('with many at once what cannot be looked at is data, and nobody sees the bytes of another', async () => {
  const find = finder();
  const waiting: (() => void)[] = [];
  const disks = Array.from({ length: 9 }, (_, i) => {
    const disk = new Disk(MIB);
    if (i % 2) disk.bytes.fill(1, 1000, MIB);
    return disk;
  });
  const slow =
    (disk: Disk): Read =>
    (into, offset) => {
      if (into.length <= 512) return disk.read(into, offset);
      return new Promise<void>((go) => waiting.push(go)).then(() => disk.read(into, offset));
    };
  const asked = disks.map((disk) => find.extents(slow(disk), 0, UNIT));
  await new Promise((resolve) => setImmediate(resolve));
  assert.is(waiting.length, 4);
  for (const go of waiting.reverse()) go();
  const told = (await Promise.all(asked)).map(pairs);
  assert.equal(told.slice(0, 4), [[[UNIT, ZERO]], [[UNIT, 0]], [[UNIT, ZERO]], [[UNIT, 0]]]);
  for (const each of told.slice(4)) assert.equal(each, [[UNIT, 0]]);
});

test('beside a writer only what was zero while it was asked is told so', async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const roll = chance(seed);
    const disk = new Disk(4 * MIB);
    // Whatever is written is never zero again: what is zero at one moment of the question was so at its start.
    const busily = () => {
      if (roll(4) === 0) disk.bytes.fill(1, ...spot());
    };
    const spot = (): [number, number] => {
      const at = roll(disk.bytes.length);
      return [at, at + 1 + roll(600)];
    };
    if (seed % 5 === 0) disk.bytes.fill(1, roll(4 * MIB));
    const read: Read = async (into, offset) => {
      busily();
      await null;
      disk.read(into, offset);
      busily();
    };
    const find = finder(async () => busily());
    for (let i = 0; i < 5; i++) {
      const offset = roll(4 * MIB);
      const before = disk.bytes.slice();
      const length = disk.bytes.length - offset;
      judge(await find.extents(read, offset, length), before, offset, length);
    }
  }
});

test.run();
