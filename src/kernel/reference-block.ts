/**
 * Blocks, plainly: compare, copy, fill and zero-test. Works in 32-bit words where the addresses
 * allow, byte by byte elsewhere. Not in 64-bit ones: a BigInt64Array is up to 1.7 times faster on
 * Node and Deno, but sixty times slower on Bun.
 */
import type { Operations } from './facade.ts';
import type { TwinMemory } from './reference.ts';
import { writeBit } from './reference-bitmap.ts';

type BlockOperations = Pick<Operations, 'diff' | 'diffCopy' | 'nonZero' | 'copy' | 'fill'>;

function bytesEqual(u8: Uint8Array, a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i++) {
    if (u8[a + i] !== u8[b + i]) return false;
  }
  return true;
}

/** Addresses and length in words: below 2^30, so that `| 0` keeps them, and the engine, in integers. */
function wordsEqual(i32: Int32Array, a: number, b: number, length: number): boolean {
  let x = a | 0;
  let y = b | 0;
  const end = (x + length) | 0;
  for (const blocksEnd = (x + (length & ~7)) | 0; x < blocksEnd; x = (x + 8) | 0, y = (y + 8) | 0) {
    const low =
      (i32[x] ^ i32[y]) |
      (i32[x + 1] ^ i32[y + 1]) |
      (i32[x + 2] ^ i32[y + 2]) |
      (i32[x + 3] ^ i32[y + 3]);
    const high =
      (i32[x + 4] ^ i32[y + 4]) |
      (i32[x + 5] ^ i32[y + 5]) |
      (i32[x + 6] ^ i32[y + 6]) |
      (i32[x + 7] ^ i32[y + 7]);
    if ((low | high) !== 0) return false;
  }
  for (; x < end; x++, y++) {
    if (i32[x] !== i32[y]) return false;
  }
  return true;
}

function isEqual(memory: TwinMemory, a: number, b: number, length: number): boolean {
  if (a % 4 !== b % 4) return bytesEqual(memory.u8, a, b, length);
  const head = Math.min((4 - (a % 4)) % 4, length);
  const words = (length - head) >>> 2;
  const tail = head + words * 4;
  return (
    bytesEqual(memory.u8, a, b, head) &&
    wordsEqual(memory.i32, (a + head) >>> 2, (b + head) >>> 2, words) &&
    bytesEqual(memory.u8, a + tail, b + tail, length - tail)
  );
}

function bytesZero(u8: Uint8Array, address: number, length: number): boolean {
  for (let i = 0; i < length; i++) {
    if (u8[address + i] !== 0) return false;
  }
  return true;
}

/** Address and length in words. */
function wordsZero(i32: Int32Array, address: number, length: number): boolean {
  let p = address | 0;
  const end = (p + length) | 0;
  for (const blocksEnd = (p + (length & ~7)) | 0; p < blocksEnd; p = (p + 8) | 0) {
    const low = i32[p] | i32[p + 1] | i32[p + 2] | i32[p + 3];
    const high = i32[p + 4] | i32[p + 5] | i32[p + 6] | i32[p + 7];
    if ((low | high) !== 0) return false;
  }
  for (; p < end; p++) {
    if (i32[p] !== 0) return false;
  }
  return true;
}

function isZero(memory: TwinMemory, address: number, length: number): boolean {
  const head = Math.min((4 - (address % 4)) % 4, length);
  const words = (length - head) >>> 2;
  const tail = head + words * 4;
  return (
    bytesZero(memory.u8, address, head) &&
    wordsZero(memory.i32, (address + head) >>> 2, words) &&
    bytesZero(memory.u8, address + tail, length - tail)
  );
}

export function blockOperations(memory: TwinMemory): BlockOperations {
  /** Writes the answer of `test(offset, size)` as one bit a region; returns how many were true. */
  const eachRegion = (
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
    test: (offset: number, size: number) => boolean,
  ): number => {
    let count = 0;
    let bit = firstBit;
    for (let offset = 0; offset < length; offset += regionSize) {
      const answer = test(offset, Math.min(regionSize, length - offset));
      writeBit(memory.u8, bitmap, bit++, answer);
      if (answer) count++;
    }
    return count;
  };

  return {
    diff: (a, b, length, regionSize, bitmap, firstBit) =>
      eachRegion(
        length,
        regionSize,
        bitmap,
        firstBit,
        (offset, size) => !isEqual(memory, a + offset, b + offset, size),
      ),
    diffCopy: (source, target, length, regionSize, bitmap, firstBit) =>
      eachRegion(length, regionSize, bitmap, firstBit, (offset, size) => {
        const from = source + offset;
        const to = target + offset;
        if (isEqual(memory, from, to, size)) return false;
        memory.u8.copyWithin(to, from, from + size);
        return true;
      }),
    nonZero: (address, length, regionSize, bitmap, firstBit) =>
      eachRegion(
        length,
        regionSize,
        bitmap,
        firstBit,
        (offset, size) => !isZero(memory, address + offset, size),
      ),
    copy: (target, source, length) => {
      memory.u8.copyWithin(target, source, source + length);
    },
    fill: (address, value, length) => {
      memory.u8.fill(value, address, address + length);
    },
  };
}
