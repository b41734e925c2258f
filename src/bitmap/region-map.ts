/**
 * One bit a region, in the kernel's linear memory. Remembers which pages of its file (`map-file.ts`)
 * were touched since they were last saved. Not persistent by itself.
 */

import { assert } from '../base/assert.ts';
import type { Kernel } from '../kernel/kernel.ts';

/** A run of regions: index of the first, count. */
export type Run = { readonly first: number; readonly count: number };

/** Bits in one page of the file: 4096 bytes less 32 of header. */
export const PAGE_BITS = (4096 - 32) * 8;

/** Two maps are counted as one in windows of so many bytes. */
const WINDOW = 65536;

export class RegionMap {
  readonly kernel: Kernel;
  /** Number of regions. */
  readonly regions: number;
  /** Address and length (whole 8-byte words) of the bits in the kernel's memory. */
  readonly address: number;
  readonly byteLength: number;
  #touched = new Set<number>();
  /** Set bits, while that is known: to count those of a large map takes milliseconds. */
  #count: number | undefined = 0;
  #released = false;

  constructor(kernel: Kernel, regions: number) {
    assert(Number.isSafeInteger(regions) && regions > 0, 'a map has at least one region');
    this.kernel = kernel;
    this.regions = regions;
    this.byteLength = Math.ceil(regions / 64) * 8;
    this.address = kernel.allocate(this.byteLength);
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.kernel.release(this.address);
  }

  has(region: number): boolean {
    return this.kernel.count(this.address, region, 1) === 1;
  }

  set(first: number, count = 1): void {
    this.#check(first, count);
    if (this.#count === this.regions) return;
    if (count === this.regions) this.#count = count;
    else if (this.#count !== undefined) this.#count += count - this.count(first, count);
    this.kernel.setRange(this.address, first, count);
    this.#touch(first, count);
  }

  clear(first: number, count = 1): void {
    this.#check(first, count);
    if (this.#count === 0) return;
    if (count === this.regions) this.#count = 0;
    else if (this.#count !== undefined) this.#count -= this.count(first, count);
    this.kernel.clearRange(this.address, first, count);
    this.#touch(first, count);
  }

  setAll(): void {
    this.set(0, this.regions);
  }

  clearAll(): void {
    this.clear(0, this.regions);
  }

  /** this := this ∪ other, of the same size. */
  or(other: RegionMap): void {
    this.#requireTwin(other);
    if (this.#count === this.regions || other.isEmpty()) return;
    this.#count = this.#count === 0 ? other.count() : undefined;
    this.kernel.or(this.address, other.address, this.byteLength);
    this.#touch(0, this.regions);
  }

  /** The bits of a page, in whole bytes, are those at an address of the kernel's memory. */
  load(page: number, from: number): void {
    const first = page * PAGE_BITS;
    const count = Math.min(PAGE_BITS, this.regions - first);
    this.kernel.copy(this.address + first / 8, from, Math.ceil(count / 8));
    // Bits past the end of the map would be counted and found.
    const over = Math.ceil(count / 8) * 8 - count;
    if (over > 0) this.kernel.clearRange(this.address, first + count, over);
    this.#count = undefined;
  }

  count(first = 0, count = this.regions - first): number {
    if (count !== this.regions) return this.kernel.count(this.address, first, count);
    this.#count ??= this.kernel.count(this.address, 0, this.regions);
    return this.#count;
  }

  /** Regions that are set in this map or in the other, of the same size. */
  countUnion(other: RegionMap): number {
    this.#requireTwin(other);
    if (this.isEmpty()) return other.count();
    if (other.isEmpty() || this.#count === this.regions) return this.count();
    const length = Math.min(WINDOW, this.byteLength);
    const window = this.kernel.allocate(length);
    try {
      let regions = 0;
      for (let at = 0; at < this.byteLength; at += length) {
        const bytes = Math.min(length, this.byteLength - at);
        this.kernel.copy(window, this.address + at, bytes);
        this.kernel.or(window, other.address + at, bytes);
        regions += this.kernel.count(window, 0, bytes * 8);
      }
      return regions;
    } finally {
      this.kernel.release(window);
    }
  }

  isEmpty(): boolean {
    return this.#count === undefined ? this.nextSet(0) === this.regions : this.#count === 0;
  }

  /** First region in [from, end) whose bit is set, or `end`. */
  nextSet(from: number, end = this.regions): number {
    return this.kernel.nextSet(this.address, from, end);
  }

  /** First region in [from, end) whose bit is clear, or `end`. */
  nextClear(from: number, end = this.regions): number {
    return this.kernel.nextClear(this.address, from, end);
  }

  /**
   * Runs of set bits in [from, to), in order. The map may change meanwhile: bits behind the reader are not
   * seen.
   */
  *runs(from = 0, to = this.regions): Generator<Run> {
    let first = this.nextSet(from, to);
    while (first < to) {
      const end = this.nextClear(first, to);
      yield { first, count: end - first };
      first = this.nextSet(end, to);
    }
  }

  /** Pages touched since the last call, in order. */
  takeTouched(): number[] {
    const pages = [...this.#touched].sort((a, b) => a - b);
    this.#touched.clear();
    return pages;
  }

  /** Marks pages as not saved after all. */
  giveBackTouched(pages: readonly number[]): void {
    for (const page of pages) this.#touched.add(page);
  }

  get hasTouched(): boolean {
    return this.#touched.size > 0;
  }

  #touch(first: number, count: number): void {
    if (count === 0) return;
    const last = Math.floor((first + count - 1) / PAGE_BITS);
    for (let page = Math.floor(first / PAGE_BITS); page <= last; page++) this.#touched.add(page);
  }

  #requireTwin(other: RegionMap): void {
    assert(other.regions === this.regions && other.kernel === this.kernel, 'maps do not line up');
  }

  #check(first: number, count: number): void {
    assert(!this.#released, 'map used after release');
    assert(first >= 0 && count >= 0 && first + count <= this.regions, 'region outside the map');
  }
}
