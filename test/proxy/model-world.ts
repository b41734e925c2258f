/**
 * One state of the model: a master and its proxies as a power cut sees them, packed into small ints.
 *
 * What a block holds never decides what the engine does, and every promise is about one block. So
 * one block of region 0 is *tracked*; its neighbours (the rest of region 0, the other regions) are
 * events without content. A state of the tracked block is a set of values, each a word of bits: in
 * which volumes it is the current content, in which it may be what the disk holds after a power cut
 * (nothing was synced since), and which volumes' clients may find it. Values have no names: sorted,
 * two states that differ only by the numbering are one.
 */

/** Volume 0 is the master; volume 1 + i is the proxy of pair i. */
export const MASTER = 0;

// Bits of a value, each to be shifted by the number of a volume.
const CURRENT = 1;
const ON_DISK = 1 << 3;
/** What a client of the volume reads now. */
export const EXPECTED = 1 << 6;
/** What a client may find after a power cut: the flushed value and all that were written later. */
export const ALLOWED = 1 << 9;
/** The same, should the cut come before the commit of a verb that has switched in memory. */
const ALLOWED_BEFORE = 1 << 12;
/** Once per value: the flushed value of the master and all that it held later. */
const SINCE_FLUSH = 1 << 15;

// Bits of a region in a pair: in memory, and one place higher on disk.
export const PENDING = 1;
export const CHANGED = 4;
const MAP_DURABLE = (PENDING | CHANGED) << 1;

// Bits of a pair: in memory, and three places higher on disk.
export const RELATED = 1;
export const JOINED = 2;
export const TO_MASTER = 4;

export type Shape = {
  readonly proxies: number;
  readonly regions: number;
  /** Most values that the tracked block may have at once. */
  readonly values: number;
  /** One extent of the intent log covers all regions of a volume, not one. */
  readonly wideExtents: boolean;
};

export class World {
  readonly shape: Shape;
  /** Values, validity, window, pairs, then for each region its maps and its hot bits. */
  readonly cells: Uint16Array;
  readonly #validity: number;
  readonly #pairs: number;
  readonly #regions: number;
  readonly #stride: number;

  constructor(shape: Shape) {
    this.shape = shape;
    this.#validity = shape.values;
    this.#pairs = shape.values + 2;
    this.#regions = this.#pairs + shape.proxies;
    this.#stride = shape.proxies + 1;
    this.cells = new Uint16Array(this.#regions + shape.regions * this.#stride);
  }

  /** Joined, equal and synced, nothing in the log. */
  static joined(shape: Shape): World {
    const world = new World(shape);
    let value = EXPECTED | ALLOWED | SINCE_FLUSH;
    for (let v = 0; v <= shape.proxies; v++) value |= (CURRENT | ON_DISK) << v;
    world.cells[0] = value;
    for (let i = 0; i < shape.proxies; i++) {
      world.cells[world.#pairs + i] = (RELATED | JOINED) * 9;
    }
    return world;
  }

  /** Length of `cutView`. */
  get cutLength(): number {
    return this.#regions + this.#stride;
  }

  /** The cells that decide what a power cut does to the tracked block. */
  cutView(into: Uint16Array): void {
    for (let i = 0; i < into.length; i++) into[i] = this.cells[i];
    for (let i = 0; i < this.shape.proxies; i++) into[this.#regions + i] &= MAP_DURABLE;
    sortValues(into, this.shape.values);
  }

  copy(): World {
    const world = new World(this.shape);
    world.cells.set(this.cells);
    return world;
  }

  /** Sorts the values, so that equal states have equal cells. */
  normalize(): void {
    sortValues(this.cells, this.shape.values);
  }

  // The tracked block.

  #find(bit: number): number {
    for (let k = 0; k < this.shape.values; k++) if (this.cells[k] & bit) return k;
    return -1;
  }

  /** A value nobody has seen; false when the bound is reached. */
  hasFreshValue(): boolean {
    for (let k = 0; k < this.shape.values; k++) if (this.cells[k] === 0) return true;
    return false;
  }

  #put(volume: number, k: number): void {
    for (let i = 0; i < this.shape.values; i++) this.cells[i] &= ~(CURRENT << volume);
    this.cells[k] |= (CURRENT | ON_DISK) << volume;
  }

  /** A client gives `volume` a new value; returns it for the other side. */
  newValue(volume: number): number {
    let k = 0;
    while (this.cells[k] !== 0) k++;
    for (let i = 0; i < this.shape.values; i++) this.cells[i] &= ~(EXPECTED << volume);
    this.cells[k] = (EXPECTED | ALLOWED | (this.window ? ALLOWED_BEFORE : 0)) << volume;
    if (volume === MASTER) this.cells[k] |= SINCE_FLUSH;
    return k;
  }

  store(volume: number, value: number): void {
    this.#put(volume, value);
  }

  copyBlock(from: number, to: number): void {
    this.#put(to, this.#find(CURRENT << from));
  }

  sync(volume: number): void {
    for (let k = 0; k < this.shape.values; k++) {
      const current = (this.cells[k] >> volume) & CURRENT;
      this.cells[k] = (this.cells[k] & ~(ON_DISK << volume)) | ((current * ON_DISK) << volume);
    }
  }

  exchange(a: number, b: number): void {
    const mask = CURRENT | ON_DISK;
    for (let k = 0; k < this.shape.values; k++) {
      const value = this.cells[k];
      const inA = (value >> a) & mask;
      const inB = (value >> b) & mask;
      this.cells[k] = (value & ~((mask << a) | (mask << b))) | (inA << b) | (inB << a);
    }
  }

  /** True when the content of `holder` is among the values `bit` of `owner`. */
  holds(holder: number, bit: number, owner: number): boolean {
    const k = this.#find(CURRENT << holder);
    return ((this.cells[k] >> owner) & bit) !== 0;
  }

  /** True when the content of `holder` is none that was flushed over on the master. */
  isSinceFlush(holder: number): boolean {
    return (this.cells[this.#find(CURRENT << holder)] & SINCE_FLUSH) !== 0;
  }

  sameContent(a: number, b: number): boolean {
    return this.#find(CURRENT << a) === this.#find(CURRENT << b);
  }

  // What clients were promised.

  hasPromise(volume: number): boolean {
    return this.#find(ALLOWED << volume) >= 0;
  }

  forget(volume: number): void {
    for (let k = 0; k < this.shape.values; k++) {
      this.cells[k] &= ~((EXPECTED | ALLOWED) << volume);
    }
  }

  /** Clients of `volume` find exactly what those of `other` read now. */
  promiseAs(volume: number, other: number): void {
    const k = this.#find(EXPECTED << other);
    this.forget(volume);
    if (k < 0) return;
    this.cells[k] |= (EXPECTED | ALLOWED) << volume;
    if (volume === MASTER) this.cells[k] |= SINCE_FLUSH;
  }

  /** What clients read now is what they find after a power cut. */
  promiseFlushed(volume: number): void {
    for (let k = 0; k < this.shape.values; k++) {
      const expected = (this.cells[k] >> volume) & EXPECTED;
      this.cells[k] &= ~((ALLOWED | ALLOWED_BEFORE) << volume);
      if (volume === MASTER) this.cells[k] &= ~SINCE_FLUSH;
      if (!expected) continue;
      this.cells[k] |= (ALLOWED | (this.window ? ALLOWED_BEFORE : 0)) << volume;
      if (volume === MASTER) this.cells[k] |= SINCE_FLUSH;
    }
  }

  /** After a kill clients read what is there, and may still lose what they have not flushed. */
  expectContent(volume: number, holder: number): void {
    for (let k = 0; k < this.shape.values; k++) this.cells[k] &= ~(EXPECTED << volume);
    this.cells[this.#find(CURRENT << holder)] |= EXPECTED << volume;
  }

  /** After a power cut the content that is there is what clients build on. */
  promiseContent(volume: number, holder: number): void {
    this.forget(volume);
    this.cells[this.#find(CURRENT << holder)] |= (EXPECTED | ALLOWED) << volume;
    if (volume === MASTER) this.promiseFlushed(MASTER);
  }

  // A verb that has switched in memory and is not committed.

  /** 0, or 1 + number of the pair + 8 × number of the verb. */
  get window(): number {
    return this.cells[this.#validity + 1];
  }

  openWindow(window: number): void {
    this.cells[this.#validity + 1] = window;
    for (let k = 0; k < this.shape.values; k++) {
      this.cells[k] |= ((this.cells[k] >> 9) & 7) * ALLOWED_BEFORE;
    }
  }

  closeWindow(): void {
    this.cells[this.#validity + 1] = 0;
    for (let k = 0; k < this.shape.values; k++) this.cells[k] &= ~(7 * ALLOWED_BEFORE);
  }

  // Metadata.

  isValid(volume: number): boolean {
    return ((this.cells[this.#validity] >> volume) & 1) === 0;
  }

  setValid(volume: number, valid: boolean): void {
    if (valid) this.cells[this.#validity] &= ~(1 << volume);
    else this.cells[this.#validity] |= 1 << volume;
  }

  is(pair: number, bit: number): boolean {
    return (this.cells[this.#pairs + pair] & bit) !== 0;
  }

  set(pair: number, bit: number, on: boolean): void {
    if (on) this.cells[this.#pairs + pair] |= bit;
    else this.cells[this.#pairs + pair] &= ~bit;
  }

  #map(pair: number, region: number): number {
    return this.#regions + region * this.#stride + pair;
  }

  has(pair: number, region: number, bit: number): boolean {
    return (this.cells[this.#map(pair, region)] & bit) !== 0;
  }

  hasDurable(pair: number, region: number, bit: number): boolean {
    return this.has(pair, region, bit << 1);
  }

  mark(pair: number, region: number, bit: number, on: boolean): void {
    if (on) this.cells[this.#map(pair, region)] |= bit;
    else this.cells[this.#map(pair, region)] &= ~bit;
  }

  markDurable(pair: number, region: number, bit: number, on: boolean): void {
    this.mark(pair, region, bit << 1, on);
  }

  /** In memory. */
  isEmpty(pair: number, bit: number): boolean {
    for (let r = 0; r < this.shape.regions; r++) if (this.has(pair, r, bit)) return false;
    return true;
  }

  #hot(region: number): number {
    const r = this.shape.wideExtents ? 0 : region;
    return this.#regions + r * this.#stride + this.shape.proxies;
  }

  isHot(volume: number, region: number): boolean {
    return ((this.cells[this.#hot(region)] >> volume) & 1) !== 0;
  }

  heat(volume: number, region: number, hot: boolean): void {
    if (hot) this.cells[this.#hot(region)] |= 1 << volume;
    else this.cells[this.#hot(region)] &= ~(1 << volume);
  }

  /** What memory knows, on disk; of the maps only those of `pairs`. */
  saveMetadata(pairs: readonly number[]): void {
    const { cells } = this;
    cells[this.#validity] = (cells[this.#validity] & 7) * 9;
    for (let i = 0; i < this.shape.proxies; i++) {
      cells[this.#pairs + i] = (cells[this.#pairs + i] & 7) * 9;
      if (!pairs.includes(i)) continue;
      for (let r = 0; r < this.shape.regions; r++) {
        cells[this.#map(i, r)] = (cells[this.#map(i, r)] & (PENDING | CHANGED)) * 3;
      }
    }
  }

  /** All that the disk knows, in memory. A window that was open has never been. */
  loadMetadata(): void {
    const { cells } = this;
    cells[this.#validity] = (cells[this.#validity] >> 3) * 9;
    for (let i = 0; i < this.shape.proxies; i++) {
      cells[this.#pairs + i] = (cells[this.#pairs + i] >> 3) * 9;
      for (let r = 0; r < this.shape.regions; r++) {
        cells[this.#map(i, r)] = ((cells[this.#map(i, r)] & MAP_DURABLE) >> 1) * 3;
      }
    }
    if (!this.window) return;
    for (let k = 0; k < this.shape.values; k++) {
      const before = (this.cells[k] >> 12) & 7;
      this.cells[k] = (this.cells[k] & ~(63 * ALLOWED)) | (before * ALLOWED);
    }
    this.cells[this.#validity + 1] = 0;
  }

  /** The values that may be on disk, for each volume; a power cut picks one of each. */
  possible(volume: number): number[] {
    const values: number[] = [];
    for (let k = 0; k < this.shape.values; k++) {
      if ((this.cells[k] >> volume) & ON_DISK) values.push(k);
    }
    return values;
  }

  /** `volume` holds `value`, synced. */
  settleOn(volume: number, value: number): void {
    this.#put(volume, value);
    this.sync(volume);
  }
}

function sortValues(cells: Uint16Array, count: number): void {
  for (let i = 1; i < count; i++) {
    const value = cells[i];
    let j = i - 1;
    for (; j >= 0 && cells[j] < value; j--) cells[j + 1] = cells[j];
    cells[j + 1] = value;
  }
}
