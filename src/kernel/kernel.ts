/**
 * The contract of the block kernel: diff, copy, zero test, bitmap algebra and one checksum, as pure
 * functions over one linear memory. Two implementations keep it, `wasm.ts` (AssemblyScript, SIMD)
 * and `reference.ts` (plain JS); `test/conformance/kernel.ts` holds both to it.
 *
 * Every argument is a number: an *address* and a *length* in bytes, or a *bit index* and a *count*
 * in bits. Bit `i` of a bitmap at address `p` is bit `i & 7` (least significant first) of byte
 * `p + (i >> 3)`. Bitmaps may start at any address; no function touches a bit outside the range it
 * is given. Every call checks its ranges against the memory and throws an assertion error outside it.
 */
export interface Kernel {
  readonly kind: 'wasm' | 'js';

  /**
   * Reserves `length` bytes (at least 1), zeroed, at an address that is a multiple of 4096 so that
   * direct I/O can use it. May grow the memory: every view made before is dead then. Throws when the
   * memory cannot grow.
   */
  allocate(length: number): number;
  /** Gives back what `allocate` returned; the address must be exactly that. */
  release(address: number): void;
  /** A view of the memory. Dies with the next `allocate`: make it, use it, drop it. */
  bytes(address: number, length: number): Uint8Array;

  /**
   * Compares `length` bytes at `a` and `b` region by region; the last region may be short. Writes one
   * bit a region from `firstBit` of `bitmap` (1 = differs, 0 = equal). Returns how many differ.
   * `regionSize` in bytes, at least 1.
   */
  diff(
    a: number,
    b: number,
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
  ): number;
  /** Like `diff(source, target, …)`, and copies each region that differs from source to target. The two must not overlap. */
  diffCopy(
    source: number,
    target: number,
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
  ): number;
  /** Writes one bit a region: 1 = holds a byte that is not zero. Returns how many do. */
  nonZero(
    address: number,
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
  ): number;
  /** Copies `length` bytes; the windows may overlap (as `memmove`). */
  copy(target: number, source: number, length: number): void;
  /** Fills `length` bytes with `value` (0 to 255). */
  fill(address: number, value: number, length: number): void;

  /** target := target | source, byte by byte over `length` bytes. Overlap only if target = source. */
  or(target: number, source: number, length: number): void;
  /** target := target & source. */
  and(target: number, source: number, length: number): void;
  /** target := target & ~source. */
  andNot(target: number, source: number, length: number): void;
  /** target := target ^ source. */
  xor(target: number, source: number, length: number): void;
  /** Number of set bits in [firstBit, firstBit + bitCount). */
  count(bitmap: number, firstBit: number, bitCount: number): number;
  setRange(bitmap: number, firstBit: number, bitCount: number): void;
  clearRange(bitmap: number, firstBit: number, bitCount: number): void;
  /** Index of the first set bit in [from, end), or `end`. */
  nextSet(bitmap: number, from: number, end: number): number;
  /** Index of the first clear bit in [from, end), or `end`. */
  nextClear(bitmap: number, from: number, end: number): number;

  /**
   * XXH64 (seed 0) of a stream: `hashReset` once, `hashUpdate` with pieces of any length, then
   * `hashDigest`, which leaves the state usable. `state` is a window of `HASH_STATE_BYTES`, 8-byte
   * aligned. The digest is 16 lower-case hex digits, as `xxhsum -H1` prints it.
   */
  hashReset(state: number): void;
  hashUpdate(state: number, address: number, length: number): void;
  hashDigest(state: number): string;
}

/** Bytes of the hash state window: total length (8), four lanes (32), buffer (32), its fill (4), padding. */
export const HASH_STATE_BYTES = 80;
