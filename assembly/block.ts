/**
 * Blocks: compare, copy, fill and zero-test windows of bytes, region by region.
 *
 * Both searches reduce one block a turn to one branch, and stop in the first turn that finds
 * something, since a region is settled by one byte. No load reaches outside the window: the last,
 * short vector is loaded so that it ends where the window ends.
 *
 * Overlap: the windows of `copy`, and those that are only read, may overlap; source and target of
 * `diffCopy` may not.
 */
import { writeBit } from './bitmap';
import { BLOCK, ZERO_BLOCK } from './layout';

/**
 * How many leading bytes of `a` and `b` are surely equal: `length` exactly when all are, else a
 * number at most 127 below the first difference.
 *
 * Walking two pages in step, 64 bytes each a turn, keeps more lines under way: 3 to 5 % faster when
 * memory is the limit, 2 % slower on hot chunks. Hot chunks are what copies feed us, so: not done.
 */
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
function holdsData(address: usize, length: usize): bool {
  let p = address;
  const blocksEnd = address + (length & ~(ZERO_BLOCK - 1));
  for (; p < blocksEnd; p += ZERO_BLOCK) {
    const d0 = v128.or(v128.load(p), v128.load(p, 16));
    const d1 = v128.or(v128.load(p, 32), v128.load(p, 48));
    const d2 = v128.or(v128.load(p, 64), v128.load(p, 80));
    const d3 = v128.or(v128.load(p, 96), v128.load(p, 112));
    const d4 = v128.or(v128.load(p, 128), v128.load(p, 144));
    const d5 = v128.or(v128.load(p, 160), v128.load(p, 176));
    const d6 = v128.or(v128.load(p, 192), v128.load(p, 208));
    const d7 = v128.or(v128.load(p, 224), v128.load(p, 240));
    const low = v128.or(v128.or(d0, d1), v128.or(d2, d3));
    const high = v128.or(v128.or(d4, d5), v128.or(d6, d7));
    if (v128.any_true(v128.or(low, high))) return true;
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
): f64 {
  let bit = <i64>firstBit;
  let count: u32 = 0;
  for (let offset: usize = 0; offset < length; bit++) {
    const size = min(regionSize, length - offset);
    const differs = equalPrefix(a + offset, b + offset, size) != size;
    writeBit(bitmap, bit, differs);
    count += u32(differs);
    offset += size;
  }
  return <f64>count;
}

/** Copies from the first difference on: what lies before it is equal already. */
export function diffCopy(
  source: usize,
  target: usize,
  length: usize,
  regionSize: usize,
  bitmap: usize,
  firstBit: f64,
): f64 {
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
  return <f64>count;
}

export function nonZero(
  address: usize,
  length: usize,
  regionSize: usize,
  bitmap: usize,
  firstBit: f64,
): f64 {
  let bit = <i64>firstBit;
  let count: u32 = 0;
  for (let offset: usize = 0; offset < length; bit++) {
    const size = min(regionSize, length - offset);
    const data = holdsData(address + offset, size);
    writeBit(bitmap, bit, data);
    count += u32(data);
    offset += size;
  }
  return <f64>count;
}

/** As `memmove`: the windows may overlap. */
export function copy(target: usize, source: usize, length: usize): void {
  memory.copy(target, source, length);
}

export function fill(address: usize, value: u32, length: usize): void {
  memory.fill(address, <u8>value, length);
}
