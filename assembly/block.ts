/**
 * Blocks: compare, copy, fill and zero-test windows of bytes, region by region.
 *
 * Both searches look at 128 bytes a turn and reduce them to one branch; they stop in the first turn
 * that finds something, since a region is settled by one byte. No load reaches outside the window:
 * the last, short vector is loaded so that it ends where the window ends.
 *
 * Overlap: `copy` and read-only windows may; source and target of `diffCopy` may not.
 */
import { BLOCK } from './layout';
import { writeBit } from './bitmap';

/**
 * How many leading bytes of `a` and `b` are surely equal: `length` exactly when all are, else a
 * number at most 127 below the first difference.
 */
// @ts-ignore: decorator
@inline
function equalPrefix(a: usize, b: usize, length: usize): usize {
  let i: usize = 0;
  const blocksEnd = length & ~(BLOCK - 1);
  for (; i < blocksEnd; i += BLOCK) {
    const x = a + i;
    const y = b + i;
    const d0 = v128.or(
      v128.xor(v128.load(x), v128.load(y)),
      v128.xor(v128.load(x, 16), v128.load(y, 16)),
    );
    const d1 = v128.or(
      v128.xor(v128.load(x, 32), v128.load(y, 32)),
      v128.xor(v128.load(x, 48), v128.load(y, 48)),
    );
    const d2 = v128.or(
      v128.xor(v128.load(x, 64), v128.load(y, 64)),
      v128.xor(v128.load(x, 80), v128.load(y, 80)),
    );
    const d3 = v128.or(
      v128.xor(v128.load(x, 96), v128.load(y, 96)),
      v128.xor(v128.load(x, 112), v128.load(y, 112)),
    );
    if (v128.any_true(v128.or(v128.or(d0, d1), v128.or(d2, d3)))) return i;
  }
  return equalTail(a, b, i, length);
}

/** The same for what is left from `i` on, less than a block: rarely run, so not inlined. */
function equalTail(a: usize, b: usize, start: usize, length: usize): usize {
  let i = start;
  for (; i + 16 <= length; i += 16) {
    if (v128.any_true(v128.xor(v128.load(a + i), v128.load(b + i)))) return i;
  }
  if (i == length) return length;
  if (length >= 16) {
    // The last vector reaches back over bytes already known to be equal.
    const last = length - 16;
    const differs = v128.any_true(v128.xor(v128.load(a + last), v128.load(b + last)));
    return differs ? i : length;
  }
  for (; i < length; i++) {
    if (load<u8>(a + i) != load<u8>(b + i)) return i;
  }
  return length;
}

/** Whether a byte of the window is not zero. */
// @ts-ignore: decorator
@inline
function holdsData(address: usize, length: usize): bool {
  let p = address;
  const blocksEnd = address + (length & ~(BLOCK - 1));
  for (; p < blocksEnd; p += BLOCK) {
    const d0 = v128.or(v128.load(p), v128.load(p, 16));
    const d1 = v128.or(v128.load(p, 32), v128.load(p, 48));
    const d2 = v128.or(v128.load(p, 64), v128.load(p, 80));
    const d3 = v128.or(v128.load(p, 96), v128.load(p, 112));
    if (v128.any_true(v128.or(v128.or(d0, d1), v128.or(d2, d3)))) return true;
  }
  return tailHoldsData(p, address, address + length);
}

/** The same for [p, end), less than a block at the end of a window that began at `start`. */
function tailHoldsData(from: usize, start: usize, end: usize): bool {
  let p = from;
  for (; p + 16 <= end; p += 16) {
    if (v128.any_true(v128.load(p))) return true;
  }
  if (p == end) return false;
  if (end - start >= 16) return v128.any_true(v128.load(end - 16));
  for (; p < end; p++) {
    if (load<u8>(p) != 0) return true;
  }
  return false;
}

export function diff(
  a: usize,
  b: usize,
  length: usize,
  regionSize: usize,
  bitmap: usize,
  firstBit: f64,
): u32 {
  let bit = <i64>firstBit;
  let count: u32 = 0;
  for (let offset: usize = 0; offset < length; bit++) {
    const size = min(regionSize, length - offset);
    const differs = equalPrefix(a + offset, b + offset, size) != size;
    writeBit(bitmap, bit, differs);
    count += u32(differs);
    offset += size;
  }
  return count;
}

/** Copies from the first difference on: what lies before it is equal already. */
export function diffCopy(
  source: usize,
  target: usize,
  length: usize,
  regionSize: usize,
  bitmap: usize,
  firstBit: f64,
): u32 {
  let bit = <i64>firstBit;
  let count: u32 = 0;
  for (let offset: usize = 0; offset < length; bit++) {
    const size = min(regionSize, length - offset);
    const from = source + offset;
    const to = target + offset;
    const equal = equalPrefix(from, to, size);
    const differs = equal != size;
    if (differs) memory.copy(to + equal, from + equal, size - equal);
    writeBit(bitmap, bit, differs);
    count += u32(differs);
    offset += size;
  }
  return count;
}

export function nonZero(
  address: usize,
  length: usize,
  regionSize: usize,
  bitmap: usize,
  firstBit: f64,
): u32 {
  let bit = <i64>firstBit;
  let count: u32 = 0;
  for (let offset: usize = 0; offset < length; bit++) {
    const size = min(regionSize, length - offset);
    const data = holdsData(address + offset, size);
    writeBit(bitmap, bit, data);
    count += u32(data);
    offset += size;
  }
  return count;
}

/** As `memmove`: the windows may overlap. */
export function copy(target: usize, source: usize, length: usize): void {
  memory.copy(target, source, length);
}

export function fill(address: usize, value: u32, length: usize): void {
  memory.fill(address, <u8>value, length);
}
