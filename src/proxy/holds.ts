/**
 * Holds on intervals of bytes: who may touch what while something takes more than one turn. A key
 * stands for a family of volumes (a master and its proxies share their addresses). Requests that
 * meet wait in the order in which they came, so nobody starves; what is done within one turn needs
 * no hold, only `isFree`.
 */

import { assert } from '../base/assert.ts';

export type Hold = {
  readonly key: number;
  /** Bytes [from, to); `to` may be Infinity. */
  readonly from: number;
  readonly to: number;
  readonly exclusive: boolean;
};

type Waiter = { readonly hold: Hold; readonly grant: (hold: Hold) => void };

type Line = { readonly active: Set<Hold>; readonly waiting: Waiter[] };

export class Holds {
  readonly #lines = new Map<number, Line>();

  /** True when nobody who holds or waits is in the way. */
  isFree(key: number, from: number, to: number, exclusive: boolean): boolean {
    const line = this.#lines.get(key);
    if (line === undefined) return true;
    const wanted = { key, from, to, exclusive };
    for (const hold of line.active) if (meet(hold, wanted)) return false;
    return !line.waiting.some(({ hold }) => meet(hold, wanted));
  }

  /** A promise only if it has to wait. */
  acquire(key: number, from: number, to: number, exclusive: boolean): Hold | Promise<Hold> {
    const hold: Hold = { key, from, to, exclusive };
    const free = this.isFree(key, from, to, exclusive);
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = { active: new Set(), waiting: [] };
      this.#lines.set(key, line);
    }
    if (free) {
      line.active.add(hold);
      return hold;
    }
    const { waiting } = line;
    return new Promise((grant) => waiting.push({ hold, grant }));
  }

  release(hold: Hold): void {
    const line = this.#lines.get(hold.key);
    assert(line?.active.delete(hold) === true, 'released a hold that nobody has');
    const { active, waiting } = line;
    const passed: Hold[] = [];
    for (let i = 0; i < waiting.length; ) {
      const { hold: wanted, grant } = waiting[i];
      const blocked =
        [...active].some((other) => meet(other, wanted)) ||
        passed.some((other) => meet(other, wanted));
      if (blocked) {
        passed.push(wanted);
        i++;
      } else {
        waiting.splice(i, 1);
        active.add(wanted);
        grant(wanted);
      }
    }
    if (active.size === 0 && waiting.length === 0) this.#lines.delete(hold.key);
  }
}

function meet(a: Hold, b: Hold): boolean {
  return (a.exclusive || b.exclusive) && a.from < b.to && b.from < a.to;
}
