/**
 * The brute-force model of a master and its proxies: walks through all states that a bounded world
 * can reach, tries a power cut after every step of every event, recovers by the table, and names the
 * first broken promise with the events that lead to it.
 *
 * Promises, for the tracked block, after each event and after each power cut with its recovery:
 *
 * 1. A region that is neither pending nor changed, of two valid sides, is equal.
 * 2. A valid master holds what its clients may expect: nothing that was flushed is lost.
 * 3. So does a valid parted proxy: exactly its snapshot and its own writes. So does the plain volume
 *    that a break leaves; a volume of which nothing can be promised is INVALID.
 * 4. A power cut may take one disk with it for good: what is joined and not pending is complete on
 *    either side alone.
 */

import type { Rule, Side } from '../../src/proxy/states.ts';
import { readFrom } from '../../src/proxy/transitions.ts';
import type { Event } from './model-events.ts';
import { directionOf, Events, proxyOf } from './model-events.ts';
import type { Shape } from './model-world.ts';
import {
  ALLOWED,
  CHANGED,
  EXPECTED,
  JOINED,
  MASTER,
  PENDING,
  RELATED,
  TO_MASTER,
  World,
} from './model-world.ts';
import { RowSet } from './row-set.ts';

export type Bounds = Shape & {
  /** Verbs in two halves, with clients of the master in between. */
  readonly live: boolean;
  /** Most events of a history. */
  readonly depth: number;
};

export type Finding = {
  /** Worlds that were looked into. */
  readonly worlds: number;
  /** True when there is no further world to reach, whatever the depth. */
  readonly complete: boolean;
  readonly depth: number;
  /** Null when every promise held. */
  readonly broken: { readonly promise: string; readonly trace: readonly string[] } | null;
};

const POWER_CUT = -1;
const KILL = -2;

class Broken extends Error {}

/** Walks until a promise breaks, nothing new can be reached, or the depth is. */
export function explore(bounds: Bounds, off: readonly Rule[] = []): Finding {
  return new Search(bounds, new Set(off)).run();
}

class Search {
  readonly #bounds: Bounds;
  readonly #list: readonly Event[];
  readonly #events: Events;
  readonly #worlds: RowSet;
  /** What a power cut reads, of the places where one was tried. */
  readonly #cuts: RowSet;
  readonly #view: Uint16Array;
  readonly #parents: number[] = [];
  /** Index of the event that led here, or one of the constants above. */
  readonly #causes: number[] = [];

  constructor(bounds: Bounds, off: ReadonlySet<Rule>) {
    const start = World.joined(bounds);
    this.#bounds = bounds;
    this.#events = new Events(start, off);
    this.#list = this.#events.list(bounds.live);
    this.#worlds = new RowSet(start.cells.length);
    this.#cuts = new RowSet(start.cutLength);
    this.#view = new Uint16Array(start.cutLength);
    this.#add(start, -1, POWER_CUT);
  }

  run(): Finding {
    let depth = 0;
    let next = 0;
    try {
      for (; depth < this.#bounds.depth && next < this.#worlds.size; depth++) {
        for (const end = this.#worlds.size; next < end; next++) this.#expand(next);
      }
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      const trace = this.#trace(next);
      const broken = { promise: error.message, trace };
      return { worlds: this.#worlds.size, complete: false, depth: depth + 1, broken };
    }
    const complete = next === this.#worlds.size;
    return { worlds: this.#worlds.size, complete, depth, broken: null };
  }

  #add(world: World, parent: number, cause: number): void {
    world.normalize();
    if (!this.#worlds.add(world.cells)) return;
    this.#parents.push(parent);
    this.#causes.push(cause);
  }

  #trace(index: number): string[] {
    const names: string[] = [];
    for (let i = index; i > 0; i = this.#parents[i]) {
      const cause = this.#causes[i];
      names.push(cause === KILL ? 'kill' : cause < 0 ? 'power cut' : this.#list[cause].name);
    }
    return names.reverse();
  }

  #expand(index: number): void {
    const world = new World(this.#bounds);
    for (const [e, event] of this.#list.entries()) {
      world.cells.set(this.#worlds.row(index));
      const report = (step: string) => this.#tryCut(world, `${event.name}, after ${step}`);
      if (!event.run(world, report)) continue;
      const damage = damageOf(world, EXPECTED);
      if (damage) throw new Broken(`${event.name}: ${damage}`);
      this.#tryCut(world, event.name);
      this.#add(world, index, e);
    }
    world.cells.set(this.#worlds.row(index));
    this.#cut(world, 'power cut', (after) => {
      afterwards(after, (volume, holder) => after.promiseContent(volume, holder));
      this.#add(after, index, POWER_CUT);
    });
    this.#kill(world, index);
  }

  /** The process ends, the disks' caches stay: what was not synced may still be lost later. */
  #kill(world: World, index: number): void {
    copyFromMaster(world, this.#events.recover(world));
    const damage = damageOf(world, ALLOWED);
    if (damage) throw new Broken(`kill: ${damage}`);
    afterwards(world, (volume, holder) => world.expectContent(volume, holder));
    this.#add(world, index, KILL);
  }

  #tryCut(world: World, where: string): void {
    world.cutView(this.#view);
    if (this.#cuts.add(this.#view)) this.#cut(world, `${where}, power cut`, () => {});
  }

  /** All worlds that a power cut here may end in, recovered. */
  #cut(world: World, where: string, visit: (after: World) => void): void {
    const base = world.copy();
    const copied = this.#events.recover(base);
    const dependent = this.#dependsAnew(world, base);
    if (dependent) throw new Broken(`${where}: ${dependent}`);
    const volumes = this.#bounds.proxies + 1;
    const possible = Array.from({ length: volumes }, (_, v) => world.possible(v));
    const picks = possible.map(() => 0);
    for (;;) {
      const after = base.copy();
      for (let v = 0; v < volumes; v++) after.settleOn(v, possible[v][picks[v]]);
      const lost = this.#lostWithMaster(world, after);
      copyFromMaster(after, copied);
      const damage = damageOf(after, ALLOWED) ?? lost;
      if (damage) throw new Broken(`${where}: ${damage}`);
      visit(after);
      let v = 0;
      while (v < volumes && ++picks[v] === possible[v].length) picks[v++] = 0;
      if (v === volumes) return;
    }
  }

  /** Promise 4, the master's disk being lost; `after` holds what the proxies' disks hold. */
  #lostWithMaster(before: World, after: World): string | null {
    if (before.window !== 0 || !before.isValid(MASTER)) return null;
    for (let i = 0; i < this.#bounds.proxies; i++) {
      if (!before.is(i, RELATED) || !before.is(i, JOINED)) continue;
      if (before.hasDurable(i, 0, PENDING)) continue;
      if (!after.isSinceFlush(proxyOf(i))) {
        return `without the master's disk a flushed write is lost on proxy ${i + 1}`;
      }
    }
    return null;
  }

  /** Promise 4, a proxy's disk being lost. */
  #dependsAnew(before: World, after: World): string | null {
    for (let i = 0; i < this.#bounds.proxies; i++) {
      if (!after.is(i, TO_MASTER) || !after.has(i, 0, PENDING)) continue;
      if (!before.hasDurable(i, 0, PENDING)) {
        return `recovery lets the master depend on proxy ${i + 1}`;
      }
    }
    return null;
  }
}

function copyFromMaster(world: World, pairs: readonly number[]): void {
  for (const pair of pairs) {
    world.copyBlock(MASTER, proxyOf(pair));
    world.sync(MASTER);
    world.sync(proxyOf(pair));
  }
}

/** True when `side` of a pair has the tracked block from the other side. */
function readsOther(world: World, pair: number, side: Side): boolean {
  const pending = world.has(pair, 0, PENDING);
  return world.is(pair, RELATED) && readFrom(side, directionOf(world, pair), pending) !== side;
}

/** The volume that a read of the master's tracked block ends at. */
function holderOfMaster(world: World): number {
  for (let i = 0; i < world.shape.proxies; i++) {
    if (readsOther(world, i, 'master')) return proxyOf(i);
  }
  return MASTER;
}

function holderOfProxy(world: World, pair: number): number {
  return readsOther(world, pair, 'proxy') ? MASTER : proxyOf(pair);
}

/** Promises 1 to 3; `allowed` is what a read may find. */
function damageOf(world: World, allowed: number): string | null {
  const holder = holderOfMaster(world);
  const masterValid = world.isValid(MASTER);
  if (masterValid && !world.holds(holder, allowed, MASTER)) {
    return 'the master lost or mixed content';
  }
  for (let i = 0; i < world.shape.proxies; i++) {
    const proxy = proxyOf(i);
    if (!world.isValid(proxy)) continue;
    if (!world.is(i, JOINED) && !world.hasPromise(proxy)) {
      return `the half-made copy on proxy ${i + 1} looks good`;
    }
    const related = world.is(i, RELATED);
    if (world.hasPromise(proxy) && !world.holds(holderOfProxy(world, i), allowed, proxy)) {
      return `${related ? 'the snapshot' : 'the copy'} on proxy ${i + 1} lost or mixed content`;
    }
    const believedEqual =
      related && masterValid && !world.has(i, 0, PENDING) && !world.has(i, 0, CHANGED);
    if (believedEqual && !world.sameContent(holder, proxy)) {
      return `proxy ${i + 1} differs from the master and is believed equal`;
    }
  }
  return null;
}

/** What clients read after a recovery. */
function afterwards(world: World, found: (volume: number, holder: number) => void): void {
  if (world.isValid(MASTER)) found(MASTER, holderOfMaster(world));
  for (let i = 0; i < world.shape.proxies; i++) {
    if (world.hasPromise(proxyOf(i))) found(proxyOf(i), holderOfProxy(world, i));
  }
}
