/** Pieces of work: every set region once, in order, none larger than asked for, the last one short. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RegionMap } from '../../src/bitmap/region-map.ts';
import { bytesOf, type Piece, pieces } from '../../src/copy/plan.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('copy: plan');
const kernel = createKernel('js');

/** The pieces of ten regions of 100 bytes, the last of 30. */
function cut(bits: readonly number[], pieceSize: number): { all: Piece[]; bytes: number } {
  const map = new RegionMap(kernel, 10);
  for (const bit of bits) map.set(bit);
  const all = [...pieces(map, 100, 930, pieceSize)];
  const bytes = bytesOf(map, 100, 930);
  map.release();
  return { all, bytes };
}

test('every set region is in one piece, in order, with its length', () => {
  const cases = fc
    .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 5000 }))
    .chain(([regions, regionSize]) =>
      fc.record({
        regions: fc.constant(regions),
        regionSize: fc.constant(regionSize),
        last: fc.integer({ min: 1, max: regionSize }),
        bits: fc.uniqueArray(fc.nat(regions - 1)),
        pieceSize: fc.integer({ min: 1, max: 20_000 }),
      }),
    );
  fc.assert(
    fc.property(cases, ({ regions, regionSize, last, bits, pieceSize }) => {
      const size = (regions - 1) * regionSize + last;
      const map = new RegionMap(kernel, regions);
      for (const bit of bits) map.set(bit);
      const seen: number[] = [];
      let total = 0;
      for (const { ranges, length } of pieces(map, regionSize, size, pieceSize)) {
        let sum = 0;
        let count = 0;
        for (const range of ranges) {
          assert.is(range.offset % regionSize, 0);
          const first = range.offset / regionSize;
          const n = Math.ceil(range.length / regionSize);
          for (let i = 0; i < n; i++) seen.push(first + i);
          assert.is(range.length, Math.min(n * regionSize, size - range.offset));
          sum += range.length;
          count += n;
        }
        assert.is(sum, length);
        assert.ok(length > 0);
        assert.ok(count <= Math.max(1, Math.floor(pieceSize / regionSize)), `${count} regions`);
        total += length;
      }
      assert.equal(
        seen,
        [...bits].sort((a, b) => a - b),
      );
      assert.is(bytesOf(map, regionSize, size), total);
      map.release();
    }),
  );
});

test('a piece has several runs, and a long run several pieces', () => {
  const { all, bytes } = cut([0, 2, 3, 4, 5, 9], 300);
  assert.equal(all, [
    {
      ranges: [
        { offset: 0, length: 100 },
        { offset: 200, length: 200 },
      ],
      length: 300,
    },
    {
      ranges: [
        { offset: 400, length: 200 },
        { offset: 900, length: 30 },
      ],
      length: 230,
    },
  ]);
  assert.is(bytes, 530);
});

test('nothing to do is no piece', () => {
  assert.equal(cut([], 300), { all: [], bytes: 0 });
});

test.run();
