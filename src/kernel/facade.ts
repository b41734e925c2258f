/**
 * The checked front of both kernels: every argument is held against the memory here, once, so that
 * the operations behind it, which check nothing, never touch a byte they were not given.
 *
 * Two checks are stricter than ranges: the first page of memory belongs to nobody, so a forgotten
 * address (0) is refused; and windows whose overlap would make the answer depend on the order of
 * the work are refused.
 */
import { assert } from '../base/assert.ts';
import { type LinearMemory, PageAllocator } from './allocator.ts';
import { HASH_STATE_BYTES, type Kernel } from './kernel.ts';

/** What a kernel has to bring: the contract without memory management, unchecked. */
export type Operations = Omit<Kernel, 'kind' | 'allocate' | 'release' | 'bytes'>;

/** The longest memory in bytes: 4 GiB less 64 KiB, so that every end of a window fits in 32 bits. */
export const MEMORY_BYTES_MAX = 2 ** 32 - 65536;

function assertCount(value: number, what: string): void {
  assert(Number.isSafeInteger(value) && value >= 0, () => `kernel: ${what} is ${value}`);
}

function assertApart(a: number, aLength: number, b: number, bLength: number): void {
  assert(
    aLength === 0 || bLength === 0 || a + aLength <= b || b + bLength <= a,
    () => `kernel: windows ${a}+${aLength} and ${b}+${bLength} overlap`,
  );
}

export class Facade implements Kernel {
  // Fixed at creation.
  readonly kind: Kernel['kind'];
  readonly #memory: LinearMemory;
  readonly #start: number;
  readonly #allocator: PageAllocator;
  readonly #operations: Operations;

  /** `start`: the first address that may be handed out. */
  constructor(kind: Kernel['kind'], memory: LinearMemory, start: number, operations: Operations) {
    this.kind = kind;
    this.#memory = memory;
    this.#start = start;
    this.#allocator = new PageAllocator(memory, start);
    this.#operations = operations;
  }

  allocate(length: number): number {
    return this.#allocator.allocate(length);
  }

  release(address: number): void {
    this.#allocator.release(address);
  }

  bytes(address: number, length: number): Uint8Array {
    this.#assertWindow(address, length);
    return this.#memory.bytes(address, length);
  }

  diff(
    a: number,
    b: number,
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
  ): number {
    this.#assertWindow(a, length);
    this.#assertWindow(b, length);
    const size = this.#assertRegions(length, regionSize, bitmap, firstBit, a, b);
    return this.#operations.diff(a, b, length, size, bitmap, firstBit);
  }

  diffCopy(
    source: number,
    target: number,
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
  ): number {
    this.#assertWindow(source, length);
    this.#assertWindow(target, length);
    assertApart(source, length, target, length);
    const size = this.#assertRegions(length, regionSize, bitmap, firstBit, source, target);
    return this.#operations.diffCopy(source, target, length, size, bitmap, firstBit);
  }

  nonZero(
    address: number,
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
  ): number {
    this.#assertWindow(address, length);
    const size = this.#assertRegions(length, regionSize, bitmap, firstBit, address, address);
    return this.#operations.nonZero(address, length, size, bitmap, firstBit);
  }

  copy(target: number, source: number, length: number): void {
    this.#assertWindow(target, length);
    this.#assertWindow(source, length);
    this.#operations.copy(target, source, length);
  }

  fill(address: number, value: number, length: number): void {
    this.#assertWindow(address, length);
    assertCount(value, 'fill value');
    assert(value <= 255, () => `kernel: fill value is ${value}`);
    this.#operations.fill(address, value, length);
  }

  or(target: number, source: number, length: number): void {
    this.#assertAlgebra(target, source, length);
    this.#operations.or(target, source, length);
  }

  and(target: number, source: number, length: number): void {
    this.#assertAlgebra(target, source, length);
    this.#operations.and(target, source, length);
  }

  andNot(target: number, source: number, length: number): void {
    this.#assertAlgebra(target, source, length);
    this.#operations.andNot(target, source, length);
  }

  xor(target: number, source: number, length: number): void {
    this.#assertAlgebra(target, source, length);
    this.#operations.xor(target, source, length);
  }

  count(bitmap: number, firstBit: number, bitCount: number): number {
    this.#assertBits(bitmap, firstBit, bitCount);
    return this.#operations.count(bitmap, firstBit, bitCount);
  }

  setRange(bitmap: number, firstBit: number, bitCount: number): void {
    this.#assertBits(bitmap, firstBit, bitCount);
    this.#operations.setRange(bitmap, firstBit, bitCount);
  }

  clearRange(bitmap: number, firstBit: number, bitCount: number): void {
    this.#assertBits(bitmap, firstBit, bitCount);
    this.#operations.clearRange(bitmap, firstBit, bitCount);
  }

  nextSet(bitmap: number, from: number, end: number): number {
    this.#assertBits(bitmap, from, end - from);
    return this.#operations.nextSet(bitmap, from, end);
  }

  nextClear(bitmap: number, from: number, end: number): number {
    this.#assertBits(bitmap, from, end - from);
    return this.#operations.nextClear(bitmap, from, end);
  }

  hashReset(state: number): void {
    this.#assertHashState(state);
    this.#operations.hashReset(state);
  }

  hashUpdate(state: number, address: number, length: number): void {
    this.#assertHashState(state);
    this.#assertWindow(address, length);
    assertApart(state, HASH_STATE_BYTES, address, length);
    this.#operations.hashUpdate(state, address, length);
  }

  hashDigest(state: number): string {
    this.#assertHashState(state);
    return this.#operations.hashDigest(state);
  }

  #assertWindow(address: number, length: number): void {
    assertCount(address, 'address');
    assertCount(length, 'length');
    assert(
      address >= this.#start && address + length <= this.#memory.size,
      () => `kernel: window ${address}+${length} is outside the memory`,
    );
  }

  #assertBits(bitmap: number, firstBit: number, bitCount: number): void {
    assertCount(firstBit, 'first bit');
    assertCount(bitCount, 'bit count');
    this.#assertWindow(bitmap, Math.ceil((firstBit + bitCount) / 8));
  }

  #assertAlgebra(target: number, source: number, length: number): void {
    this.#assertWindow(target, length);
    this.#assertWindow(source, length);
    if (target !== source) assertApart(target, length, source, length);
  }

  #assertHashState(state: number): void {
    this.#assertWindow(state, HASH_STATE_BYTES);
    assert(state % 8 === 0, () => `kernel: hash state ${state} is not 8-byte aligned`);
  }

  /**
   * Checks what the calls that answer with one bit a region have in common. Returns the region size
   * cut to the length of the windows, which means the same and fits in 32 bits.
   */
  #assertRegions(
    length: number,
    regionSize: number,
    bitmap: number,
    firstBit: number,
    a: number,
    b: number,
  ): number {
    assertCount(regionSize, 'region size');
    assert(regionSize >= 1, 'kernel: region size is 0');
    const bitCount = Math.ceil(length / regionSize);
    this.#assertBits(bitmap, firstBit, bitCount);
    const firstByte = Math.floor(firstBit / 8);
    const byteCount = Math.ceil((firstBit + bitCount) / 8) - firstByte;
    assertApart(bitmap + firstByte, byteCount, a, length);
    assertApart(bitmap + firstByte, byteCount, b, length);
    return Math.min(regionSize, Math.max(length, 1));
  }
}
