/**
 * Cuts an arena of linear memory into windows of whole pages: first fit, free neighbours merge,
 * windows are zeroed when handed out.
 *
 * Invariant: the free ranges are sorted, disjoint and never adjacent; together with the used ones
 * they cover the arena from its start to the memory's end.
 *
 * Memory above `#dirtyEnd` was never handed out and is zero as it came from the system: it is not
 * cleared, so a large window costs resident memory only where somebody writes.
 */
import { assert } from '../base/assert.ts';

/** Windows start at multiples of this many bytes: what direct I/O wants. */
export const PAGE_BYTES = 4096;

/** The memory beneath: what the allocator needs to know and to do. */
export interface LinearMemory {
  /** Bytes in all, a multiple of `PAGE_BYTES`. */
  readonly size: number;
  /** Makes the memory at least `size` bytes long; throws a `RangeError` when it cannot. */
  growTo(size: number): void;
  bytes(address: number, length: number): Uint8Array;
}

interface Range {
  address: number;
  length: number;
}

export class PageAllocator {
  // Fixed at creation.
  readonly #memory: LinearMemory;

  // Changes with every call.
  readonly #free: Range[] = [];
  readonly #used = new Map<number, number>();
  #end: number;
  #dirtyEnd: number;

  /** The arena is [start, end of memory); `start` is a multiple of `PAGE_BYTES`. */
  constructor(memory: LinearMemory, start: number) {
    assert(start % PAGE_BYTES === 0, 'the arena starts at a page');
    this.#memory = memory;
    this.#end = start;
    this.#dirtyEnd = start;
    this.#takeOver();
  }

  /** Address of a zeroed window of `length` bytes, at least 1. */
  allocate(length: number): number {
    assert(Number.isSafeInteger(length) && length >= 1, () => `allocate: length ${length}`);
    const size = Math.ceil(length / PAGE_BYTES) * PAGE_BYTES;
    let index = this.#free.findIndex((range) => range.length >= size);
    if (index < 0) {
      this.#memory.growTo(this.#end - this.#freeAtEnd() + size);
      this.#takeOver();
      index = this.#free.length - 1;
    }
    const range = this.#free[index];
    const address = range.address;
    if (range.length === size) {
      this.#free.splice(index, 1);
    } else {
      range.address += size;
      range.length -= size;
    }
    this.#used.set(address, size);
    this.#clear(address, address + size);
    return address;
  }

  release(address: number): void {
    const length = this.#used.get(address);
    assert(length !== undefined, () => `release: ${address} is not the address of a window`);
    this.#used.delete(address);
    this.#giveBack(address, length);
  }

  #clear(start: number, end: number): void {
    const dirty = Math.min(end, this.#dirtyEnd) - start;
    if (dirty > 0) this.#memory.bytes(start, dirty).fill(0);
    this.#dirtyEnd = Math.max(end, this.#dirtyEnd);
  }

  #freeAtEnd(): number {
    const last = this.#free.at(-1);
    return last && last.address + last.length === this.#end ? last.length : 0;
  }

  /** Adds what the memory grew by to the arena. */
  #takeOver(): void {
    const grown = this.#memory.size - this.#end;
    const address = this.#end;
    this.#end += grown;
    if (grown > 0) this.#giveBack(address, grown);
  }

  #giveBack(address: number, length: number): void {
    const free = this.#free;
    const found = free.findIndex((range) => range.address > address);
    const index = found < 0 ? free.length : found;
    const before = free[index - 1];
    const after = free[index];
    const joinsBefore = before !== undefined && before.address + before.length === address;
    const joinsAfter = after !== undefined && address + length === after.address;
    if (joinsBefore) {
      before.length += length + (joinsAfter ? after.length : 0);
      if (joinsAfter) free.splice(index, 1);
    } else if (joinsAfter) {
      after.address = address;
      after.length += length;
    } else {
      free.splice(index, 0, { address, length });
    }
  }
}
