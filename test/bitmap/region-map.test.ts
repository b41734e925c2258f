/** The region map against a set of numbers. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_BITS, RegionMap } from '../../src/bitmap/region-map.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('bitmap: region map');
const kernel = createKernel('wasm');

type Step = { what: string; first: number; count: number };

/** Numbers of regions around words and pages. */
const regions = fc.constantFrom(1, 7, 63, 64, 65, 500, PAGE_BITS - 1, PAGE_BITS, 2 * PAGE_BITS + 5);
const place = fc.oneof(fc.nat(), fc.nat(70), fc.constantFrom(PAGE_BITS - 1, PAGE_BITS));
const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom('set', 'clear', 'clear', 'setAll', 'clearAll', 'or', 'save'),
  first: place,
  count: fc.oneof(fc.nat(200), fc.constant(1), fc.nat(2 * PAGE_BITS)),
});

class SetModel {
  readonly set = new Set<number>();
  readonly touched = new Set<number>();
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  /** Nothing can become so: all of it is. */
  isAll(on: boolean): boolean {
    return this.set.size === (on ? this.#size : 0);
  }

  change(first: number, count: number, on: boolean): void {
    if (this.isAll(on)) return;
    for (let region = first; region < first + count; region++) {
      if (on) this.set.add(region);
      else this.set.delete(region);
      this.touched.add(Math.floor(region / PAGE_BITS));
    }
  }
}

function run(size: number, steps: readonly Step[]): void {
  const map = new RegionMap(kernel, size);
  const other = new RegionMap(kernel, size);
  const model = new SetModel(size);
  try {
    for (const { what, first: at, count: most } of steps) {
      const first = at % size;
      const count = Math.min(most, size - first);
      if (what === 'set' || what === 'clear') {
        map[what](first, count);
        model.change(first, count, what === 'set');
      } else if (what === 'or') {
        other.clearAll();
        other.set(first, count);
        map.or(other);
        const all = count > 0 && !model.isAll(true);
        model.change(first, count, true);
        for (let page = 0; all && page * PAGE_BITS < size; page++) model.touched.add(page);
      } else if (what === 'save') {
        assert.is(map.hasTouched, model.touched.size > 0);
        const pages = map.takeTouched();
        assert.equal(
          pages,
          [...model.touched].sort((a, b) => a - b),
        );
        assert.equal(map.takeTouched(), []);
        model.touched.clear();
      } else {
        map[what as 'setAll' | 'clearAll']();
        model.change(0, size, what === 'setAll');
      }
      compare(map, model.set, first, count);
      const inOther = new Set(model.set);
      for (const { first, count } of other.runs()) {
        for (let i = 0; i < count; i++) inOther.add(first + i);
      }
      assert.is(map.countUnion(other), inOther.size);
      assert.is(other.countUnion(map), inOther.size);
    }
  } finally {
    map.release();
    other.release();
  }
}

function compare(map: RegionMap, set: ReadonlySet<number>, first: number, count: number): void {
  assert.is(map.count(), set.size);
  assert.is(map.isEmpty(), set.size === 0);
  const members = [...set].sort((a, b) => a - b);
  const seen: number[] = [];
  for (const run of map.runs()) {
    assert.ok(run.count > 0);
    if (run.first > 0) assert.not.ok(map.has(run.first - 1), 'a whole run');
    for (let i = 0; i < run.count; i++) seen.push(run.first + i);
  }
  assert.ok(seen.length === members.length && seen.every((r, i) => r === members[i]), 'runs');
  const inside = members.filter((r) => r >= first && r < first + count).length;
  assert.is(map.count(first, count), inside);
  assert.is(map.has(first), set.has(first));
  assert.is(map.nextSet(first), members.find((r) => r >= first) ?? map.regions);
  let clear = first;
  while (clear < map.regions && set.has(clear)) clear++;
  assert.is(map.nextClear(first), clear);
}

test('does what a set does, and knows what it touched', () => {
  fc.assert(fc.property(regions, fc.array(step, { maxLength: 10 }), run), { numRuns: 150 });
});

test('refuses what is outside, and changes nothing', () => {
  const map = new RegionMap(kernel, 100);
  map.set(99);
  for (const [first, count] of [
    [-1, 1],
    [100, 1],
    [99, 2],
    [0, 101],
    [5, -1],
  ]) {
    assert.throws(() => map.set(first, count));
    assert.throws(() => map.clear(first, count));
  }
  map.set(100, 0);
  assert.is(map.count(), 1);
  map.release();
});

test('two maps are counted as one over many windows', () => {
  const map = new RegionMap(kernel, 3_000_001);
  const other = new RegionMap(kernel, 3_000_001);
  map.set(0, 1_000_000);
  other.set(999_999, 2);
  other.set(3_000_000);
  assert.is(map.countUnion(other), 1_000_002);
  other.setAll();
  assert.is(map.countUnion(other), 3_000_001);
  map.release();
  other.release();
});

test('maps of other sizes or kernels do not mix', () => {
  const map = new RegionMap(kernel, 100);
  const longer = new RegionMap(kernel, 101);
  const foreign = new RegionMap(createKernel('js'), 100);
  assert.throws(() => map.or(longer));
  assert.throws(() => map.or(foreign));
  assert.throws(() => map.countUnion(longer));
  map.release();
  longer.release();
});

test('a map has a region, and none after its release', () => {
  for (const size of [0, -1, 1.5, Number.NaN]) assert.throws(() => new RegionMap(kernel, size));
  const map = new RegionMap(kernel, 5);
  map.release();
  map.release();
  assert.throws(() => map.set(0));
  assert.throws(() => map.clear(0));
});

test('pages that were not saved after all are touched again', () => {
  const map = new RegionMap(kernel, 3 * PAGE_BITS);
  map.set(PAGE_BITS, PAGE_BITS + 1);
  const pages = map.takeTouched();
  assert.equal(pages, [1, 2]);
  map.clear(5);
  map.giveBackTouched(pages);
  assert.equal(map.takeTouched(), [0, 1, 2]);
  map.release();
});

test('a run may be cleared while the runs are read', () => {
  const map = new RegionMap(kernel, 1000);
  map.set(10, 5);
  map.set(100, 50);
  const seen: number[] = [];
  for (const { first, count } of map.runs()) {
    seen.push(first, count);
    map.clear(first, count);
  }
  assert.equal(seen, [10, 5, 100, 50]);
  assert.ok(map.isEmpty());
  map.release();
});

test.run();
