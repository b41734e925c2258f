/** A set of rows of 16-bit cells, all of one length, in the order in which they came: the worlds. */

export class RowSet {
  readonly #width: number;
  #rows: Uint16Array;
  #slots: Int32Array;
  size = 0;

  constructor(width: number) {
    this.#width = width;
    this.#rows = new Uint16Array(width * 1024);
    this.#slots = new Int32Array(4096).fill(-1);
  }

  row(index: number): Uint16Array {
    return this.#rows.subarray(index * this.#width, (index + 1) * this.#width);
  }

  /** False when it was there. */
  add(row: Uint16Array): boolean {
    if (this.size * 2 > this.#slots.length) this.#grow();
    const slot = this.#slot(row);
    if (this.#slots[slot] >= 0) return false;
    if ((this.size + 1) * this.#width > this.#rows.length) {
      const rows = new Uint16Array(this.#rows.length * 2);
      rows.set(this.#rows);
      this.#rows = rows;
    }
    this.#slots[slot] = this.size;
    const at = this.size++ * this.#width;
    for (let i = 0; i < this.#width; i++) this.#rows[at + i] = row[i];
    return true;
  }

  #slot(row: Uint16Array): number {
    let hash = 0x811c9dc5;
    for (let i = 0; i < this.#width; i++) hash = Math.imul(hash ^ row[i], 0x01000193);
    hash ^= hash >>> 15;
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    search: for (; this.#slots[slot] >= 0; slot = (slot + 1) & mask) {
      const at = this.#slots[slot] * this.#width;
      for (let i = 0; i < this.#width; i++) if (this.#rows[at + i] !== row[i]) continue search;
      break;
    }
    return slot;
  }

  #grow(): void {
    this.#slots = new Int32Array(this.#slots.length * 2).fill(-1);
    for (let i = 0; i < this.size; i++) this.#slots[this.#slot(this.row(i))] = i;
  }
}
