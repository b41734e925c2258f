/**
 * What a master and its proxies must be after each command, by the tables of DESIGN section 4: a
 * byte array a volume and sets of regions a pair. Knows nothing of disks, order or time; it is told
 * only how far an interrupted copy came.
 */

import assert from 'node:assert';

export const REGION = 4096;
/** Six regions and a bit: no multiple of the region, nor of 512. */
export const SIZE = 6 * REGION + 777;
export const REGIONS = Math.ceil(SIZE / REGION);
export const MASTER = 'm';
export const PROXIES = ['p1', 'p2', 'p3'] as const;

export const VERBS = [
  'join',
  'relate',
  'part',
  'rejoin',
  'restore',
  'restoreKeep',
  'update',
  'swap',
  'cancel',
  'break',
] as const;
export type VerbName = (typeof VERBS)[number];

export type VerbOptions = {
  readonly instant: boolean;
  readonly compare: boolean;
  /** `break --restore`. */
  readonly force: boolean;
};

type Copy = { readonly verb: VerbName; readonly instant: boolean };

export type Volume = {
  /** As a client sees it: pending regions of a target have their source's content. */
  data: Uint8Array;
  invalid: boolean;
  started: boolean;
};

export type PairModel = {
  readonly proxy: string;
  joined: boolean;
  direction: 'toProxy' | 'toMaster';
  changed: Set<number>;
  pending: Set<number>;
  settling: Set<number>;
  doubt: boolean;
  neverSynchronized: boolean;
  copy: Copy | null;
  /** The snapshot that the last part or update made; null when there is none to differ from. */
  snapshot: Uint8Array | null;
  /** Regions that a tool which pulls the increment has to get, while that is frozen. */
  increment: Set<number> | null;
};

/** What a verb does to one pair: takes up an unfinished copy, or the row of the table. */
type Work = {
  readonly pair: PairModel;
  readonly continues: boolean;
  readonly copies: boolean;
  readonly all: boolean;
};

/** What was seen of a verb that was not refused. */
export type Outcome = {
  readonly interrupted: boolean;
  /** Regions that are pending afterwards, by proxy. */
  readonly pending: ReadonlyMap<string, number>;
};

const COPIES_FIRST: readonly VerbName[] = ['part', 'swap'];
const COPYING: readonly VerbName[] = ['rejoin', 'restore', 'restoreKeep', 'update'];

export class Model {
  readonly volumes = new Map<string, Volume>();
  readonly pairs = new Map<string, PairModel>();
  /** Makes every write's bytes different from all before. */
  writes = 0;

  constructor(contents: ReadonlyMap<string, Uint8Array>) {
    for (const [name, data] of contents) {
      this.volumes.set(name, { data: data.slice(), invalid: false, started: true });
    }
  }

  volume(name: string): Volume {
    return this.volumes.get(name)!;
  }

  #targetOf(pair: PairModel): string {
    return pair.direction === 'toProxy' ? pair.proxy : MASTER;
  }

  #siblings(pair: PairModel | undefined): PairModel[] {
    return [...this.pairs.values()].filter((p) => p !== pair);
  }

  #pairsOf(name: string): PairModel[] {
    return [...this.pairs.values()].filter((p) => name === MASTER || p.proxy === name);
  }

  // What may be used

  /** Why a client may not use a volume, or null. */
  unusable(name: string): 'invalid' | 'joined' | 'half' | null {
    if (this.volume(name).invalid) return 'invalid';
    if (this.pairs.get(name)?.joined) return 'joined';
    return this.isHalf(name) ? 'half' : null;
  }

  /** The target of a copy that has not ended and that nobody was promised at once. */
  isHalf(name: string): boolean {
    return this.#pairsOf(name).some(
      (p) => this.#targetOf(p) === name && p.pending.size > 0 && !p.copy?.instant,
    );
  }

  stateOf(pair: PairModel): string {
    if (this.volume(MASTER).invalid || this.volume(pair.proxy).invalid) return 'invalid';
    if (pair.pending.size === 0) return pair.joined ? 'joined' : 'parted';
    if (pair.direction === 'toMaster') return 'restoring';
    return pair.joined ? 'joining' : 'copying';
  }

  // Guards

  refuses(verb: VerbName, proxies: readonly string[], options: VerbOptions): boolean {
    return proxies.some((proxy) => this.#refuses(verb, proxy, options));
  }

  #refuses(verb: VerbName, proxy: string, options: VerbOptions): boolean {
    const pair = this.pairs.get(proxy);
    const siblings = this.#siblings(pair);
    const masterInvalid = this.volume(MASTER).invalid;
    const proxyInvalid = this.volume(proxy).invalid;
    const restoring = siblings.some((s) => s.direction === 'toMaster' && s.pending.size > 0);
    if (pair === undefined) {
      if (verb === 'join') return masterInvalid || restoring;
      return verb !== 'relate';
    }
    const unfinished = pair.pending.size > 0;
    const toMaster = unfinished && pair.direction === 'toMaster';
    const toProxy = unfinished && pair.direction === 'toProxy';
    const badMaster = masterInvalid || restoring;
    switch (verb) {
      case 'join':
        return !pair.joined || !this.#continues(verb, pair) || badMaster;
      case 'relate':
        return true;
      case 'part':
      case 'swap':
        if (!pair.joined || toMaster || masterInvalid || proxyInvalid) return true;
        return restoring && (verb === 'swap' || options.instant || unfinished || pair.doubt);
      case 'rejoin':
        if (pair.joined) return !this.#continues(verb, pair) || badMaster;
        return toMaster || badMaster;
      case 'update':
        return pair.joined || toMaster || badMaster;
      case 'restore':
      case 'restoreKeep': {
        if (this.#continues(verb, pair)) return false;
        if (pair.joined || toProxy || proxyInvalid || pair.neverSynchronized) return true;
        const snapshotting = siblings.some(
          (s) =>
            !s.joined &&
            s.pending.size > 0 &&
            s.direction === 'toProxy' &&
            !this.volume(s.proxy).invalid,
        );
        return restoring || snapshotting;
      }
      case 'cancel':
        return pair.joined;
      case 'break':
        return toMaster && !options.force;
    }
  }

  /** A verb that is run again finishes its own copy. */
  #continues(verb: VerbName, pair: PairModel): boolean {
    const unfinished = pair.pending.size > 0;
    if (!pair.joined) {
      return unfinished && pair.copy?.verb === verb && ['update', 'restoreKeep'].includes(verb);
    }
    if (verb === 'join' || verb === 'rejoin') {
      return (unfinished || pair.doubt) && (pair.direction === 'toProxy' || !unfinished);
    }
    return verb === 'restore' && unfinished && pair.direction === 'toMaster';
  }

  // Effects

  perform(verb: VerbName, proxies: readonly string[], options: VerbOptions, outcome: Outcome) {
    const [first] = proxies;
    if (!this.pairs.has(first)) return this.#create(verb, first, outcome);
    const works = proxies.map((proxy) => this.#plan(verb, this.pairs.get(proxy)!, options));
    const copiesFirst = COPIES_FIRST.includes(verb);
    const copying = new Copying(this, outcome);
    for (const work of works.filter((w) => w.copies && (w.continues || copiesFirst))) {
      settle(work.pair);
      this.#begin(verb, work, options);
      // More is brought to the master now than the siblings were told when the copy began.
      if (work.all && work.pair.direction === 'toMaster') this.#spread(work);
      if (!copying.goesOn(work.pair)) return;
    }
    const rows = works.filter((w) => !w.continues || copiesFirst);
    if (rows.length > 0) for (const pair of this.pairs.values()) settle(pair);
    for (const work of rows) this.#row(verb, work, options);
    for (const work of rows.filter((w) => w.copies && !copiesFirst)) {
      if (!copying.goesOn(work.pair)) return;
    }
    assert.ok(!outcome.interrupted, 'interrupted, and nothing is left to do');
  }

  #plan(verb: VerbName, pair: PairModel, options: VerbOptions): Work {
    const continues = this.#continues(verb, pair);
    const needed = COPIES_FIRST.includes(verb) && (pair.pending.size > 0 || pair.doubt);
    // Run again on a parted pair, only the rest of the copy is compared: clients may have written.
    const compares = options.compare && (pair.joined || !continues);
    return {
      pair,
      continues,
      copies: continues || needed || COPYING.includes(verb),
      all: pair.doubt || compares,
    };
  }

  #create(verb: VerbName, proxy: string, outcome: Outcome): void {
    const joins = verb === 'join';
    const pair: PairModel = {
      proxy,
      joined: joins,
      direction: 'toProxy',
      changed: joins ? new Set() : everything(),
      pending: joins ? everything() : new Set(),
      settling: new Set(),
      doubt: !joins,
      neverSynchronized: !joins,
      copy: joins ? { verb, instant: false } : null,
      snapshot: null,
      increment: null,
    };
    this.pairs.set(proxy, pair);
    if (!joins) return;
    Object.assign(this.volume(proxy), { invalid: false, started: false });
    new Copying(this, outcome).goesOn(pair);
  }

  /** A copy begins or goes on: what it looks at, and who may use its target. */
  #begin(verb: VerbName, { pair, all, continues }: Work, options: VerbOptions): void {
    if (all) {
      pair.pending = everything();
      pair.doubt = false;
      pair.neverSynchronized = false;
    }
    const instant = options.instant || (continues && (pair.copy?.instant ?? false));
    pair.copy = { verb, instant };
    this.volume(this.#targetOf(pair)).invalid = false;
    if (pair.joined) this.volume(pair.proxy).started = false;
  }

  #row(verb: VerbName, work: Work, options: VerbOptions): void {
    const { pair } = work;
    if ((verb === 'cancel' || verb === 'break') && pair.pending.size > 0) {
      for (const region of pair.pending) pair.changed.add(region);
      pair.pending.clear();
      Object.assign(this.volume(this.#targetOf(pair)), { invalid: true, started: false });
      pair.copy = null;
      pair.direction = 'toProxy';
    }
    if (verb === 'break') this.pairs.delete(pair.proxy);
    if (COPYING.includes(verb)) {
      for (const region of pair.changed) pair.pending.add(region);
      pair.joined = verb === 'rejoin' || verb === 'restore';
      pair.direction = verb.startsWith('restore') ? 'toMaster' : 'toProxy';
      pair.changed.clear();
      this.#begin(verb, work, options);
    }
    this.#content(verb, pair);
    if (verb.startsWith('restore')) this.#spread(work);
  }

  /** From the commit of its verb on, a target has its source's content. */
  #content(verb: VerbName, pair: PairModel): void {
    const master = this.volume(MASTER);
    const proxy = this.volume(pair.proxy);
    if (verb === 'part') {
      pair.joined = false;
      pair.changed.clear();
      proxy.started = true;
    }
    if (verb === 'part' || verb === 'update') {
      proxy.data = master.data.slice();
      pair.increment = pair.snapshot ? regionsThatDiffer(pair.snapshot, proxy.data) : null;
      pair.snapshot = proxy.data.slice();
    }
    if (verb === 'rejoin' || verb === 'restore') {
      pair.increment = null;
      proxy.started = false;
    }
    if (verb.startsWith('restore')) master.data = proxy.data.slice();
  }

  /** The regions that a restore brings to the master are no news to it, but to its other proxies. */
  #spread({ pair, all }: Work): void {
    for (const sibling of this.#siblings(pair)) {
      const map = sibling.joined ? sibling.pending : sibling.changed;
      for (const region of pair.pending) map.add(region);
      if (sibling.joined) sibling.direction = 'toProxy';
      if (all) sibling.doubt = true;
      else if (sibling.joined) sibling.copy ??= { verb: 'restore', instant: false };
    }
  }

  /** The copy of a pair has ended: the two are equal, or one is the other's snapshot. */
  finish(pair: PairModel): void {
    const master = this.volume(MASTER);
    const proxy = this.volume(pair.proxy);
    if (pair.joined) {
      if (pair.direction === 'toMaster') assert.deepEqual(master.data, proxy.data, 'the model');
      proxy.data = master.data.slice();
    }
    pair.pending.clear();
    pair.settling.clear();
    pair.copy = null;
    pair.direction = 'toProxy';
  }

  // Clients

  write(name: string, offset: number, bytes: Uint8Array): void {
    this.volume(name).data.set(bytes, offset);
    for (let at = 0; at < bytes.byteLength; ) {
      const region = Math.floor((offset + at) / REGION);
      const end = Math.min(bytes.byteLength, (region + 1) * REGION - offset);
      const piece = bytes.subarray(at, end);
      for (const pair of this.#pairsOf(name)) {
        this.#writeRegion(pair, name, region, piece, offset + at);
      }
      at = end;
    }
  }

  #writeRegion(
    pair: PairModel,
    name: string,
    region: number,
    piece: Uint8Array,
    offset: number,
  ): void {
    const isTarget = this.#targetOf(pair) === name;
    const pending = pair.pending.has(region) && !pair.settling.has(region);
    if (pair.joined && pending && !isTarget) return; // The copier will bring it.
    if (pair.joined) this.volume(pair.proxy).data.set(piece, offset);
    else pair.changed.add(region);
    if (isTarget && pending) pair.settling.add(region);
    else if (!pair.joined && pending) pair.pending.delete(region);
    else if (!pair.joined && !isTarget && pair.settling.has(region)) settle(pair);
  }

  /** Makes durable what clients filled. */
  flush(name: string): void {
    for (const pair of this.#pairsOf(name)) if (this.#targetOf(pair) === name) settle(pair);
  }

  close(): void {
    for (const pair of this.pairs.values()) settle(pair);
  }
}

/** Walks over the copies of one verb: those that ended, and the one that was interrupted. */
class Copying {
  readonly #model: Model;
  readonly #outcome: Outcome;

  constructor(model: Model, outcome: Outcome) {
    this.#model = model;
    this.#outcome = outcome;
  }

  /** False when the copy of this pair was interrupted: its last regions are still pending. */
  goesOn(pair: PairModel): boolean {
    const left = this.#outcome.pending.get(pair.proxy) ?? 0;
    if (!this.#outcome.interrupted || left === 0) {
      this.#model.finish(pair);
      return true;
    }
    assert.ok(left <= pair.pending.size, `${left} regions pending of ${pair.pending.size}`);
    const regions = [...pair.pending].sort((a, b) => a - b);
    pair.pending = new Set(regions.slice(regions.length - left));
    pair.settling.clear();
    return false;
  }
}

function settle(pair: PairModel): void {
  for (const region of pair.settling) pair.pending.delete(region);
  pair.settling.clear();
}

function everything(): Set<number> {
  return new Set(Array.from({ length: REGIONS }, (_, region) => region));
}

export function regionsThatDiffer(a: Uint8Array, b: Uint8Array): Set<number> {
  const differing = new Set<number>();
  for (let region = 0; region < REGIONS; region++) {
    const [begin, end] = [region * REGION, (region + 1) * REGION];
    if (Buffer.compare(a.subarray(begin, end), b.subarray(begin, end)) !== 0) differing.add(region);
  }
  return differing;
}
