/**
 * The block kernel as naively as it can be said: one byte, one bit at a time, over a plain array.
 * Slow and obvious; the real kernels are compared with it. No memory management, no checks.
 */
import type { Kernel } from '../../src/kernel/kernel.ts';

type Model = Omit<Kernel, 'kind' | 'allocate' | 'release' | 'bytes' | `hash${string}`>;

/** `memory` holds the bytes that the kernel has from address `base` on. */
export function kernelModel(memory: Uint8Array, base: number): Model {
  const getBit = (bitmap: number, bit: number): boolean =>
    ((memory[bitmap - base + Math.floor(bit / 8)] >> (bit % 8)) & 1) === 1;

  const setBit = (bitmap: number, bit: number, value: boolean): void => {
    const index = bitmap - base + Math.floor(bit / 8);
    const others = memory[index] & ~(1 << (bit % 8));
    memory[index] = value ? others | (1 << (bit % 8)) : others;
  };

  const eachRegion = (
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
    test: (start: number, end: number) => boolean,
  ): number => {
    let count = 0;
    for (let start = 0, index = 0; start < length; start += regionSize, index++) {
      const answer = test(start, Math.min(start + regionSize, length));
      setBit(bitmap, firstBit + index, answer);
      if (answer) count++;
    }
    return count;
  };

  const differs = (a: number, b: number, start: number, end: number): boolean => {
    for (let i = start; i < end; i++) {
      if (memory[a - base + i] !== memory[b - base + i]) return true;
    }
    return false;
  };

  const combine =
    (operation: (x: number, y: number) => number) =>
    (target: number, source: number, length: number): void => {
      for (let i = 0; i < length; i++) {
        const t = target - base + i;
        memory[t] = operation(memory[t], memory[source - base + i]);
      }
    };

  const next = (bitmap: number, from: number, end: number, value: boolean): number => {
    for (let bit = from; bit < end; bit++) {
      if (getBit(bitmap, bit) === value) return bit;
    }
    return end;
  };

  return {
    diff: (a, b, length, regionSize, bitmap, firstBit) =>
      eachRegion(length, regionSize, bitmap, firstBit, (start, end) => differs(a, b, start, end)),
    diffCopy: (source, target, length, regionSize, bitmap, firstBit) =>
      eachRegion(length, regionSize, bitmap, firstBit, (start, end) => {
        const answer = differs(source, target, start, end);
        for (let i = start; i < end; i++) memory[target - base + i] = memory[source - base + i];
        return answer;
      }),
    nonZero: (address, length, regionSize, bitmap, firstBit) =>
      eachRegion(length, regionSize, bitmap, firstBit, (start, end) => {
        for (let i = start; i < end; i++) if (memory[address - base + i] !== 0) return true;
        return false;
      }),
    copy: (target, source, length) => {
      const taken = Array.from({ length }, (_, i) => memory[source - base + i]);
      for (let i = 0; i < length; i++) memory[target - base + i] = taken[i];
    },
    fill: (address, value, length) => {
      for (let i = 0; i < length; i++) memory[address - base + i] = value;
    },
    or: combine((x, y) => x | y),
    and: combine((x, y) => x & y),
    andNot: combine((x, y) => x & (255 - y)),
    xor: combine((x, y) => x ^ y),
    count: (bitmap, firstBit, bitCount) => {
      let count = 0;
      for (let i = 0; i < bitCount; i++) if (getBit(bitmap, firstBit + i)) count++;
      return count;
    },
    setRange: (bitmap, firstBit, bitCount) => {
      for (let i = 0; i < bitCount; i++) setBit(bitmap, firstBit + i, true);
    },
    clearRange: (bitmap, firstBit, bitCount) => {
      for (let i = 0; i < bitCount; i++) setBit(bitmap, firstBit + i, false);
    },
    nextSet: (bitmap, from, end) => next(bitmap, from, end, true),
    nextClear: (bitmap, from, end) => next(bitmap, from, end, false),
  };
}
