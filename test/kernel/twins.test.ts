/**
 * Random sequences of calls on both kernels and on the naive model: answers and whole memories must
 * agree after each. fast-check prints the seed and the path that replay a failure.
 */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { createReferenceKernel } from '../../src/kernel/reference.ts';
import { createWasmKernel } from '../../src/kernel/wasm.ts';
import { kernelModel } from '../conformance/kernel-model.ts';

const test = suite('kernel: twins');

/** Three zones, so that windows which may not overlap are drawn from different ones. */
const ZONE = 2048;
const SIZE = 4 * ZONE;
const STATE = 3 * ZONE;

/** A call with addresses relative to the window. */
type Call = { method: string; addresses: number[]; rest: number[]; bitmapLast?: boolean };

const zones = fc.constantFrom([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]);
const offset = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 1000 }));
const length = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 1000 }));
const regionSize = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.integer({ min: 1, max: 1100 }),
  fc.constantFrom(16, 64, 128, 256, 512, 2 ** 32 + 7),
);
const firstBit = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 7000 }));

const regionCall = fc
  .tuple(
    fc.constantFrom('diff', 'diffCopy', 'nonZero'),
    zones,
    fc.tuple(offset, offset, offset),
    length,
    regionSize,
    firstBit,
  )
  .map(([method, [x, y, z], [i, j, k], bytes, size, bit]): Call => {
    const windows = method === 'nonZero' ? [x * ZONE + i] : [x * ZONE + i, y * ZONE + j];
    return { method, addresses: windows, rest: [bytes, size, z * ZONE + k, bit], bitmapLast: true };
  });

const pairCall = fc
  .tuple(
    fc.constantFrom('copy', 'or', 'and', 'andNot', 'xor'),
    zones,
    fc.tuple(offset, offset),
    length,
    fc.boolean(),
  )
  .map(([method, [x, y], [i, j], bytes, same]): Call => {
    const target = x * ZONE + i;
    // Windows of one zone overlap: only copy takes that, the others take the very same window.
    const itself = method === 'copy' ? x * ZONE + j : target;
    return { method, addresses: [target, same ? itself : y * ZONE + j], rest: [bytes] };
  });

const fillCall = fc
  .tuple(offset, fc.constantFrom(0, 1, 128, 255), length)
  .map(
    ([i, value, bytes]): Call => ({ method: 'fill', addresses: [ZONE + i], rest: [value, bytes] }),
  );

const bitCall = fc
  .tuple(
    fc.constantFrom('count', 'setRange', 'clearRange', 'nextSet', 'nextClear'),
    offset,
    firstBit,
    firstBit,
  )
  .map(([method, i, first, count]): Call => {
    const second = method.startsWith('next') ? first + count : count;
    return { method, addresses: [i], rest: [first, second] };
  });

const hashCall = fc
  .tuple(fc.constantFrom('hashReset', 'hashUpdate', 'hashUpdate', 'hashDigest'), offset, length)
  .map(
    ([method, i, bytes]): Call => ({
      method,
      addresses: method === 'hashUpdate' ? [STATE, i] : [STATE],
      rest: method === 'hashUpdate' ? [bytes] : [],
    }),
  );

const calls = fc.array(fc.oneof(regionCall, pairCall, fillCall, bitCall, hashCall), {
  maxLength: 30,
});

/** Runs of equal bytes and of noise, so that regions are equal, zero or different by chance. */
const contents = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 700 }), fc.constantFrom(0, 0, 255, 1, -1)), {
    maxLength: 40,
  })
  .map((runs) => {
    const bytes = new Uint8Array(STATE);
    let at = 0;
    for (const [size, value] of runs) {
      for (let i = at; i < Math.min(at + size, STATE); i++) bytes[i] = value < 0 ? i * 37 : value;
      at += size;
    }
    return bytes;
  });

function perform(target: object, base: number, call: Call): unknown {
  const rest = call.bitmapLast
    ? call.rest.map((value, i) => (i === 2 ? value + base : value))
    : call.rest;
  const method = (target as Record<string, (...args: number[]) => unknown>)[call.method];
  return method.call(target, ...call.addresses.map((address) => address + base), ...rest);
}

function assertSame(one: Uint8Array, other: Uint8Array, what: string): void {
  if (Buffer.compare(one, other) === 0) return;
  const at = one.findIndex((byte, i) => byte !== other[i]);
  assert.unreachable(`${what}: byte ${at} is ${one[at]} and ${other[at]}`);
}

test('both kernels and the model agree on every call and every byte', () => {
  const kernels: Kernel[] = [createWasmKernel(), createReferenceKernel()];
  const bases = kernels.map((kernel) => kernel.allocate(SIZE));
  fc.assert(
    fc.property(contents, calls, (bytes, sequence) => {
      const views = kernels.map((kernel, i) => kernel.bytes(bases[i], SIZE));
      for (const view of views) {
        view.fill(0);
        view.set(bytes);
      }
      kernels.forEach((kernel, i) => {
        kernel.hashReset(bases[i] + STATE);
      });
      const expected = views[0].slice(0, STATE);
      const model = kernelModel(expected, bases[0]);
      for (const call of sequence) {
        const [wasm, twin] = kernels.map((kernel, i) => perform(kernel, bases[i], call));
        const label = JSON.stringify(call);
        assert.is(wasm, twin, label);
        if (!call.method.startsWith('hash')) {
          assert.is(wasm, perform(model, bases[0], call), label);
        }
        assertSame(views[0], views[1], label);
        assertSame(views[0].subarray(0, STATE), expected, label);
      }
    }),
    { numRuns: 1500 },
  );
});

test.run();
