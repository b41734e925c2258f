/**
 * What can happen to the model's world: clients' writes and flushes, the copier, the intent log,
 * verbs, recovery. Each event executes the rows of the engine's own table, one step after the other,
 * and reports every step, so that a power cut can be tried there.
 */

import type { Direction, Side, Verb, VerbRow, WriteStep } from '../../src/proxy/states.ts';
import {
  COPY_RULES,
  COPY_STEPS,
  EVICT_RULES,
  EVICT_STEPS,
  FLUSH_RULES,
  FLUSH_STEPS,
  VERB_RULES,
  VERB_STEPS,
  VERBS,
  WRITE_ORDER,
} from '../../src/proxy/states.ts';
import type { Off, PairView, VerbOptions } from '../../src/proxy/transitions.ts';
import {
  copierWaits,
  evictionWaits,
  keptSteps,
  mapAfter,
  recoverHot,
  refusal,
  sourceOf,
  spreadsTo,
  targetOf,
  writeSteps,
  writeWaits,
} from '../../src/proxy/transitions.ts';
import type { World } from './model-world.ts';
import { CHANGED, JOINED, MASTER, PENDING, RELATED, TO_MASTER } from './model-world.ts';

/** Called after each step of an event, with its name. */
export type Report = (step: string) => void;

export type Event = {
  readonly name: string;
  /** False when it cannot happen in this world (which may then be spoiled). */
  readonly run: (world: World, report: Report) => boolean;
};

export type VerbCall = { readonly verb: Verb; readonly options: VerbOptions };

export const VERB_CALLS: readonly VerbCall[] = [
  ...(Object.keys(VERBS) as Verb[]).map((verb) => ({ verb, options: {} })),
  { verb: 'part', options: { instant: true } },
  { verb: 'break', options: { restore: true } },
];

/**
 * Verbs with a switch in memory before the commit, clients of the master going on. Not those that
 * restore it: each of its writes would wait.
 */
const LIVE_VERBS: readonly Verb[] = ['join', 'part', 'rejoin', 'update'];
const VERB_NAMES = Object.keys(VERBS) as Verb[];

export function proxyOf(pair: number): number {
  return 1 + pair;
}

function volumeAt(pair: number, side: Side): number {
  return side === 'master' ? MASTER : proxyOf(pair);
}

export function directionOf(world: World, pair: number): Direction {
  return world.is(pair, TO_MASTER) ? 'toMaster' : 'toProxy';
}

function sourceVolume(world: World, pair: number): number {
  return volumeAt(pair, sourceOf(directionOf(world, pair)));
}

function targetVolume(world: World, pair: number): number {
  return volumeAt(pair, targetOf(directionOf(world, pair)));
}

function viewOf(world: World, pair: number): PairView {
  return {
    related: world.is(pair, RELATED),
    joined: world.is(pair, JOINED),
    direction: directionOf(world, pair),
    pendingEmpty: world.isEmpty(pair, PENDING),
    masterValid: world.isValid(MASTER),
    proxyValid: world.isValid(proxyOf(pair)),
  };
}

function isSettling(world: World, pair: number, region: number): boolean {
  return world.hasDurable(pair, region, PENDING) && !world.has(pair, region, PENDING);
}

/** The pair and verb of the open window. */
function windowOf(world: World): { pair: number; verb: Verb } | null {
  if (world.window === 0) return null;
  return { pair: (world.window & 7) - 1, verb: VERB_NAMES[world.window >> 3] };
}

export class Events {
  readonly #off: Off;
  readonly #proxies: number;
  /** All regions. */
  readonly #all: readonly number[];
  readonly #flushSteps: readonly (typeof FLUSH_STEPS)[number][];
  readonly #copySteps: readonly (typeof COPY_STEPS)[number][];
  readonly #verbSteps: readonly (typeof VERB_STEPS)[number][];
  readonly #evictSteps: { readonly joined: readonly string[]; readonly parted: readonly string[] };
  readonly #rows = new Map<number, readonly WriteStep[]>();

  constructor(world: World, off: Off) {
    this.#off = off;
    this.#proxies = world.shape.proxies;
    this.#all = Array.from({ length: world.shape.regions }, (_, r) => r);
    this.#flushSteps = keptSteps(FLUSH_STEPS, FLUSH_RULES, off);
    this.#copySteps = keptSteps(COPY_STEPS, COPY_RULES, off);
    this.#verbSteps = keptSteps(VERB_STEPS, VERB_RULES, off);
    this.#evictSteps = {
      joined: keptSteps<string>(EVICT_STEPS.joined, EVICT_RULES, off),
      parted: keptSteps<string>(EVICT_STEPS.parted, EVICT_RULES, off),
    };
  }

  /** All events but the power cut, which ends in many worlds. `live`: verbs in two halves. */
  list(live: boolean): readonly Event[] {
    const events: Event[] = [];
    const add = (name: string, run: Event['run']) => events.push({ name, run });
    for (let v = 0; v <= this.#proxies; v++) {
      const volume = v === MASTER ? 'master' : `proxy ${v}`;
      add(`write ${volume}`, (w, report) => this.#write(w, v, 0, true, report));
      add(`write ${volume} beside`, (w, report) => this.#write(w, v, 0, false, report));
      for (let r = 1; r < this.#all.length; r++) {
        add(`write ${volume} region ${r}`, (w, report) => this.#write(w, v, r, false, report));
      }
      add(`flush ${volume}`, (w, report) => this.#flush(w, v, report));
      for (let r = 0; r < this.#all.length; r++) {
        add(`evict ${volume} region ${r}`, (w, report) => this.#evict(w, v, r, report));
      }
    }
    for (let i = 0; i < this.#proxies; i++) {
      for (let r = 0; r < this.#all.length; r++) {
        add(`copy pair ${i + 1} region ${r}`, (w, report) => this.#copy(w, i, r, report));
      }
      add(`finish the copy of pair ${i + 1}`, (w) => this.#finish(w, i));
      for (const call of VERB_CALLS) {
        const name = [call.verb, ...Object.keys(call.options).map((o) => `--${o}`)].join(' ');
        if (live && LIVE_VERBS.includes(call.verb)) {
          add(`switch to ${name} ${i + 1}`, (w, report) => this.#switch(w, i, call, report));
        } else {
          add(`${name} ${i + 1}`, (w, report) => {
            return this.#switch(w, i, call, report) && this.#commit(w, report);
          });
        }
      }
    }
    if (live) add('commit', (w, report) => this.#commit(w, report));
    return events;
  }

  #related(world: World, volume: number): number[] {
    const pairs: number[] = [];
    for (let i = 0; i < this.#proxies; i++) {
      if (world.is(i, RELATED) && (volume === MASTER || volume === proxyOf(i))) pairs.push(i);
    }
    return pairs;
  }

  /** A valid master is always used; a valid proxy while parted and not given up by a verb. */
  #isUsed(world: World, volume: number): boolean {
    if (!world.isValid(volume)) return false;
    if (volume === MASTER) return true;
    const pair = volume - 1;
    if (windowOf(world)?.pair === pair) return false;
    return world.is(pair, RELATED) && !world.is(pair, JOINED);
  }

  #stepsOf(world: World, pair: number, region: number, volume: number): readonly WriteStep[] {
    const joined = world.is(pair, JOINED);
    const pending = world.has(pair, region, PENDING);
    const settling = isSettling(world, pair, region);
    const isTarget = targetVolume(world, pair) === volume;
    const key = Number(joined) | (Number(pending) << 1) | (Number(settling) << 2);
    const index = key | (Number(isTarget) << 3);
    let steps = this.#rows.get(index);
    if (steps === undefined) {
      const role = isTarget ? 'target' : 'source';
      steps = writeSteps({ joined, pending, settling, role }, this.#off);
      this.#rows.set(index, steps);
    }
    return steps;
  }

  /** `tracked`: the tracked block is what is written; else a neighbour. */
  #write(world: World, volume: number, region: number, tracked: boolean, report: Report): boolean {
    if (!this.#isUsed(world, volume) || (tracked && !world.hasFreshValue())) return false;
    const side = volume === MASTER ? 'master' : 'proxy';
    const pairs = this.#related(world, volume);
    const rows = pairs.map((i) => this.#stepsOf(world, i, region, volume));
    const window = windowOf(world);
    if (window && pairs.includes(window.pair)) {
      const row = rows[pairs.indexOf(window.pair)];
      if (writeWaits(window.verb, side, row, this.#off)) return false;
    }
    const value = tracked ? world.newValue(volume) : -1;
    for (const step of WRITE_ORDER) {
      if (step === 'write') {
        if (tracked) world.store(volume, value);
        report(step);
        continue;
      }
      for (const [n, pair] of pairs.entries()) {
        if (!rows[n].includes(step)) continue;
        this.#writeStep(world, step, pair, region, volume, value);
        report(`${step} for pair ${pair + 1}`);
      }
    }
    return true;
  }

  #writeStep(
    world: World,
    step: WriteStep,
    pair: number,
    region: number,
    volume: number,
    value: number,
  ): void {
    const source = sourceVolume(world, pair);
    const target = targetVolume(world, pair);
    switch (step) {
      case 'settle':
        this.#settle(world, pair, [region], () => {});
        break;
      case 'intent':
        world.heat(volume, region, true);
        break;
      case 'preserve':
        if (region === 0) world.copyBlock(source, target);
        // Without its rule the bit is cleared like that of a filled region: in memory.
        if (this.#off.has('clear-before-source')) world.mark(pair, region, PENDING, false);
        break;
      case 'sync-source':
        world.sync(source);
        break;
      case 'sync-target':
        world.sync(target);
        break;
      case 'clear':
        world.mark(pair, region, PENDING, false);
        world.markDurable(pair, region, PENDING, false);
        break;
      case 'fill':
        if (region === 0 && value < 0) world.copyBlock(source, target);
        break;
      case 'mark':
        world.mark(pair, region, CHANGED, true);
        break;
      case 'mirror':
        if (value >= 0) world.store(volume === MASTER ? proxyOf(pair) : MASTER, value);
        break;
      case 'settling':
        world.mark(pair, region, PENDING, false);
        break;
    }
  }

  /** Clears the bits of filled regions durably. */
  #settle(world: World, pair: number, regions: readonly number[], report: Report): void {
    const settling = regions.filter((r) => isSettling(world, pair, r));
    if (settling.length === 0) return;
    if (!this.#off.has('sync-source')) world.sync(sourceVolume(world, pair));
    report('settle: sync-source');
    if (!this.#off.has('sync-target')) world.sync(targetVolume(world, pair));
    report('settle: sync-target');
    for (const r of settling) world.markDurable(pair, r, PENDING, false);
    report('settle: clear');
  }

  #flush(world: World, volume: number, report: Report): boolean {
    if (!this.#isUsed(world, volume)) return false;
    const pairs = this.#related(world, volume);
    world.sync(volume);
    report('sync-own');
    for (const step of this.#flushSteps) {
      for (const pair of pairs) {
        const other = volume === MASTER ? proxyOf(pair) : MASTER;
        const isTarget = targetVolume(world, pair) === volume;
        const settling = isTarget ? this.#all.filter((r) => isSettling(world, pair, r)) : [];
        if (step === 'sync-mirror' && world.is(pair, JOINED)) world.sync(other);
        if (step === 'sync-source' && settling.length > 0) world.sync(other);
        if (step === 'clear') {
          for (const r of settling) world.markDurable(pair, r, PENDING, false);
        }
        report(`${step} for pair ${pair + 1}`);
      }
    }
    world.promiseFlushed(volume);
    return true;
  }

  #copy(world: World, pair: number, region: number, report: Report): boolean {
    if (!world.is(pair, RELATED) || !world.has(pair, region, PENDING)) return false;
    const source = sourceVolume(world, pair);
    const target = targetVolume(world, pair);
    const window = windowOf(world);
    const waits = copierWaits(
      {
        direction: directionOf(world, pair),
        sourceValid: world.isValid(source),
        sourcePending: this.#related(world, source).some(
          (i) => targetVolume(world, i) === source && world.hasDurable(i, region, PENDING),
        ),
        switching: window?.pair === pair ? window.verb : null,
      },
      this.#off,
    );
    if (waits) return false;
    for (const step of this.#copySteps) {
      if (step === 'write' && region === 0) world.copyBlock(source, target);
      if (step === 'sync-source') world.sync(source);
      if (step === 'sync-target') world.sync(target);
      if (step === 'clear') {
        world.mark(pair, region, PENDING, false);
        world.markDurable(pair, region, PENDING, false);
      }
      report(step);
    }
    return true;
  }

  /** The commit that ends a copy: from now on the pair copies towards its proxy. */
  #finish(world: World, pair: number): boolean {
    if (!world.is(pair, RELATED) || !world.is(pair, TO_MASTER) || world.window !== 0) return false;
    const { regions } = world.shape;
    for (let r = 0; r < regions; r++) {
      if (world.has(pair, r, PENDING) || world.hasDurable(pair, r, PENDING)) return false;
    }
    world.set(pair, TO_MASTER, false);
    world.saveMetadata([]);
    return true;
  }

  #evict(world: World, volume: number, region: number, report: Report): boolean {
    if (!world.isHot(volume, region) || evictionWaits(world.window !== 0, this.#off)) return false;
    const regions = world.shape.wideExtents ? this.#all : [region];
    for (const pair of this.#related(world, volume)) {
      for (const step of this.#evictSteps[world.is(pair, JOINED) ? 'joined' : 'parted']) {
        if (step === 'sync-source') world.sync(sourceVolume(world, pair));
        if (step === 'sync-target') world.sync(targetVolume(world, pair));
        // Maps of a verb that is not committed have no place on disk yet.
        if (step === 'mark-durable' && windowOf(world)?.pair !== pair) {
          for (const r of regions) {
            if (world.has(pair, r, CHANGED)) world.markDurable(pair, r, CHANGED, true);
          }
        }
        report(`${step} for pair ${pair + 1}`);
      }
    }
    world.heat(volume, region, false);
    return true;
  }

  /** The first half of a verb: its steps before the commit that do not wait, and the switch. */
  #switch(world: World, pair: number, call: VerbCall, report: Report): boolean {
    if (world.window !== 0) return false;
    const { verb, options } = call;
    const row = VERBS[verb];
    if (this.#verbSteps.includes('settle')) {
      for (const i of this.#related(world, MASTER)) {
        this.#settle(world, i, this.#all, report);
      }
    }
    const siblings = this.#related(world, MASTER).filter((i) => i !== pair);
    const why = refusal(
      verb,
      viewOf(world, pair),
      options,
      siblings.map((i) => viewOf(world, i)),
      this.#off,
    );
    if (why !== null) return false;
    world.openWindow(1 + pair + 8 * VERB_NAMES.indexOf(verb));
    this.#apply(world, pair, verb, row);
    if (row.spreads && !this.#off.has('spread-restore')) {
      for (const i of siblings) this.#spread(world, pair, i);
    }
    report('switched');
    return true;
  }

  #apply(world: World, pair: number, verb: Verb, row: VerbRow): void {
    const unfinished = !world.isEmpty(pair, PENDING);
    const abandoned = row.abandons && unfinished ? targetVolume(world, pair) : -1;
    this.#applyPromises(world, pair, verb, unfinished);
    this.#applyMaps(world, pair, verb, row);
    if (row.joined !== 'keep') {
      world.set(pair, RELATED, row.joined !== 'gone');
      world.set(pair, JOINED, row.joined === true);
    }
    if (row.direction !== 'keep') world.set(pair, TO_MASTER, row.direction === 'toMaster');
    if (row.joined === 'gone') world.set(pair, TO_MASTER, false);
    if (row.target !== null) world.setValid(volumeAt(pair, row.target), true);
    if (abandoned >= 0) {
      world.setValid(abandoned, false);
      world.forget(abandoned);
    }
  }

  #applyMaps(world: World, pair: number, verb: Verb, row: VerbRow): void {
    const pending = mapAfter(row.pending, 'pending', verb, this.#off);
    const changed = mapAfter(row.changed, 'changed', verb, this.#off);
    for (const r of this.#all) {
      const before = {
        all: true,
        pending: world.has(pair, r, PENDING),
        changed: world.has(pair, r, CHANGED),
      };
      world.mark(
        pair,
        r,
        PENDING,
        pending.some((map) => before[map]),
      );
      world.mark(
        pair,
        r,
        CHANGED,
        changed.some((map) => before[map]),
      );
    }
  }

  /** What the users of both volumes may rely on once the verb has returned. */
  #applyPromises(world: World, pair: number, verb: Verb, unfinished: boolean): void {
    const proxy = proxyOf(pair);
    const wasJoined = world.is(pair, RELATED) && world.is(pair, JOINED);
    if (verb === 'part' || verb === 'update') world.promiseAs(proxy, MASTER);
    if (verb === 'restore' || verb === 'restoreKeep') world.promiseAs(MASTER, proxy);
    if (verb === 'join' || verb === 'rejoin' || verb === 'restore') world.forget(proxy);
    // A joined proxy that is complete is a full copy, of which break makes a plain volume.
    const complete = !unfinished || world.is(pair, TO_MASTER);
    if (verb === 'break' && wasJoined && complete) world.promiseAs(proxy, MASTER);
  }

  #spread(world: World, pair: number, sibling: number): void {
    const to = spreadsTo({ joined: world.is(sibling, JOINED) }, this.#off);
    if (to.direction !== 'keep') world.set(sibling, TO_MASTER, to.direction === 'toMaster');
    for (const r of this.#all) {
      if (!world.has(pair, r, PENDING)) continue;
      world.mark(sibling, r, to.map === 'pending' ? PENDING : CHANGED, true);
    }
  }

  /** The second half of a verb. */
  #commit(world: World, report: Report): boolean {
    const window = windowOf(world);
    if (window === null) return false;
    const { pair, verb } = window;
    const source = volumeAt(pair, VERBS[verb].source ?? sourceOf(directionOf(world, pair)));
    const target = source === MASTER ? proxyOf(pair) : MASTER;
    for (const step of this.#verbSteps) {
      if (step === 'sync-source') world.sync(source);
      if (step === 'sync-target') world.sync(target);
      if (step === 'commit') {
        if (verb === 'swap') world.exchange(MASTER, proxyOf(pair));
        world.saveMetadata(VERBS[verb].spreads ? this.#related(world, MASTER) : [pair]);
        world.closeWindow();
        if (this.#off.has('log-survives')) this.#clearLog(world);
      }
      report(step);
    }
    return true;
  }

  #clearLog(world: World): void {
    for (const r of this.#all) {
      for (let v = 0; v <= this.#proxies; v++) world.heat(v, r, false);
    }
  }

  /**
   * Reads the metadata after a power cut, as far as it does not depend on what blocks hold. Returns
   * the pairs whose tracked block is to be copied from the master.
   */
  recover(world: World): number[] {
    world.loadMetadata();
    const copied: number[] = [];
    for (const pair of this.#related(world, MASTER)) {
      for (const r of this.#all) {
        if (!world.isHot(MASTER, r) && !world.isHot(proxyOf(pair), r)) continue;
        const joined = world.is(pair, JOINED);
        const pending = world.has(pair, r, PENDING);
        const todo = recoverHot(
          { joined, direction: directionOf(world, pair), pending },
          this.#off,
        );
        if (todo === 'pend') world.mark(pair, r, PENDING, true);
        if (todo === 'mark') world.mark(pair, r, CHANGED, true);
        if (todo === 'copy-from-master' && r === 0) copied.push(pair);
      }
    }
    this.#clearLog(world);
    world.saveMetadata(this.#related(world, MASTER));
    return copied;
  }
}
