/** The copies of an open class: what runs now and how far it is, and how the others since then ended. */

import type { CopyEnd, CopyNow, CopyTally, Method } from './api.ts';

type Entry = { now: CopyNow | null; readonly ended: Map<string, CopyTally> };

export class CopyBook {
  readonly #pairs = new Map<number, Entry>();

  /** What is known of a pair's copies. */
  of(pair: number): { copy: CopyNow | null; copies: readonly CopyTally[] } {
    const entry = this.#pairs.get(pair);
    return { copy: entry?.now ?? null, copies: [...(entry?.ended.values() ?? [])] };
  }

  /** A copy begins, or has come further. */
  note(pair: number, now: CopyNow): void {
    this.#entry(pair).now = now;
  }

  ended(pair: number, method: Method, end: CopyEnd): void {
    const entry = this.#entry(pair);
    entry.now = null;
    const key = `${method} ${end}`;
    const count = (entry.ended.get(key)?.count ?? 0) + 1;
    entry.ended.set(key, { method, end, count });
  }

  forget(pair: number): void {
    this.#pairs.delete(pair);
  }

  #entry(pair: number): Entry {
    let entry = this.#pairs.get(pair);
    if (entry === undefined) {
      entry = { now: null, ended: new Map() };
      this.#pairs.set(pair, entry);
    }
    return entry;
  }
}
