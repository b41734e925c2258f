/** Cuts the regions of a map into pieces of work for the workers. */

import type { RegionMap } from '../bitmap/region-map.ts';
import type { Range } from './task.ts';

/** Ranges of one piece: each a run of regions, together at most the size that was asked for. */
export type Piece = { readonly ranges: readonly Range[]; readonly length: number };

/**
 * Yields all set regions of `map` in order, as pieces of about `pieceSize` bytes (at least one
 * region), from the first to the last byte of a piece `spanMax` bytes or a little more. `size` is the
 * volume's: the last region may be short.
 */
export function* pieces(
  map: RegionMap,
  regionSize: number,
  size: number,
  pieceSize: number,
  spanMax = Number.POSITIVE_INFINITY,
): Generator<Piece> {
  const most = Math.max(1, Math.floor(pieceSize / regionSize));
  let ranges: Range[] = [];
  let regions = 0;
  let length = 0;
  for (const run of map.runs()) {
    if (ranges.length > 0 && run.first * regionSize - ranges[0].offset >= spanMax) {
      yield { ranges, length };
      ranges = [];
      regions = 0;
      length = 0;
    }
    for (let done = 0; done < run.count; ) {
      const count = Math.min(run.count - done, most - regions);
      const offset = (run.first + done) * regionSize;
      const bytes = Math.min(offset + count * regionSize, size) - offset;
      ranges.push({ offset, length: bytes });
      regions += count;
      length += bytes;
      done += count;
      if (regions === most) {
        yield { ranges, length };
        ranges = [];
        regions = 0;
        length = 0;
      }
    }
  }
  if (ranges.length > 0) yield { ranges, length };
}

/** Bytes of the set regions of a map. */
export function bytesOf(map: RegionMap, regionSize: number, size: number): number {
  const regions = map.count();
  const lastShort = map.has(map.regions - 1) ? map.regions * regionSize - size : 0;
  return regions * regionSize - lastShort;
}
