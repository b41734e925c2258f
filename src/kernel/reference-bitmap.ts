/** Bitmaps, plainly: algebra, counting, setting and searching. In words where addresses allow. */
import type { Operations } from './facade.ts';
import type { TwinMemory } from './reference.ts';

type BitmapOperations = Pick<
  Operations,
  'or' | 'and' | 'andNot' | 'xor' | 'count' | 'setRange' | 'clearRange' | 'nextSet' | 'nextClear'
>;

/** `bit & 7` is right above 2^32 too: the conversion to 32 bits keeps the low ones. */
export function writeBit(u8: Uint8Array, bitmap: number, bit: number, value: boolean): void {
  const p = bitmap + Math.floor(bit / 8);
  const mask = 1 << (bit & 7);
  u8[p] = value ? u8[p] | mask : u8[p] & ~mask;
}

/**
 * Splits [first, first + count) into whole bytes and what is left on both sides, and calls `edge`
 * with a byte's address and the mask of its bits, `body` with the range of whole bytes.
 */
function eachPart(
  bitmap: number,
  first: number,
  count: number,
  edge: (p: number, mask: number) => void,
  body: (start: number, end: number) => void,
): void {
  if (count === 0) return;
  const end = first + count;
  const firstByte = bitmap + Math.floor(first / 8);
  const lastByte = bitmap + Math.floor(end / 8);
  const head = 0xff & (0xff << (first & 7));
  const tail = 0xff & ~(0xff << (end & 7));
  if (firstByte === lastByte) {
    edge(firstByte, head & tail);
    return;
  }
  const start = head === 0xff ? firstByte : firstByte + 1;
  if (start > firstByte) edge(firstByte, head);
  body(start, lastByte);
  if (tail !== 0) edge(lastByte, tail);
}

/** Set bits of a 32-bit word: sums of 2, 4, 8 bits side by side, then all bytes at once. */
function countWord(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const nibbles = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  const bytes = (nibbles + (nibbles >>> 4)) & 0x0f0f0f0f;
  return Math.imul(bytes, 0x01010101) >>> 24;
}

function countBytes(memory: TwinMemory, start: number, end: number): number {
  const { u8, i32 } = memory;
  let total = 0;
  let p = start;
  for (; p < end && p % 4 !== 0; p++) total += countWord(u8[p]);
  const wordsEnd = end >>> 2;
  for (let w = p >>> 2; w < wordsEnd; w++) total += countWord(i32[w]);
  for (p = Math.max(p, wordsEnd * 4); p < end; p++) total += countWord(u8[p]);
  return total;
}

/** Index of the first set bit in [from, end) of the bitmap xor-ed with `flip` (a byte), or `end`. */
function next(memory: TwinMemory, bitmap: number, from: number, end: number, flip: number): number {
  if (from === end) return end;
  const { u8, i32 } = memory;
  const last = bitmap + Math.floor((end - 1) / 8);
  let p = bitmap + Math.floor(from / 8);
  let found = (u8[p] ^ flip) & (0xff << (from & 7));
  if (found === 0) {
    const skipped = flip === 0 ? 0 : -1;
    p++;
    while (p <= last && p % 4 !== 0 && u8[p] === flip) p++;
    while (p % 4 === 0 && p + 3 <= last && i32[p >>> 2] === skipped) p += 4;
    while (p <= last && u8[p] === flip) p++;
    if (p > last) return end;
    found = u8[p] ^ flip;
  }
  const lowest = 31 - Math.clz32(found & -found);
  return Math.min((p - bitmap) * 8 + lowest, end);
}

export function bitmapOperations(memory: TwinMemory): BitmapOperations {
  const combine =
    (operation: (x: number, y: number) => number) =>
    (target: number, source: number, length: number): void => {
      const { u8, i32 } = memory;
      let i = 0;
      if (target % 4 === 0 && source % 4 === 0) {
        const words = length >>> 2;
        const t = target >>> 2;
        const s = source >>> 2;
        for (let w = 0; w < words; w++) i32[t + w] = operation(i32[t + w], i32[s + w]);
        i = words * 4;
      }
      for (; i < length; i++) u8[target + i] = operation(u8[target + i], u8[source + i]);
    };

  return {
    or: combine((x, y) => x | y),
    and: combine((x, y) => x & y),
    andNot: combine((x, y) => x & ~y),
    xor: combine((x, y) => x ^ y),
    count: (bitmap, firstBit, bitCount) => {
      let total = 0;
      eachPart(
        bitmap,
        firstBit,
        bitCount,
        (p, mask) => {
          total += countWord(memory.u8[p] & mask);
        },
        (start, end) => {
          total += countBytes(memory, start, end);
        },
      );
      return total;
    },
    setRange: (bitmap, firstBit, bitCount) => {
      const { u8 } = memory;
      eachPart(
        bitmap,
        firstBit,
        bitCount,
        (p, mask) => {
          u8[p] |= mask;
        },
        (start, end) => u8.fill(0xff, start, end),
      );
    },
    clearRange: (bitmap, firstBit, bitCount) => {
      const { u8 } = memory;
      eachPart(
        bitmap,
        firstBit,
        bitCount,
        (p, mask) => {
          u8[p] &= ~mask;
        },
        (start, end) => u8.fill(0, start, end),
      );
    },
    nextSet: (bitmap, from, end) => next(memory, bitmap, from, end, 0),
    nextClear: (bitmap, from, end) => next(memory, bitmap, from, end, 0xff),
  };
}
