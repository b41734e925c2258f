/**
 * What clients have written to a volume: every write of every sector (or block: the unit that is written
 * as a whole) with the moments at which it was asked for and answered. Nobody else writes a sector at the
 * same time, so its entries are in order. From it follows what a read, a snapshot, a crash or a restore
 * may show.
 */

import assert from 'node:assert';

/** Asked for and answered at these moments (Infinity: not yet, or it failed: then either may be there). */
export type Entry = { readonly version: number; readonly asked: number; answered: number };

export class History {
  /** By sector. The first entry is what was there at the begin. */
  #entries: Entry[][] = [];
  /** By sector: the last entry that a completed flush covers. */
  #flushed: number[] = [];

  constructor(content: readonly number[]) {
    this.begin(content);
  }

  /** Nothing from before counts any more. */
  begin(content: readonly number[]): void {
    this.#entries = content.map((version) => [{ version, asked: 0, answered: 0 }]);
    this.#flushed = content.map(() => 0);
  }

  /** Killed: this is what there is now, which is not to say that it is durable. */
  observe(content: readonly number[]): void {
    for (const [s, version] of content.entries()) {
      const index = this.#indexOf(s, version);
      this.#entries[s].length = index + 1;
      this.#entries[s][index].answered = Math.min(this.#entries[s][index].answered, 1e9);
    }
  }

  ask(first: number, end: number, version: number, asked: number): Entry[] {
    const entries: Entry[] = [];
    for (let s = first; s < end; s++) {
      const entry = { version, asked, answered: Number.POSITIVE_INFINITY };
      this.#entries[s].push(entry);
      entries.push(entry);
    }
    return entries;
  }

  /** The content was replaced as a whole at this moment, and nothing from before can come back. */
  becomes(content: readonly number[], moment: number): void {
    for (const [s, entries] of this.#entries.entries()) {
      entries.push({ version: content[s], asked: moment, answered: moment });
      this.#flushed[s] = entries.length - 1;
    }
  }

  /** What a flush that begins now covers. */
  covered(): readonly number[] {
    return this.#entries.map(lastAnswered);
  }

  flush(covered: readonly number[]): void {
    for (const [s, index] of covered.entries()) {
      this.#flushed[s] = Math.max(this.#flushed[s], index);
    }
  }

  /** The oldest entry of a sector that may be read now. */
  oldest(sector: number): number {
    return lastAnswered(this.#entries[sector]);
  }

  /** Whether a read may find this version; `oldest`: of the moment at which it began. */
  mayHold(sector: number, version: number, oldest = this.oldest(sector)): boolean {
    return this.#indexOf(sector, version) >= oldest;
  }

  /** Fails unless a sector may hold this version after everything unflushed was lost by chance. */
  requireSurvivor(sector: number, version: number, what: string): void {
    const from = this.#flushed[sector];
    assert(
      this.#indexOf(sector, version) >= from,
      `${what}, sector ${sector}: version ${version} is older than what was flushed: ` +
        JSON.stringify(this.#entries[sector].slice(from)),
    );
  }

  /** The same where something else may have been there at the begin. */
  requireFlushed(sector: number, version: number, what: string): void {
    if (this.#flushed[sector] > 0) this.requireSurvivor(sector, version, what);
  }

  requireHeld(content: readonly number[], what: string): void {
    for (const [s, version] of content.entries()) {
      const last = this.#entries[s].slice(-3);
      assert(this.mayHold(s, version), `${what}, sector ${s}: ${version}, ${JSON.stringify(last)}`);
    }
  }

  /** Fails unless there is one moment in (from, to) at which all of `contents` (what is known of it) was here. */
  requireOneMoment(
    contents: readonly (readonly (number | undefined)[])[],
    from: number,
    to: number,
    what: string,
  ): void {
    let after = from;
    let before = to;
    for (const content of contents) {
      for (const [s, version] of content.entries()) {
        if (version === undefined) continue;
        const index = this.#indexOf(s, version);
        assert(index >= 0, `${what}: sector ${s} holds version ${version}, which nobody wrote`);
        const entries = this.#entries[s];
        const next = Math.min(...entries.slice(index + 1).map(({ answered }) => answered));
        after = Math.max(after, entries[index].asked);
        before = Math.min(before, next);
        assert(
          after <= before,
          `${what}: no moment in ${from} to ${to} fits sector ${s}, version ${version}: ` +
            `${JSON.stringify(entries.slice(Math.max(0, index - 1)))}`,
        );
      }
    }
  }

  /**
   * The content was replaced as a whole by `restored` at one moment in (from, to), and then everything
   * unflushed was lost by chance.
   */
  requireRestored(
    content: readonly number[],
    restored: readonly number[],
    from: number,
    to: number,
  ): void {
    let after = from;
    let before = to;
    for (const [s, version] of content.entries()) {
      const entries = this.#entries[s];
      const index = this.#indexOf(s, version);
      const flushed = this.#flushed[s];
      const what = `sector ${s}, version ${version}, restored ${restored[s]}`;
      if (version !== restored[s]) {
        assert(index >= flushed, `${what}: older than ${JSON.stringify(entries.slice(flushed))}`);
        before = Math.min(before, entries[index].answered);
      } else if (index < flushed) {
        after = Math.max(after, entries[flushed].asked);
      }
      assert(after <= before, `${what}: no moment in ${from} to ${to} fits`);
    }
  }

  #indexOf(sector: number, version: number): number {
    return this.#entries[sector].findLastIndex((entry) => entry.version === version);
  }
}

function lastAnswered(entries: readonly Entry[]): number {
  return entries.findLastIndex((entry) => entry.answered !== Number.POSITIVE_INFINITY);
}
