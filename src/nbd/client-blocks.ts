/**
 * Disks that take whole blocks only, used at any byte: ranges are parted into whole blocks and the
 * edges that need a block read and written around them, and writes that overlap wait for each
 * other, because the edge of one may hold bytes of another. Pure; all numbers are bytes.
 */

/** An edge: [offset, offset + length) lies in the block, and is not all of it. */
export type Part =
  | { readonly kind: 'whole'; readonly offset: number; readonly length: number }
  | {
      readonly kind: 'edge';
      readonly offset: number;
      readonly length: number;
      readonly block: number;
      readonly blockLength: number;
    };

/**
 * A range in order, as at most two edges and whole blocks between them. Blocks begin at multiples
 * of `block`; the last one of the disk ends at `size`.
 */
export function partsOf(offset: number, length: number, block: number, size: number): Part[] {
  const parts: Part[] = [];
  const end = offset + length;
  const begin = Math.min(end, roundUp(offset, block));
  const stop = end === size ? end : Math.max(begin, end - (end % block));
  const edge = (from: number, to: number) => {
    if (from >= to) return;
    const start = from - (from % block);
    const blockLength = Math.min(block, size - start);
    parts.push({ kind: 'edge', offset: from, length: to - from, block: start, blockLength });
  };
  edge(offset, begin);
  if (begin < stop) parts.push({ kind: 'whole', offset: begin, length: stop - begin });
  edge(stop, end);
  return parts;
}

export function roundUp(offset: number, block: number): number {
  return Math.ceil(offset / block) * block;
}

/** Runs work on a range alone: after all earlier work on ranges that overlap it. */
export type RangeLock = <T>(offset: number, end: number, work: () => Promise<T>) => Promise<T>;

export function createRangeLock(): RangeLock {
  const held = new Set<{ offset: number; end: number; free: Promise<void> }>();
  return async (offset, end, work) => {
    const before = [...held].filter((other) => other.offset < end && offset < other.end);
    let release = () => {};
    const free = new Promise<void>((resolve) => {
      release = resolve;
    });
    const own = { offset, end, free };
    held.add(own);
    try {
      for (const other of before) await other.free;
      return await work();
    } finally {
      held.delete(own);
      release();
    }
  };
}
