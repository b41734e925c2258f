/**
 * The conformance suite of block devices: whatever calls itself one runs all of it, against a plain
 * byte array. Sizes are odd on purpose.
 */

import fc from 'fast-check';
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { AssertionFault } from '../../src/base/assert.ts';
import type { BlockDevice } from '../../src/device/device.ts';

export type Subject = {
  readonly device: BlockDevice;
  /** Another device on the same content, read-only. */
  readonly readOnly: BlockDevice;
  /** Memory to transfer from and to, as this device likes it best; a plain array without it. */
  readonly memory?: (length: number) => Uint8Array;
  remove(): Promise<void>;
};

type Create = (content: Uint8Array) => Promise<Subject>;
type Body = (subject: Subject, model: Uint8Array) => Promise<void>;

/** Three pages and a bit: no multiple of 512. */
const SIZE = 3 * 4096 + 777;
const PAGE = 4096;

/** Begin, length: empty, odd, whole blocks, whole pages, over their ends, tails, everything. */
const RANGES: readonly (readonly [number, number])[] = [
  [0, 0],
  [0, 1],
  [1, 1],
  [3, 7],
  [511, 2],
  [512, 512],
  [0, PAGE],
  [PAGE, PAGE],
  [PAGE, 2 * PAGE],
  [PAGE - 1, PAGE + 2],
  [1, PAGE],
  [2 * PAGE, PAGE + 777],
  [3 * PAGE, 777],
  [SIZE - 1, 1],
  [SIZE, 0],
  [0, SIZE],
  [1, SIZE - 1],
];

export function deviceConformance(name: string, create: Create): Test {
  const test = suite(name) as unknown as Test;
  const on = (what: string, body: Body) =>
    test(what, async () => {
      const model = Uint8Array.from({ length: SIZE }, (_, i) => i * 7 + (i >> 8));
      const subject = await create(model.slice());
      try {
        await body(subject, model);
      } finally {
        await subject.remove();
      }
    });
  transferTests(on);
  boundsTests(on);
  endTests(on);
  return test;
}

type On = (what: string, body: Body) => void;

function transferTests(on: On): void {
  on('knows its size, and that it may be written', async ({ device, readOnly }) => {
    assert.is(device.size, SIZE);
    assert.is(device.readOnly, false);
    assert.is(readOnly.size, SIZE);
    assert.is(readOnly.readOnly, true);
    assert.type(device.name, 'string');
  });

  on('reads every range, and nothing beside it', async (subject, model) => {
    for (const [offset, length] of RANGES) {
      const memory = subject.memory?.(PAGE + length) ?? new Uint8Array(PAGE + length);
      // Once at the begin of the memory, once off it: both alignments there are.
      for (const at of [0, 1, 512]) {
        memory.fill(0xee);
        const into = memory.subarray(at, at + length);
        await subject.device.read(into, offset);
        same(into, model.subarray(offset, offset + length), `read ${offset}+${length} at ${at}`);
        const around = [...memory.subarray(0, at), ...memory.subarray(at + length)];
        assert.ok(around.every((byte) => byte === 0xee));
      }
    }
  });

  on('writes every range, and nothing beside it', async (subject, model) => {
    for (const [i, [offset, length]] of RANGES.entries()) {
      const memory = subject.memory?.(PAGE + length) ?? new Uint8Array(PAGE + length);
      const from = memory.subarray(i % 3, (i % 3) + length);
      from.fill(i + 100);
      const before = from.slice();
      await subject.device.write(from, offset);
      model.fill(i + 100, offset, offset + length);
      await holds(subject, model, `write ${offset}+${length}`);
      same(from, before, 'the memory that was written from');
    }
  });

  on('zeroes every range, and nothing beside it', async (subject, model) => {
    for (const [offset, length] of RANGES) {
      model.fill(255);
      await subject.device.write(model, 0);
      await subject.device.zero(offset, length);
      model.fill(0, offset, offset + length);
      await holds(subject, model, `zero ${offset}+${length}`);
    }
  });

  on('does what an array does, whatever the order', async (subject, model) => {
    const range = fc
      .tuple(fc.nat(SIZE), fc.nat(SIZE))
      .map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);
    const step = fc.tuple(fc.constantFrom('write', 'zero', 'flush', 'read'), range, fc.nat(255));
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        for (const [what, [offset, end], value] of steps) {
          if (what === 'write') {
            await subject.device.write(new Uint8Array(end - offset).fill(value), offset);
            model.fill(value, offset, end);
          } else if (what === 'zero') {
            await subject.device.zero(offset, end - offset);
            model.fill(0, offset, end);
          } else if (what === 'flush') {
            await subject.device.flush();
          } else {
            const into = new Uint8Array(end - offset);
            await subject.device.read(into, offset);
            same(into, model.subarray(offset, end), `read ${offset}+${end - offset}`);
          }
        }
        await holds(subject, model, 'after all');
      }),
      { numRuns: 15 },
    );
  });

  on('a write is seen through another device at once, flushed or not', async (subject, model) => {
    await subject.device.write(Uint8Array.of(1, 2, 3), 100);
    const into = new Uint8Array(3);
    await subject.readOnly.read(into, 100);
    same(into, Uint8Array.of(1, 2, 3), 'not flushed');
    await subject.device.flush();
    await subject.readOnly.flush();
    model.set([1, 2, 3], 100);
    await holds(subject, model, 'flushed');
  });
}

function boundsTests(on: On): void {
  on('a range outside throws before anything is changed', async (subject, model) => {
    const { device } = subject;
    const bad: readonly (readonly [number, number])[] = [
      [-1, 1],
      [SIZE, 1],
      [SIZE - 1, 2],
      [SIZE + 1, 0],
      [0, SIZE + 1],
      [0.5, 1],
      [Number.NaN, 1],
      [Number.POSITIVE_INFINITY, 1],
      [2 ** 53, 1],
    ];
    for (const [offset, length] of bad) {
      const data = new Uint8Array(length).fill(1);
      await faults(() => device.read(data, offset), `read ${offset}+${length}`);
      await faults(() => device.write(data, offset), `write ${offset}+${length}`);
      await faults(() => device.zero(offset, length), `zero ${offset}+${length}`);
    }
    await faults(() => device.zero(0, -1), 'zero of a negative length');
    await faults(() => device.zero(0, 2 ** 40), 'zero of far too much');
    await holds(subject, model, 'after all that');
  });

  on('a read-only device writes nothing, but may be flushed', async (subject, model) => {
    const { readOnly } = subject;
    await faults(() => readOnly.write(Uint8Array.of(1), 0), 'write');
    await faults(() => readOnly.write(new Uint8Array(0), 0), 'empty write');
    await faults(() => readOnly.zero(0, 1), 'zero');
    await faults(() => readOnly.zero(0, 0), 'empty zero');
    await readOnly.flush();
    await holds(subject, model, 'after that');
  });
}

function endTests(on: On): void {
  on('after close nothing works, and a second close is nothing', async ({ device }) => {
    await device.close();
    await device.close();
    await faults(() => device.read(new Uint8Array(1), 0), 'read');
    await faults(() => device.write(new Uint8Array(1), 0), 'write');
    await faults(() => device.zero(0, 1), 'zero');
    await faults(() => device.flush(), 'flush');
  });
}

async function holds(subject: Subject, model: Uint8Array, what: string): Promise<void> {
  const all = subject.memory?.(SIZE) ?? new Uint8Array(SIZE);
  await subject.device.read(all, 0);
  same(all, model, what);
}

export function same(is: Uint8Array, must: Uint8Array, what: string): void {
  assert.is(is.byteLength, must.byteLength, what);
  const at = is.findIndex((byte, i) => byte !== must[i]);
  if (at >= 0) assert.unreachable(`${what}: byte ${at} is ${is[at]}, must be ${must[at]}`);
}

async function faults(action: () => void | Promise<void>, what: string): Promise<void> {
  try {
    await action();
  } catch (error) {
    assert.instance(error, AssertionFault, what);
    return;
  }
  assert.unreachable(`${what} did not throw`);
}
