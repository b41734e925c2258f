/**
 * What one would write without a kernel: plain loops over bytes, Int32Array and BigInt64Array. Each
 * stops a region at its first difference, like the kernel; no bitmap, which only helps them.
 *
 * Every loop is made anew for each kind of array, by `loopsFor`: an engine that has seen one loop
 * with two kinds of arrays runs it several times slower, and we would beat a straw man.
 */

type Words = Uint8Array | Int32Array | BigInt64Array;

export interface Loops<T> {
  /** Regions that differ. `size`: elements of a region. */
  diff(a: T, b: T, size: number): number;
  /** Regions that differ, each copied. */
  diffCopy(source: T, target: T, size: number): number;
  /** Regions that hold data. */
  nonZero(a: T, size: number): number;
  or(target: T, source: T): void;
}

const SOURCE = `
  function diff(a, b, size) {
    let count = 0;
    for (let start = 0; start < a.length; start += size) {
      const end = Math.min(start + size, a.length);
      let i = start;
      while (i < end && a[i] === b[i]) i++;
      if (i < end) count++;
    }
    return count;
  }
`;
