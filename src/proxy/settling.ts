/**
 * The regions of a pair that settle: their content is on the target and perhaps not durable there yet.
 * Who is about to sync both sides takes a `Moment` before; what began to settle after that is not in it,
 * also when the region is the same.
 *
 * Kept in layers of bits. A moment closes the open layer and opens another one; a region that begins
 * anew leaves its older layer, so that no moment ever gains one. A copy of holes brings some 100,000 regions
 * a second.
 */

import type { Run } from '../bitmap/region-map.ts';

/** Regions of one piece of a layer. */
const PIECE = 4096;
const WORD = 32;
/** More of them than syncs are usually under way; then the oldest become one. */
const LAYERS_MAX = 32;

class Layer {
  /** A moment of its own: it gets nothing from others. */
  alone = false;
  readonly pieces = new Map<number, Uint32Array>();
  count = 0;

  /** The bits of a mask that are set in one word. */
  bits(piece: number, word: number, mask: number): number {
    return (this.pieces.get(piece)?.[word] ?? 0) & mask;
  }

  add(piece: number, word: number, mask: number): void {
    let words = this.pieces.get(piece);
    if (words === undefined) {
      words = new Uint32Array(PIECE / WORD);
      this.pieces.set(piece, words);
    }
    this.count += ones(mask & ~words[word]);
    words[word] |= mask;
  }

  remove(piece: number, word: number, mask: number): void {
    const bits = this.bits(piece, word, mask);
    if (bits === 0) return;
    this.pieces.get(piece)![word] &= ~bits;
    this.count -= ones(bits);
  }
}

/** What was settling then. */
export type Moment = readonly Layer[];

export class Settling {
  /** Oldest first; the last one is open. A region is in one of them at most. */
  #layers: Layer[] = [new Layer()];

  get isEmpty(): boolean {
    return this.#layers.every(({ count }) => count === 0);
  }

  has(region: number): boolean {
    return this.meets({ first: region, count: 1 });
  }

  /** True when a region of the run settles. */
  meets(run: Run): boolean {
    for (const layer of this.#layers) {
      if (layer.count === 0) continue;
      for (const [piece, word, mask] of words(run)) {
        if (layer.bits(piece, word, mask) !== 0) return true;
      }
    }
    return false;
  }

  /** They begin to settle now, also those that settle already. */
  begin(run: Run): void {
    const open = this.#layers.at(-1)!;
    for (const [piece, word, mask] of words(run)) {
      for (const layer of this.#layers) if (layer !== open) layer.remove(piece, word, mask);
      open.add(piece, word, mask);
    }
  }

  /** They settle no more: they have, or their content is not on the target after all. */
  remove(run: Run): void {
    if (this.isEmpty) return;
    for (const [piece, word, mask] of words(run)) {
      for (const layer of this.#layers) layer.remove(piece, word, mask);
    }
    this.#tidy();
  }

  clear(): void {
    // Moments that others have must lose theirs, too.
    for (const layer of this.#layers) {
      layer.pieces.clear();
      layer.count = 0;
    }
    this.#tidy();
  }

  /** What settles now. */
  now(): Moment {
    const closed = this.#layers.filter(({ count }) => count > 0);
    this.#layers = [...closed, new Layer()];
    if (closed.length > LAYERS_MAX) this.#mergeOldest();
    return closed;
  }

  /** These runs alone, which begin to settle now. */
  nowOnly(runs: readonly Run[]): Moment {
    this.now();
    for (const run of runs) this.begin(run);
    const own = this.#layers.at(-1)!;
    own.alone = true;
    this.#layers.push(new Layer());
    return [own];
  }

  /** What of a moment still settles, and did not begin anew: runs, in order within a layer. */
  of(moment: Moment): Run[] {
    return moment.flatMap(runsOf);
  }

  /**
   * The oldest moments lose what is in the oldest layer: it settles with a later one. Each moment with the
   * layer that gets it had the oldest one, too.
   */
  #mergeOldest(): void {
    const [oldest, ...others] = this.#layers;
    const next = others.find(({ alone }) => !alone)!;
    for (const run of runsOf(oldest)) {
      for (const [piece, word, mask] of words(run)) {
        oldest.remove(piece, word, mask);
        next.add(piece, word, mask);
      }
    }
    this.#layers.shift();
  }

  #tidy(): void {
    const open = this.#layers.at(-1)!;
    this.#layers = this.#layers.filter((layer) => layer.count > 0 || layer === open);
  }
}

/** Piece, word in it and the bits of that word, for all words of a run. */
function* words({ first, count }: Run): Generator<[piece: number, word: number, mask: number]> {
  const end = first + count;
  for (let at = first; at < end; ) {
    const bit = at % WORD;
    const bits = Math.min(WORD - bit, end - at);
    const mask = bits === WORD ? -1 : ((1 << bits) - 1) << bit;
    yield [Math.floor(at / PIECE), Math.floor((at % PIECE) / WORD), mask];
    at += bits;
  }
}

function runsOf(layer: Layer): Run[] {
  const runs: { first: number; count: number }[] = [];
  if (layer.count === 0) return runs;
  for (const piece of [...layer.pieces.keys()].sort((a, b) => a - b)) {
    const bits = layer.pieces.get(piece)!;
    for (let word = 0; word < bits.length; word++) {
      for (let left = bits[word], at = piece * PIECE + word * WORD; left !== 0; ) {
        const zeros = trailingZeros(left);
        const length = trailingZeros(~(left >>> zeros));
        const first = at + zeros;
        const last = runs.at(-1);
        if (last !== undefined && last.first + last.count === first) last.count += length;
        else runs.push({ first, count: length });
        const done = zeros + length;
        left = done >= WORD ? 0 : left >>> done;
        at += done;
      }
    }
  }
  return runs;
}

function trailingZeros(word: number): number {
  return word === 0 ? WORD : 31 - Math.clz32(word & -word);
}

function ones(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
