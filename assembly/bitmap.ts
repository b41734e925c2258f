/**
 * Bitmaps: algebra byte by byte, and counting, setting and searching of bit ranges at any phase.
 *
 * A bit range is handled as head (the rest of its first byte), body (whole bytes) and tail; no bit
 * outside the range changes, and no byte is read that holds no bit of it. Overlap of two bitmaps in
 * the algebra: only if they are the same.
 */

/** Bits of a byte from `phase` (0 to 7) up. */
function from(phase: i64): u32 {
  return (0xff << (<u32>phase)) & 0xff;
}

/** Bits of a byte below `phase` (0 to 7). */
function below(phase: i64): u32 {
  return ~(0xff << (<u32>phase)) & 0xff;
}

export function writeBit(bitmap: usize, bit: i64, value: bool): void {
  const p = bitmap + <usize>(bit >> 3);
  const mask: u32 = 1 << (<u32>bit & 7);
  const old: u32 = load<u8>(p);
  store<u8>(p, <u8>(value ? old | mask : old & ~mask));
}

const OR = 0;
const AND = 1;
const AND_NOT = 2;
const XOR = 3;

/**
 * The four operations share one loop: `op` is a constant at every call, and inlining leaves one
 * instruction of the four. A class only because decorators are no syntax on plain functions; all
 * other inlining is left to the optimiser.
 */
class Algebra {
  @inline
  static vector(op: i32, x: v128, y: v128): v128 {
    if (op == OR) return v128.or(x, y);
    if (op == AND) return v128.and(x, y);
    if (op == AND_NOT) return v128.andnot(x, y);
    return v128.xor(x, y);
  }

  @inline
  static byte(op: i32, x: u32, y: u32): u32 {
    if (op == OR) return x | y;
    if (op == AND) return x & y;
    if (op == AND_NOT) return x & ~y;
    return x ^ y;
  }

  @inline
  static combine(op: i32, target: usize, source: usize, length: usize): void {
    let i: usize = 0;
    for (const end = length & ~63; i < end; i += 64) {
      const t = target + i;
      const s = source + i;
      v128.store(t, Algebra.vector(op, v128.load(t), v128.load(s)));
      v128.store(t, Algebra.vector(op, v128.load(t, 16), v128.load(s, 16)), 16);
      v128.store(t, Algebra.vector(op, v128.load(t, 32), v128.load(s, 32)), 32);
      v128.store(t, Algebra.vector(op, v128.load(t, 48), v128.load(s, 48)), 48);
    }
    for (const end = length & ~15; i < end; i += 16) {
      const t = target + i;
      v128.store(t, Algebra.vector(op, v128.load(t), v128.load(source + i)));
    }
    for (; i < length; i++) {
      const t = target + i;
      store<u8>(t, <u8>Algebra.byte(op, load<u8>(t), load<u8>(source + i)));
    }
  }
}

export function or(target: usize, source: usize, length: usize): void {
  Algebra.combine(OR, target, source, length);
}

export function and(target: usize, source: usize, length: usize): void {
  Algebra.combine(AND, target, source, length);
}

export function andNot(target: usize, source: usize, length: usize): void {
  Algebra.combine(AND_NOT, target, source, length);
}

export function xor(target: usize, source: usize, length: usize): void {
  Algebra.combine(XOR, target, source, length);
}

/** Set bits of one byte under a mask. */
function countByte(p: usize, mask: u32): i64 {
  return <i64>popcnt<u32>(load<u8>(p) & mask);
}

export function count(bitmap: usize, firstBit: f64, bitCount: f64): f64 {
  const first = <i64>firstBit;
  const end = first + <i64>bitCount;
  if (first == end) return 0;
  let p = bitmap + <usize>(first >> 3);
  const last = bitmap + <usize>(end >> 3);
  if (p == last) return <f64>countByte(p, from(first & 7) & below(end & 7));
  let total: i64 = 0;
  if (first & 7) total += countByte(p++, from(first & 7));
  for (; p + 32 <= last; p += 32) {
    total += popcnt<i64>(load<i64>(p)) + popcnt<i64>(load<i64>(p, 8));
    total += popcnt<i64>(load<i64>(p, 16)) + popcnt<i64>(load<i64>(p, 24));
  }
  for (; p < last; p++) total += countByte(p, 0xff);
  if (end & 7) total += countByte(p, below(end & 7));
  return <f64>total;
}

/** Writes the bits under `mask` of one byte. */
function writeByte(p: usize, mask: u32, value: bool): void {
  const old: u32 = load<u8>(p);
  store<u8>(p, <u8>(value ? old | mask : old & ~mask));
}

function writeRange(bitmap: usize, firstBit: f64, bitCount: f64, value: bool): void {
  const first = <i64>firstBit;
  const end = first + <i64>bitCount;
  if (first == end) return;
  let p = bitmap + <usize>(first >> 3);
  const last = bitmap + <usize>(end >> 3);
  if (p == last) {
    writeByte(p, from(first & 7) & below(end & 7), value);
    return;
  }
  if (first & 7) writeByte(p++, from(first & 7), value);
  memory.fill(p, value ? 0xff : 0, last - p);
  if (end & 7) writeByte(last, below(end & 7), value);
}

export function setRange(bitmap: usize, firstBit: f64, bitCount: f64): void {
  writeRange(bitmap, firstBit, bitCount, true);
}

export function clearRange(bitmap: usize, firstBit: f64, bitCount: f64): void {
  writeRange(bitmap, firstBit, bitCount, false);
}

/** Index of the first bit in [from, end) that is set once a byte was xor-ed with `flip`. */
function next(bitmap: usize, firstBit: f64, endBit: f64, flip: u32): f64 {
  const first = <i64>firstBit;
  if (firstBit >= endBit) return endBit;
  const lastByte = bitmap + <usize>((<i64>endBit - 1) >> 3);
  let p = bitmap + <usize>(first >> 3);
  let found: u32 = (load<u8>(p) ^ flip) & from(first & 7);
  if (!found) {
    p++;
    const flip64: u64 = flip ? u64.MAX_VALUE : 0;
    const flips = i8x16.splat(<i8>flip);
    for (; p + 63 <= lastByte; p += 64) {
      const d0 = v128.or(v128.xor(v128.load(p), flips), v128.xor(v128.load(p, 16), flips));
      const d1 = v128.or(v128.xor(v128.load(p, 32), flips), v128.xor(v128.load(p, 48), flips));
      if (v128.any_true(v128.or(d0, d1))) break;
    }
    for (; p + 7 <= lastByte; p += 8) {
      if (load<u64>(p) ^ flip64) break;
    }
    for (; p <= lastByte; p++) {
      found = load<u8>(p) ^ flip;
      if (found) break;
    }
    if (!found) return endBit;
  }
  // The last byte may hold bits beyond the end.
  return min(<f64>(((<i64>(p - bitmap)) << 3) + <i64>ctz(found)), endBit);
}

export function nextSet(bitmap: usize, firstBit: f64, endBit: f64): f64 {
  return next(bitmap, firstBit, endBit, 0);
}

export function nextClear(bitmap: usize, firstBit: f64, endBit: f64): f64 {
  return next(bitmap, firstBit, endBit, 0xff);
}
