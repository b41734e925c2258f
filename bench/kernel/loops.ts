/**
 * What one would write without a kernel: plain loops over bytes, Int32Array and BigInt64Array. Each
 * stops a region at its first difference, like the kernel; no bitmap, which only helps them.
 *
 * Every loop is written out for each kind of array: an engine that has seen one loop with two kinds
 * runs it several times slower for ever, and we would beat a straw man. `size`: elements a region.
 */

export function diffBytes(a: Uint8Array, b: Uint8Array, size: number): number {
  let count = 0;
  for (let start = 0; start < a.length; start += size) {
    const end = Math.min(start + size, a.length);
    let i = start;
    while (i < end && a[i] === b[i]) i++;
    if (i < end) count++;
  }
  return count;
}

export function diffWords(a: Int32Array, b: Int32Array, size: number): number {
  let count = 0;
  for (let start = 0; start < a.length; start += size) {
    const end = Math.min(start + size, a.length);
    let i = start;
    while (i < end && a[i] === b[i]) i++;
    if (i < end) count++;
  }
  return count;
}

export function diffBigWords(a: BigInt64Array, b: BigInt64Array, size: number): number {
  let count = 0;
  for (let start = 0; start < a.length; start += size) {
    const end = Math.min(start + size, a.length);
    let i = start;
    while (i < end && a[i] === b[i]) i++;
    if (i < end) count++;
  }
  return count;
}

export function diffCopyBytes(source: Uint8Array, target: Uint8Array, size: number): number {
  let count = 0;
  for (let start = 0; start < source.length; start += size) {
    const end = Math.min(start + size, source.length);
    let i = start;
    while (i < end && source[i] === target[i]) i++;
    if (i === end) continue;
    for (; i < end; i++) target[i] = source[i];
    count++;
  }
  return count;
}

export function diffCopyWords(source: Int32Array, target: Int32Array, size: number): number {
  let count = 0;
  for (let start = 0; start < source.length; start += size) {
    const end = Math.min(start + size, source.length);
    let i = start;
    while (i < end && source[i] === target[i]) i++;
    if (i === end) continue;
    for (; i < end; i++) target[i] = source[i];
    count++;
  }
  return count;
}

export function diffCopyBigWords(
  source: BigInt64Array,
  target: BigInt64Array,
  size: number,
): number {
  let count = 0;
  for (let start = 0; start < source.length; start += size) {
    const end = Math.min(start + size, source.length);
    let i = start;
    while (i < end && source[i] === target[i]) i++;
    if (i === end) continue;
    for (; i < end; i++) target[i] = source[i];
    count++;
  }
  return count;
}

export function nonZeroBytes(a: Uint8Array, size: number): number {
  let count = 0;
  for (let start = 0; start < a.length; start += size) {
    const end = Math.min(start + size, a.length);
    let i = start;
    while (i < end && a[i] === 0) i++;
    if (i < end) count++;
  }
  return count;
}

export function nonZeroWords(a: Int32Array, size: number): number {
  let count = 0;
  for (let start = 0; start < a.length; start += size) {
    const end = Math.min(start + size, a.length);
    let i = start;
    while (i < end && a[i] === 0) i++;
    if (i < end) count++;
  }
  return count;
}

export function nonZeroBigWords(a: BigInt64Array, size: number): number {
  let count = 0;
  for (let start = 0; start < a.length; start += size) {
    const end = Math.min(start + size, a.length);
    let i = start;
    while (i < end && a[i] === 0n) i++;
    if (i < end) count++;
  }
  return count;
}

export function orBytes(target: Uint8Array, source: Uint8Array): void {
  for (let i = 0; i < target.length; i++) target[i] |= source[i];
}

export function orWords(target: Int32Array, source: Int32Array): void {
  for (let i = 0; i < target.length; i++) target[i] |= source[i];
}

export function orBigWords(target: BigInt64Array, source: BigInt64Array): void {
  for (let i = 0; i < target.length; i++) target[i] |= source[i];
}

export function countWords(a: Int32Array): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) {
    let word = a[i];
    word -= (word >>> 1) & 0x55555555;
    word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
    total += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return total;
}

const BYTE_COUNTS = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let rest = byte; rest > 0; rest >>= 1) count += rest & 1;
  return count;
});

export function countBytes(a: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += BYTE_COUNTS[a[i]];
  return total;
}
