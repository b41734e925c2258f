/**
 * The conformance suite of the block kernel: every implementation of `Kernel` runs all of it. Most
 * tests make one call on the kernel and on a naive model and compare the answer and all of memory,
 * so that a byte changed outside the windows is found wherever it is.
 *
 * The arena of these tests reaches to the last byte of memory: reading past it traps or throws.
 */
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { AssertionFault } from '../../src/base/assert.ts';
import { HASH_STATE_BYTES, type Kernel } from '../../src/kernel/kernel.ts';
import { kernelModel } from './kernel-model.ts';

type Create = (options?: { bytes?: number }) => Kernel;
type Method = Exclude<keyof ReturnType<typeof kernelModel>, 'kind'>;

/** Lengths around each step of the loops: 4, 8, 16, 32, 64, 128 and 256 bytes. */
const LENGTHS = [
  0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 47, 63, 64, 65, 95, 127, 128, 129, 143,
  191, 255, 256, 257, 271, 300, 511, 512, 513, 600,
];
const BIT_COUNTS = [0, 1, 7, 8, 9, 63, 64, 65, 1000];
const PHASES = [0, 1, 2, 3, 4, 5, 6, 7];

/** First address beyond the memory, found by asking for single bytes. */
function memoryEnd(kernel: Kernel): number {
  let inside = 4096;
  let outside = 2 ** 32;
  while (outside - inside > 1) {
    const middle = Math.floor((inside + outside) / 2);
    try {
      kernel.bytes(middle, 1);
      inside = middle;
    } catch {
      outside = middle;
    }
  }
  return outside;
}

/** A kernel whose whole memory is one range of windows of ours, filled with seeded noise. */
class Arena {
  readonly kernel: Kernel;
  readonly base: number;
  readonly end: number;

  constructor(create: Create) {
    this.kernel = create({ bytes: 16384 });
    this.end = memoryEnd(this.kernel);
    this.base = this.kernel.allocate(4096);
    for (let next = this.base + 4096; next < this.end; next += 4096) {
      assert.is(this.kernel.allocate(4096), next, 'a fresh arena is handed out page by page');
    }
    this.noise(1);
  }

  get memory(): Uint8Array {
    return this.kernel.bytes(this.base, this.end - this.base);
  }

  noise(seed: number): void {
    let state = seed;
    const { memory } = this;
    for (let i = 0; i < memory.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      memory[i] = state >>> 24;
    }
  }

  set(address: number, ...values: number[]): void {
    this.kernel.bytes(address, values.length).set(values);
  }

  /** Makes the call on kernel and model; answers and memories must agree. */
  call(method: Method, ...args: number[]): number | undefined {
    const { memory } = this;
    const expected = memory.slice();
    const model = kernelModel(expected, this.base);
    const label = `${method}(${args.join(', ')})`;
    const wanted = (model[method] as (...args: number[]) => number)(...args);
    const answer = (this.kernel[method] as (...args: number[]) => number)(...args);
    assert.is(answer, wanted, label);
    if (Buffer.compare(memory, expected) !== 0) {
      const at = memory.findIndex((byte, i) => byte !== expected[i]);
      assert.unreachable(`${label}: byte ${this.base + at} is ${memory[at]}, not ${expected[at]}`);
    }
    return answer;
  }
}

/** Builds the suite; the caller runs it. */
export function kernelConformance(name: string, create: Create): Test {
  const test = suite(name);
  compareTests(test, create);
  zeroTests(test, create);
  moveTests(test, create);
  algebraTests(test, create);
  bitRangeTests(test, create);
  edgeTests(test, create);
  checkTests(test, create);
  memoryTests(test, create);
  hashTests(test, create);
  return test;
}

function compareTests(test: Test, create: Create): void {
  test('diff finds a single byte at each place of a window, and nothing beside it', () => {
    const arena = new Arena(create);
    const bitmap = arena.base;
    for (const [a, b] of [
      [0, 0],
      [1, 1],
      [3, 0],
      [8, 13],
    ].map(([x, y]) => [arena.base + 1024 + x, arena.base + 4096 + y])) {
      for (const length of LENGTHS) {
        arena.noise(length + 1);
        arena.kernel.copy(b - 1, a - 1, length + 2);
        arena.kernel.bytes(b - 1, 1)[0] ^= 1;
        arena.kernel.bytes(b + length, 1)[0] ^= 1;
        arena.call('diff', a, b, length, Math.max(length, 1), bitmap, 3);
        for (let at = 0; at < length; at++) {
          const byte = arena.kernel.bytes(b + at, 1);
          byte[0] ^= 0x80;
          const differs = arena.kernel.diff(a, b, length, length, bitmap, 3);
          assert.is(differs, 1, `byte ${at} of ${length} at ${a} and ${b}`);
          byte[0] ^= 0x80;
        }
      }
    }
  });

  test('diff writes one bit a region at any bit index, for any region size', () => {
    const arena = new Arena(create);
    const [bitmap, a, b] = [arena.base + 5, arena.base + 1024, arena.base + 3001];
    for (const regionSize of [1, 2, 7, 100, 128, 333, 999, 1000, 1001, 2 ** 32, 2 ** 32 + 1]) {
      for (const firstBit of [0, 1, 5, 7, 8, 9, 63, 801]) {
        arena.noise(regionSize + firstBit);
        arena.kernel.copy(b, a, 1000);
        for (const at of [0, 99, 100, 500, 998]) arena.kernel.bytes(b + at, 1)[0] ^= 4;
        arena.call('diff', a, b, 1000, regionSize, bitmap, firstBit);
      }
    }
  });

  test('diff takes overlapping windows', () => {
    const arena = new Arena(create);
    const a = arena.base + 2048;
    arena.kernel.fill(a, 7, 1000);
    for (const shift of [-17, -1, 0, 1, 16]) {
      arena.call('diff', a, a + shift, 900, 64, arena.base, 0);
    }
  });

  test('diffCopy makes equal what differs and writes nothing else', () => {
    const arena = new Arena(create);
    const bitmap = arena.base;
    for (const shift of [0, 1, 9]) {
      const [source, target] = [arena.base + 1024 + shift, arena.base + 8192];
      for (const length of LENGTHS) {
        for (const regionSize of [1, 64, 100, 256, 1000]) {
          arena.noise(length + regionSize);
          arena.kernel.copy(target, source, length);
          arena.call('diffCopy', source, target, length, regionSize, bitmap, 6);
          for (const at of [0, 17, 130, length - 1]) {
            if (at >= 0 && at < length) arena.kernel.bytes(target + at, 1)[0] ^= 0xff;
          }
          arena.call('diffCopy', source, target, length, regionSize, bitmap, 6);
        }
      }
    }
  });
}

function zeroTests(test: Test, create: Create): void {
  test('nonZero finds a single bit at each place of a window, and nothing beside it', () => {
    const arena = new Arena(create);
    for (const address of [1024, 1025, 1031].map((offset) => arena.base + offset)) {
      for (const length of LENGTHS) {
        arena.noise(length + 1);
        arena.kernel.fill(address, 0, length);
        arena.set(address - 1, 0xff);
        arena.set(address + length, 0xff);
        arena.call('nonZero', address, length, Math.max(length, 1), arena.base, 9);
        for (let at = 0; at < length; at++) {
          const byte = arena.kernel.bytes(address + at, 1);
          byte[0] = 1 << (at % 8);
          const found = arena.kernel.nonZero(address, length, length, arena.base, 9);
          assert.is(found, 1, `byte ${at} of ${length} at ${address}`);
          byte[0] = 0;
        }
      }
    }
  });

  test('nonZero writes one bit a region at any bit index, for any region size', () => {
    const arena = new Arena(create);
    const address = arena.base + 3001;
    for (const regionSize of [1, 3, 100, 256, 999, 1000, 2 ** 32 + 1]) {
      for (const firstBit of [0, 1, 7, 8, 63, 801]) {
        arena.kernel.fill(address, 0, 1000);
        for (const at of [100, 101, 700, 999]) arena.set(address + at, 0x10);
        arena.call('nonZero', address, 1000, regionSize, arena.base + 1, firstBit);
      }
    }
  });
}

function moveTests(test: Test, create: Create): void {
  test('copy moves overlapping windows both ways', () => {
    const arena = new Arena(create);
    const source = arena.base + 2048;
    for (const length of LENGTHS) {
      for (const shift of [-513, -64, -16, -9, -8, -1, 0, 1, 4, 7, 16, 33, 600]) {
        arena.call('copy', source + shift, source, length);
      }
    }
  });

  test('fill writes exactly its window', () => {
    const arena = new Arena(create);
    for (const length of LENGTHS) {
      for (const value of [0, 1, 0x80, 255]) {
        arena.call('fill', arena.base + 1001 + value, value, length);
      }
    }
  });
}

function algebraTests(test: Test, create: Create): void {
  for (const method of ['or', 'and', 'andNot', 'xor'] as const) {
    test(`${method} combines windows at any address`, () => {
      const arena = new Arena(create);
      for (const length of LENGTHS) {
        for (const [t, s] of [
          [0, 0],
          [0, 1],
          [5, 2],
          [7, 7],
        ]) {
          arena.noise(length + t);
          arena.call(method, arena.base + 1024 + t, arena.base + 4096 + s, length);
        }
      }
    });

    test(`${method} takes a window with itself`, () => {
      const arena = new Arena(create);
      arena.call(method, arena.base + 33, arena.base + 33, 1000);
    });
  }
}

function bitRangeTests(test: Test, create: Create): void {
  test('count, setRange and clearRange keep to their bits at each phase', () => {
    const arena = new Arena(create);
    for (const bitCount of BIT_COUNTS) {
      for (const phase of PHASES) {
        for (const bitmap of [arena.base, arena.base + 1003]) {
          for (const firstBit of [phase, phase + 808]) {
            arena.noise(bitCount + phase);
            arena.call('count', bitmap, firstBit, bitCount);
            arena.call('clearRange', bitmap, firstBit, bitCount);
            arena.noise(bitCount + phase);
            arena.call('setRange', bitmap, firstBit, bitCount);
            arena.call('count', bitmap, firstBit, bitCount);
          }
        }
      }
    }
  });

  for (const [method, background] of [
    ['nextSet', 0],
    ['nextClear', 255],
  ] as const) {
    test(`${method} finds a single bit at each place of a range, and none beside it`, () => {
      const arena = new Arena(create);
      const { kernel } = arena;
      const bitmap = arena.base + 101;
      kernel.fill(arena.base, background, 4096);
      const flip = (bit: number): void => {
        kernel.bytes(bitmap + Math.floor(bit / 8), 1)[0] ^= 1 << (bit % 8);
      };
      for (const bitCount of BIT_COUNTS) {
        for (const phase of PHASES) {
          const [from, end] = [phase + 64, phase + 64 + bitCount];
          // Not `end` itself, which would be the right answer for the wrong reason.
          flip(from - 1);
          flip(end + 1);
          assert.is(kernel[method](bitmap, from, end), end, `nothing in [${from}, ${end})`);
          for (let bit = from; bit < end; bit++) {
            flip(bit);
            assert.is(kernel[method](bitmap, from, end), bit, `${bit} in [${from}, ${end})`);
            flip(bit);
          }
          flip(from - 1);
          flip(end + 1);
        }
      }
    });

    test(`${method} walks all runs of a bitmap`, () => {
      const arena = new Arena(create);
      for (let from = 3; from < 2000; from++) arena.call(method, arena.base + 7, from, 2000);
    });
  }
}

/** Every call with windows of `length` bytes that end at `end`, bitmaps elsewhere. */
function callsEndingAt(arena: Arena, end: number, length: number): [Method, ...number[]][] {
  const p = end - length;
  const other = arena.base + 8192;
  const size = Math.max(Math.ceil(length / 2), 1);
  const bits = length * 8;
  return [
    ['diff', p, other, length, size, arena.base, 5],
    ['diff', other, p, length, size, arena.base, 5],
    ['diff', other, other, length * 8, 1, p, 0],
    ['diffCopy', other, p, length, size, arena.base, 5],
    ['diffCopy', p, other + 1, length, size, arena.base, 5],
    ['nonZero', p, length, size, arena.base, 5],
    ['copy', p, other, length],
    ['copy', other, p, length],
    ['or', p, other, length],
    ['and', other, p, length],
    ['andNot', p, other, length],
    ['xor', other, p, length],
    ['count', p, 0, bits],
    ['setRange', p, 0, bits],
    ['nextClear', p, 0, bits],
    ['clearRange', p, 0, bits],
    ['nextSet', p, 0, bits],
    ['nonZero', p, length, size, arena.base, 5],
    ['fill', p, 9, length],
  ];
}

function edgeTests(test: Test, create: Create): void {
  test('every call works on windows that end at the last byte of memory', () => {
    const arena = new Arena(create);
    for (const length of LENGTHS) {
      arena.noise(length + 1);
      arena.kernel.copy(arena.base + 8192, arena.end - length, length);
      for (const call of callsEndingAt(arena, arena.end, length)) arena.call(...call);
    }
    const state = arena.kernel.allocate(HASH_STATE_BYTES);
    const end = memoryEnd(arena.kernel);
    for (const length of LENGTHS) {
      if (end - length < state + HASH_STATE_BYTES) continue;
      const { kernel } = arena;
      kernel.hashReset(state);
      kernel.hashUpdate(state, end - length, length);
      const digest = kernel.hashDigest(state);
      kernel.copy(arena.base, end - length, length);
      kernel.hashReset(state);
      kernel.hashUpdate(state, arena.base, length);
      assert.is(digest, kernel.hashDigest(state), `${length} bytes at the end of memory`);
    }
  });

  test('empty windows and ranges change nothing, even at the end of memory', () => {
    const arena = new Arena(create);
    for (const p of [arena.base, arena.base + 4097, arena.end]) {
      for (const call of callsEndingAt(arena, p, 0)) arena.call(...call);
      assert.is(arena.kernel.bytes(p, 0).length, 0);
    }
    assert.is(arena.kernel.nextSet(arena.base, 77, 77), 77);
    assert.is(arena.kernel.nextClear(arena.base, 77, 77), 77);
  });

  test('addresses beyond 2 GiB and bits beyond 2^32 work like all others', () => {
    const high = 2 ** 31 + 65536;
    const kernel = create({ bytes: high });
    const window = kernel.allocate(high);
    const p = window + 2 ** 31;
    const view = kernel.bytes(p, 4096);
    view[1000] = 1;
    assert.is(kernel.diff(p, p + 4096, 4096, 1000, window, 2 ** 33 + 3), 1);
    assert.is(kernel.bytes(window + 2 ** 30, 1)[0], 1 << 4, 'bit 2^33 + 4 is set');
    assert.is(kernel.nonZero(p, 4096, 1001, window, 2 ** 33 + 8), 1);
    assert.is(kernel.nextSet(window, 2 ** 33, 2 ** 33 + 100), 2 ** 33 + 4);
    assert.is(kernel.nextClear(window, 2 ** 33 + 4, 2 ** 33 + 100), 2 ** 33 + 5);
    assert.is(kernel.count(window, 2 ** 33, 64), 2);
    kernel.setRange(window, 2 ** 33, 12);
    kernel.clearRange(window, 2 ** 33 + 2, 2);
    assert.is(kernel.count(window, 2 ** 33, 64), 10);
    assert.is(kernel.diffCopy(p, p + 4096, 4096, 4096, window, 0), 1);
    assert.is(kernel.bytes(p + 5096, 1)[0], 1);
    kernel.fill(p + 8193, 6, 3);
    kernel.or(p + 8193, p + 999, 3);
    assert.equal([...kernel.bytes(p + 8192, 5)], [0, 6, 7, 6, 0]);
    kernel.copy(p + 3, p + 8192, 5);
    assert.equal([...kernel.bytes(p + 3, 5)], [0, 6, 7, 6, 0]);
    kernel.hashReset(p);
    kernel.hashUpdate(p, p + 8193, 3);
    assert.is(kernel.hashDigest(p), digestOf(kernel, window + 4096, [6, 7, 6]));
  });
}

function checkTests(test: Test, create: Create): void {
  test('calls outside the memory throw and change nothing', () => {
    const arena = new Arena(create);
    const { kernel, base, end } = arena;
    const p = base + 4096;
    const before = arena.memory.slice();
    const bad: [keyof Kernel, ...number[]][] = [
      ['bytes', end - 9, 10],
      ['bytes', end + 1, 0],
      ['bytes', 0, 1],
      ['copy', p, end - 9, 10],
      ['copy', end - 9, p, 10],
      ['fill', end - 9, 0, 10],
      ['fill', p, 256, 1],
      ['fill', p, -1, 1],
      ['fill', p, 0.5, 1],
      ['diff', end - 9, p, 10, 10, base, 0],
      ['diff', p, end - 9, 10, 10, base, 0],
      ['diff', p, p, 10, 0, base, 0],
      ['diff', p, p, 10, -5, base, 0],
      ['diff', p, p, 10, 1.5, base, 0],
      ['diff', p, p, 10, 1, end - 1, 0],
      ['diff', p, p, 10, 10, base, (end - base) * 8],
      ['diff', p, p, 10, 10, p + 9, 0],
      ['diffCopy', end - 9, p, 10, 10, base, 0],
      ['diffCopy', p, end - 9, 10, 10, base, 0],
      ['diffCopy', p, p, 10, 10, base, 0],
      ['diffCopy', p, p + 9, 10, 10, base, 0],
      ['diffCopy', p, p + 100, 10, 10, p + 100, 0],
      ['nonZero', end - 9, 10, 10, base, 0],
      ['nonZero', p, 10, 0, base, 0],
      ['nonZero', p, 10, 10, p, 79],
      ['nonZero', p, 17, 1, end - 2, 0],
      ['or', end - 9, p, 10],
      ['or', p, p + 9, 10],
      ['and', p, end - 9, 10],
      ['and', p + 9, p, 10],
      ['andNot', p, end - 9, 10],
      ['andNot', p, p + 1, 10],
      ['xor', end - 9, p, 10],
      ['xor', p, p - 1, 10],
      ['count', end - 1, 0, 9],
      ['count', p, -1, 2],
      ['count', p, 0, -1],
      ['setRange', end - 1, 8, 1],
      ['setRange', p, 0.5, 1],
      ['clearRange', end - 1, 1, 8],
      ['clearRange', p, 0, Number.NaN],
      ['nextSet', end - 1, 0, 9],
      ['nextSet', p, 5, 4],
      ['nextClear', end - 1, 0, 9],
      ['nextClear', p, -1, 4],
      ['hashReset', end - HASH_STATE_BYTES + 8],
      ['hashReset', p + 4],
      ['hashUpdate', end - HASH_STATE_BYTES + 8, p, 1],
      ['hashUpdate', p, end - 9, 10],
      ['hashUpdate', p, p + 79, 1],
      ['hashDigest', end - HASH_STATE_BYTES + 8],
      ['allocate', 0],
      ['allocate', -1],
      ['allocate', 1.5],
      ['release', p + 1],
      ['release', end],
    ];
    for (const address of [-1, 0.5, Number.NaN, Infinity, 2 ** 32 + p, 2 ** 53]) {
      bad.push(['bytes', address, 1], ['fill', address, 0, 1], ['nonZero', address, 1, 1, base, 0]);
    }
    for (const length of [-1, 0.5, Number.NaN, Infinity, 2 ** 32, 2 ** 53]) {
      bad.push(['bytes', p, length], ['copy', p, p, length], ['or', p, p, length]);
      bad.push(['diff', p, p, length, 4096, base, 0], ['hashUpdate', base, p, length]);
    }
    for (const [method, ...args] of bad) {
      const call = (): unknown => (kernel[method] as (...args: number[]) => unknown)(...args);
      let thrown: unknown;
      try {
        call();
      } catch (error) {
        thrown = error;
      }
      assert.instance(thrown, AssertionFault, `${method}(${args.join(', ')})`);
    }
    assert.is(Buffer.compare(arena.memory, before), 0, 'no byte has changed');
  });
}

function memoryTests(test: Test, create: Create): void {
  test('windows start at pages, are zeroed, and do not overlap', () => {
    const kernel = create();
    const windows: number[] = [];
    for (const length of [1, 4095, 4096, 4097, 100_000, 3]) {
      const address = kernel.allocate(length);
      assert.is(address % 4096, 0);
      assert.ok(kernel.bytes(address, length).every((byte) => byte === 0));
      kernel.fill(address, windows.length + 1, length);
      windows.push(address, length);
    }
    for (let i = 0; i < windows.length; i += 2) {
      const bytes = kernel.bytes(windows[i], windows[i + 1]);
      assert.ok(bytes.every((byte) => byte === i + 1));
    }
  });

  test('a released window is handed out again, zeroed, its neighbours untouched', () => {
    const kernel = create();
    const [a, b, c] = [kernel.allocate(4096), kernel.allocate(8192), kernel.allocate(4096)];
    for (const address of [a, c]) kernel.fill(address, 1, 4096);
    kernel.fill(b, 1, 8192);
    kernel.release(b);
    assert.is(kernel.allocate(8192), b);
    assert.ok(kernel.bytes(b, 8192).every((byte) => byte === 0));
    assert.ok(kernel.bytes(a, 4096).every((byte) => byte === 1));
    assert.ok(kernel.bytes(c, 4096).every((byte) => byte === 1));
  });

  test('released neighbours merge, in whatever order', () => {
    for (const order of [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ]) {
      const kernel = create();
      const windows = [4096, 8192, 4096].map((length) => kernel.allocate(length));
      const guard = kernel.allocate(1);
      for (const index of order) kernel.release(windows[index]);
      assert.is(kernel.allocate(16384), windows[0], `released in order ${order}`);
      assert.is(kernel.allocate(1), guard + 4096);
    }
  });

  test('allocate and release for ever does not grow the memory', () => {
    const kernel = create();
    kernel.allocate(1);
    kernel.release(kernel.allocate(200_000));
    const end = memoryEnd(kernel);
    for (let i = 0; i < 100; i++) {
      const [a, b] = [kernel.allocate(100_000 + i), kernel.allocate(90_000)];
      kernel.release(a);
      kernel.release(b);
    }
    assert.is(memoryEnd(kernel), end);
  });

  test('a window can be released once, by its exact address', () => {
    const kernel = create();
    const a = kernel.allocate(10_000);
    assert.throws(() => kernel.release(a + 4096), /not the address/);
    kernel.release(a);
    assert.throws(() => kernel.release(a), /not the address/);
  });

  test('growth keeps all data and kills the views made before', () => {
    const kernel = create({ bytes: 65536 });
    const a = kernel.allocate(50_000);
    const view = kernel.bytes(a, 50_000);
    for (let i = 0; i < view.length; i++) view[i] = i * 7;
    const end = memoryEnd(kernel);
    const b = kernel.allocate(10_000_000);
    assert.ok(memoryEnd(kernel) > end);
    assert.is(view.length, 0);
    assert.ok(kernel.bytes(a, 50_000).every((byte, i) => byte === ((i * 7) & 255)));
    assert.ok(kernel.bytes(b, 10_000_000).every((byte) => byte === 0));
    kernel.copy(b + 9_950_000, a, 50_000);
    assert.is(kernel.diff(a, b + 9_950_000, 50_000, 4096, b, 0), 0);
  });

  test('reserved bytes are there without growth', () => {
    const kernel = create({ bytes: 1_000_000 });
    const end = memoryEnd(kernel);
    kernel.allocate(1_000_000);
    assert.is(memoryEnd(kernel), end);
  });

  test('a window larger than the memory can ever be throws and leaves the kernel as it was', () => {
    const kernel = create();
    const a = kernel.allocate(4096);
    kernel.fill(a, 5, 4096);
    assert.throws(
      () => kernel.allocate(2 ** 32),
      (error: Error) => error instanceof RangeError,
    );
    assert.ok(kernel.bytes(a, 4096).every((byte) => byte === 5));
    assert.is(kernel.allocate(4096), a + 4096);
  });
}

/** Digest of `values` put at `address`, by a state just before the 4096-byte page of it. */
function digestOf(kernel: Kernel, address: number, values: ArrayLike<number>): string {
  const state = kernel.allocate(HASH_STATE_BYTES);
  kernel.bytes(address, values.length).set(values);
  kernel.hashReset(state);
  kernel.hashUpdate(state, address, values.length);
  const digest = kernel.hashDigest(state);
  kernel.release(state);
  return digest;
}

/** What `xxhsum -H1` 0.8.1 prints for the bytes 0, 1, 2, … of each length. */
const DIGESTS: [number, string][] = [
  [0, 'ef46db3751d8e999'],
  [3, 'e5c7bb4533bc65dd'],
  [4, 'ffced8604453cc1e'],
  [7, '14cc643f630c72d2'],
  [8, '884a173614b81b8d'],
  [12, '424af23f1f08dca5'],
  [31, 'c346d2b59b4d8ee1'],
  [32, 'cbf59c5116ff32b4'],
  [33, '0c535d1acafb8ead'],
  [39, '00a396ef1679a859'],
  [63, 'e26aa9e2a95f8e4f'],
  [64, 'f7c67301db6713f0'],
  [65, 'c31eb63b2ae4465b'],
  [256, '1facbe8406cd904b'],
];

function hashTests(test: Test, create: Create): void {
  test('digests are those of xxhsum', () => {
    const kernel = create();
    const window = kernel.allocate(200_000);
    for (const [length, digest] of DIGESTS) {
      const bytes = Array.from({ length }, (_, i) => i);
      for (const offset of [0, 1, 4, 7]) {
        assert.is(digestOf(kernel, window + offset, bytes), digest, `${length} bytes`);
      }
    }
    const words = (text: string): Uint8Array => new TextEncoder().encode(text);
    assert.is(digestOf(kernel, window, words('a')), 'd24ec4f1a98c6e5b');
    assert.is(digestOf(kernel, window, words('abc')), '44bc2cf5ad770999');
    const fox = words('The quick brown fox jumps over the lazy dog');
    assert.is(digestOf(kernel, window, fox), '0b242d361fda71bc');
    const long = Uint8Array.from({ length: 100_003 }, (_, i) => i * i * 7 + i);
    assert.is(digestOf(kernel, window, long), '1f99711ffcdd9f86');
  });

  test('any split gives the same digest, and a digest leaves the state usable', () => {
    const kernel = create();
    const state = kernel.allocate(HASH_STATE_BYTES);
    const window = kernel.allocate(4096);
    const bytes = Uint8Array.from({ length: 300 }, (_, i) => i * i * 31 + 5);
    for (const length of [0, 1, 31, 32, 33, 64, 100, 300]) {
      const digest = digestOf(kernel, window, bytes.subarray(0, length));
      for (const piece of [1, 3, 8, 31, 32, 33, 63, 64, 65, 299]) {
        kernel.hashReset(state);
        for (let at = 0; at < length; at += piece) {
          kernel.hashUpdate(state, window + at, Math.min(piece, length - at));
          kernel.hashUpdate(state, window, 0);
          assert.match(kernel.hashDigest(state), /^[0-9a-f]{16}$/);
        }
        assert.is(kernel.hashDigest(state), digest, `${length} bytes in pieces of ${piece}`);
        assert.is(kernel.hashDigest(state), digest, 'asked again');
      }
    }
  });

  test('two streams side by side do not mix', () => {
    const kernel = create();
    const states = kernel.allocate(2 * HASH_STATE_BYTES);
    const other = states + HASH_STATE_BYTES;
    const window = kernel.allocate(4096);
    kernel.bytes(window, 256).set(Array.from({ length: 256 }, (_, i) => i));
    kernel.hashReset(states);
    kernel.hashReset(other);
    for (let at = 0; at < 256; at += 16) {
      kernel.hashUpdate(states, window + at, 16);
      if (at < 64) kernel.hashUpdate(other, window + at, 16);
    }
    assert.is(kernel.hashDigest(states), '1facbe8406cd904b');
    assert.is(kernel.hashDigest(other), 'f7c67301db6713f0');
  });
}
