/**
 * Clients that use a class while verbs run, in a world in memory where a seed decides which of all
 * waiting disk operations goes on next, and when power fails. Held against a history of every write with
 * the moments at which it was asked for and answered: a snapshot must be the state of one moment within
 * its verb and stay what it was, what was flushed must be there after a cut, and whatever is said to be
 * equal must be equal.
 */

import assert from 'node:assert';
import { isDeepStrictEqual } from 'node:util';
import { KageError } from '../../src/base/errors.ts';
import { MemoryHost, PowerCut, seededRandom } from '../../src/device/memory-host.ts';
import type { AttachedVolume, DiskClass, VerbReport } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';
import { HASH_STATE_BYTES } from '../../src/kernel/kernel.ts';
import { createKernel } from '../../src/kernel/select.ts';

const SECTOR = 512;
const REGION = 4096;
const SIZE = 10 * REGION + 700;
const SECTORS = Math.ceil(SIZE / SECTOR);
const PROXIES = ['p1', 'p2'] as const;
const WRITERS = 3;
/** Sectors in a row that belong to one writer. */
const STRIPE = 3;

/** A write of one sector: asked for and answered at these moments (Infinity: not yet). */
type Entry = { version: number; asked: number; answered: number };
type Snapshot = { content: number[] };
/** A verb under way that makes snapshots, and those there were before it. */
type Taking = { names: readonly string[]; from: number; before: (Snapshot | undefined)[] };

export type LiveCounts = Record<string, number>;

export async function simulateLive(seed: number, rounds: number): Promise<LiveCounts> {
  const simulation = new LiveSimulation(seed);
  try {
    await simulation.run(rounds);
    return simulation.counts;
  } catch (error) {
    const text = error instanceof Error ? error.stack : String(error);
    throw new Error(`seed ${seed}: ${text}\n  ${simulation.trace.slice(-50).join('\n  ')}`);
  }
}

class LiveSimulation {
  readonly host: MemoryHost;
  readonly random: () => number;
  readonly trace: string[] = [];
  readonly counts: LiveCounts = {};
  /** Of the master, by sector, in the order of the requests. */
  readonly history: Entry[][] = [];
  /** By sector: the last entry that a completed flush covers. */
  readonly flushed: number[] = [];
  readonly snapshots = new Map<string, Snapshot>();
  readonly waiting: (() => void)[] = [];
  #class!: DiskClass;
  #master: AttachedVolume | undefined;
  #clients: Promise<void>[] = [];
  #stopping = false;
  #time = 1;
  #version = 1;

  constructor(seed: number) {
    this.host = new MemoryHost(seed);
    this.random = seededRandom(seed ^ 0x11fe);
  }

  async run(rounds: number): Promise<void> {
    for (const name of ['m', ...PROXIES]) {
      const disk = this.host.addDisk(`/${name}.img`, SIZE);
      const version = this.#version++;
      for (let s = 0; s < SECTORS; s++) disk.write(sectorBytes(s, version), s * SECTOR);
      disk.flush();
      if (name !== 'm') continue;
      for (let s = 0; s < SECTORS; s++) this.history[s] = [{ version, asked: 0, answered: 0 }];
    }
    this.flushed.push(...Array.from({ length: SECTORS }, () => 0));
    await this.#open();
    await this.#class.add(
      ['m', ...PROXIES].map((name) => ({ path: `/${name}.img`, name, exclusive: true })),
    );
    this.host.latency = () => new Promise((resolve) => this.waiting.push(resolve));
    await this.#drive(this.#begin());
    for (let i = 0; i < rounds; i++) await this.#round();
    await this.#rest();
    await this.#drive(this.#class.close());
  }

  async #round(): Promise<void> {
    const cut = this.random() < 0.25;
    const left = cut ? 1 + Math.floor(this.random() * 150) : Number.POSITIVE_INFINITY;
    const verb = this.#verb();
    const alive = await this.#drive(verb, left);
    if (!alive) await this.#powerFails(verb);
    else if (this.random() < 0.2) await this.#quiet();
    else await this.#drive(this.#some(40));
  }

  // Who goes on

  /** Lets one operation after the other go on until `work` has ended. False: power fails first. */
  async #drive(work: Promise<unknown>, left = Number.POSITIVE_INFINITY): Promise<boolean> {
    let ended = false;
    let failure: unknown;
    work.then(
      () => {
        ended = true;
      },
      (error) => {
        ended = true;
        failure = error;
      },
    );
    for (let steps = 0; ; steps++) {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#failure !== undefined) throw this.#failure;
      if (ended) break;
      if (steps > left) return false;
      const next = Math.floor(this.random() * this.waiting.length);
      const [go] = this.waiting.splice(next, 1);
      assert(go, 'everybody waits, and nothing is under way');
      go();
    }
    if (failure !== undefined) throw failure;
    return true;
  }

  /** A few operations of the clients. */
  async #some(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.host.latency!();
  }

  // Clients

  async #begin(): Promise<void> {
    this.#stopping = false;
    const master = await this.#class.attach('m');
    this.#master = master;
    this.#clients = this.#clientsOf(master);
  }

  #clientsOf(master: AttachedVolume): Promise<void>[] {
    return Array.from({ length: WRITERS }, (_, i) => {
      const client = this.#client(master, i);
      client.catch((error) => {
        this.#failure ??= error;
      });
      return client;
    });
  }

  #failure: unknown;

  async #client(master: AttachedVolume, own: number): Promise<void> {
    const { life } = this.host;
    while (!this.#stopping) {
      await this.host.latency!();
      try {
        if (this.random() < 0.15) await this.#flush(master);
        else if (this.random() < 0.03) await this.#verify();
        else if (this.random() < 0.2) await this.#lookAtSnapshot();
        else await this.#write(master, own);
      } catch (error) {
        // What a machine without power answers is heard by nobody.
        if (this.host.life !== life) return;
        throw error;
      }
    }
  }

  async #write(master: AttachedVolume, own: number): Promise<void> {
    const stripes = Math.ceil(SECTORS / STRIPE);
    const stripe = Math.floor(this.random() * (stripes / WRITERS)) * WRITERS + own;
    if (stripe >= stripes) return;
    const first = stripe * STRIPE + Math.floor(this.random() * STRIPE);
    const end = Math.min((stripe + 1) * STRIPE, SECTORS, first + 1 + Math.floor(this.random() * 3));
    if (first >= end) return;
    const version = this.#version++;
    const bytes = versionBytes(first, end - first, version);
    const entries: Entry[] = [];
    for (let s = first; s < end; s++) {
      const entry = { version, asked: this.#time, answered: Number.POSITIVE_INFINITY };
      this.history[s].push(entry);
      entries.push(entry);
    }
    this.#time++;
    await master.write(bytes, first * SECTOR);
    for (const entry of entries) entry.answered = this.#time;
    this.#time++;
    this.#count('writes');
    await this.#read(master, first, end);
  }

  /** Nobody else writes these sectors: they must read as they were just written. */
  async #read(master: AttachedVolume, first: number, end: number): Promise<void> {
    if (this.random() < 0.7) return;
    const length = Math.min(end * SECTOR, SIZE) - first * SECTOR;
    const into = new Uint8Array(length);
    await master.read(into, first * SECTOR);
    for (let s = first; s < end; s++) {
      assert.equal(versionAt(into, s, first), this.history[s].at(-1)!.version, `read of ${s}`);
    }
  }

  async #flush(master: AttachedVolume): Promise<void> {
    const covered = this.history.map((entries) => lastAnswered(entries));
    await master.flush();
    for (const [s, index] of covered.entries()) {
      this.flushed[s] = Math.max(this.flushed[s], index);
    }
    this.#count('flushes');
  }

  async #lookAtSnapshot(): Promise<void> {
    const name = this.#pick(PROXIES);
    const snapshot = this.snapshots.get(name);
    if (snapshot === undefined) return;
    let volume: AttachedVolume;
    try {
      volume = await this.#class.attach(name, { readOnly: true });
    } catch (error) {
      if (error instanceof KageError && error.code === 'wrong-state') return;
      throw error;
    }
    try {
      // A verb may have taken it away while this waited for its turn.
      if (this.snapshots.get(name) !== snapshot) return;
      const s = Math.floor(this.random() * SECTORS);
      const into = new Uint8Array(Math.min(SECTOR, SIZE - s * SECTOR));
      await volume.read(into, s * SECTOR);
      assert.equal(versionAt(into, s, s), snapshot.content[s], `snapshot ${name}, sector ${s}`);
      this.#count('looks');
    } finally {
      await volume.close();
    }
  }

  /** Beside writers, verbs and copies: nothing differs but what is known to, and no hash is of a mixture. */
  async #verify(): Promise<void> {
    const name = this.#pick(PROXIES);
    try {
      const { pairs } = await this.#class.verify([name]);
      const { unexpected, masterHash, proxyHash } = pairs[0];
      assert.equal(unexpected, 0, `verify ${name}: a difference that is none`);
      for (const [disk, hash] of [
        ['m', masterHash],
        [name, proxyHash],
      ]) {
        this.#count(hash === null ? 'moving' : 'hashes');
        if (hash !== null) assert.equal(hash, this.#hashOf(`/${disk}.img`), `hash of ${disk}`);
      }
    } catch (error) {
      // It is no proxy, or was broken meanwhile.
      if (!(error instanceof KageError && error.code === 'wrong-state')) throw error;
    }
  }

  #hashOf(disk: string): string {
    const kernel = createKernel('js');
    const { content } = this.host.disks.get(disk)!;
    const [state, data] = [kernel.allocate(HASH_STATE_BYTES), kernel.allocate(SIZE)];
    kernel.bytes(data, SIZE).set(content);
    kernel.hashReset(state);
    kernel.hashUpdate(state, data, SIZE);
    return kernel.hashDigest(state);
  }

  // Verbs

  async #verb(): Promise<void> {
    const name = this.#pick(PROXIES);
    const info = await this.#class.info();
    const pair = info.pairs.find((p) => p.proxy === name);
    const wait = this.random() < 0.4;
    if (pair === undefined) {
      await this.#tell(`join ${name}`, () =>
        this.#class.join('m', name, { wait, regionSize: REGION }),
      );
    } else if (pair.joined) {
      const instant = this.random() < 0.5;
      const both = this.random() < 0.3 && info.pairs.every((p) => p.joined);
      const names = both && info.pairs.length > 1 ? [...PROXIES] : [name];
      await this.#take(`part ${names}${instant ? ' instant' : ''}`, names, () =>
        this.#class.part(names, { instant }),
      );
    } else {
      const verb = this.#pick(['rejoin', 'rejoin', 'update', 'restore', 'keep', 'cancel', 'break']);
      await this.#parted(verb, name, wait);
    }
  }

  async #parted(verb: string, name: string, wait: boolean): Promise<unknown> {
    switch (verb) {
      case 'rejoin':
        return await this.#giveUp(`rejoin ${name}`, name, () =>
          this.#class.rejoin([name], { wait }),
        );
      case 'update':
        return await this.#take(`update ${name}`, [name], () =>
          this.#class.update([name], { instant: true, wait }),
        );
      case 'cancel':
        // A whole snapshot stays what it is; an unfinished one becomes INVALID.
        return await this.#tell(`cancel ${name}`, () => this.#class.cancel(name));
      case 'break':
        return await this.#giveUp(`break ${name}`, name, () => this.#class.break(name));
      default:
        return await this.#restore(name, verb === 'keep');
    }
  }

  /** The master becomes the snapshot while its clients stay, who hold still until that is committed. */
  async #restore(name: string, keep: boolean): Promise<void> {
    const snapshot = this.snapshots.get(name);
    if (snapshot === undefined) return;
    const { life } = this.host;
    this.#stopping = true;
    await Promise.all(this.#clients);
    if (this.host.life !== life) throw new PowerCut();
    let continued = false;
    const done = await this.#giveUp(`restore ${name}${keep ? ' keep' : ''}`, name, async () => {
      const options = { keep, instant: true, live: true, wait: false };
      continued = continues(await this.#class.restore([name], options));
    });
    if (this.host.life !== life) throw new PowerCut();
    if (done && !continued) this.#becomes(snapshot);
    if (keep || !done) this.snapshots.set(name, snapshot);
    this.#stopping = false;
    this.#clients = this.#clientsOf(this.#master!);
  }

  /** The master's content is that of a snapshot, and nothing from before can come back. */
  #becomes({ content }: Snapshot): void {
    for (const [s, entries] of this.history.entries()) {
      entries.push({ version: content[s], asked: this.#time, answered: this.#time });
      this.flushed[s] = entries.length - 1;
    }
    this.#time++;
  }

  /** A verb after which the proxies are snapshots of a moment within it. */
  async #take(what: string, names: readonly string[], run: () => Promise<unknown>): Promise<void> {
    const before = names.map((name) => this.snapshots.get(name));
    for (const name of names) this.snapshots.delete(name);
    const from = this.#time++;
    this.#taking = { names, from, before };
    const done = await this.#tell(what, run);
    if (!done) {
      this.#taking = undefined;
      for (const [i, snapshot] of before.entries()) {
        if (snapshot) this.snapshots.set(names[i], snapshot);
      }
      return;
    }
    const to = this.#time++;
    const content = await Promise.all(names.map((name) => this.#contentOf(name)));
    // An update that is not finished is continued, at its first moment.
    const continued = names.length === 1 && isDeepStrictEqual(content[0], before[0]?.content);
    if (!continued) this.#requireOneMoment(content, from, to, what);
    for (const [i, name] of names.entries()) this.snapshots.set(name, { content: content[i] });
    this.#taking = undefined;
    this.#count('snapshots');
  }

  #taking: Taking | undefined;

  /** A snapshot that the verb under way gives up, if it comes to its commit. */
  #giving: { name: string; snapshot: Snapshot } | undefined;

  async #giveUp(what: string, name: string, run: () => Promise<unknown>): Promise<boolean> {
    const snapshot = this.snapshots.get(name);
    this.snapshots.delete(name);
    this.#giving = snapshot && { name, snapshot };
    const done = await this.#tell(what, run);
    this.#giving = undefined;
    if (!done && snapshot) this.snapshots.set(name, snapshot);
    return done;
  }

  /** False: refused. */
  async #tell(what: string, run: () => Promise<unknown>): Promise<boolean> {
    this.#note(`begin ${what}`);
    try {
      await run();
      this.#note(what);
      this.#count(what.split(' ')[0]);
      return true;
    } catch (error) {
      if (error instanceof KageError && ['wrong-state', 'interrupted'].includes(error.code)) {
        this.#note(`${what}: ${error.message}`);
        // A copy that another verb stopped: the verb itself was committed.
        return error.code === 'interrupted';
      }
      throw error;
    }
  }

  // What must be true

  /** All sectors of all snapshots show the master at one moment in (from, to). */
  #requireOneMoment(content: readonly number[][], from: number, to: number, what: string): void {
    let after = from;
    let before = to;
    for (const one of content) {
      for (const [s, version] of one.entries()) {
        const entries = this.history[s];
        const index = entries.findLastIndex((entry) => entry.version === version);
        assert(index >= 0, `${what}: sector ${s} holds version ${version}, which nobody wrote`);
        const next = entries[index + 1]?.answered ?? Number.POSITIVE_INFINITY;
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

  async #contentOf(name: string): Promise<number[]> {
    // A proxy that was INVALID is not started by the update that makes it good again.
    await this.#class.start([name]);
    const volume = await this.#class.attach(name, { readOnly: true });
    const into = new Uint8Array(SIZE);
    await volume.read(into, 0);
    await volume.close();
    return Array.from({ length: SECTORS }, (_, s) => versionAt(into, s, 0));
  }

  /** Clients rest, all copies end: what is joined is equal, what is parted is what it was. */
  async #quiet(): Promise<void> {
    await this.#rest();
    await this.#drive(this.#begin());
    this.#count('audits');
  }

  async #rest(): Promise<void> {
    this.#stopping = true;
    await this.#drive(Promise.all(this.#clients));
    await this.#drive(this.#audit());
  }

  async #audit(): Promise<void> {
    await this.#master?.close();
    this.#master = undefined;
    const content = await this.#contentOf('m');
    for (const [s, version] of content.entries()) {
      assert.equal(version, this.history[s].at(-1)!.version, `master, sector ${s}`);
    }
    for (const pair of (await this.#class.info()).pairs) {
      const snapshot = this.snapshots.get(pair.proxy);
      if (!pair.joined) {
        if (snapshot && pair.state !== 'invalid') {
          assert.deepEqual(await this.#contentOf(pair.proxy), snapshot.content, pair.proxy);
        }
        continue;
      }
      await this.#finish(pair.proxy, pair.direction);
      const report = await this.#class.verify([pair.proxy]);
      assert.equal(report.pairs[0].differing, 0, `joined ${pair.proxy} differs`);
    }
    for (const pair of (await this.#class.info()).pairs) {
      if (pair.joined || pair.state === 'copying' || pair.state === 'restoring') continue;
      const report = await this.#class.verify([pair.proxy]);
      assert.equal(
        report.pairs[0].unexpected,
        0,
        `parted ${pair.proxy}: believed equal, and is not`,
      );
    }
  }

  /** Ends what is being copied for a joined pair, whether somebody does or not. */
  async #finish(proxy: string, direction: string): Promise<void> {
    for (let tries = 0; tries < 20; tries++) {
      const pair = (await this.#class.info()).pairs.find((p) => p.proxy === proxy)!;
      if (pair.state === 'joined') return;
      try {
        if (direction === 'toMaster') await this.#class.restore([proxy], { instant: true });
        else await this.#class.join('m', proxy);
      } catch (error) {
        if (!(error instanceof KageError) || error.code !== 'wrong-state') throw error;
        // Another pair has to end first.
        for (const other of (await this.#class.info()).pairs) {
          if (other.state === 'restoring') await this.#restoreOn(other.proxy, !other.joined);
        }
      }
    }
    assert.fail(`${proxy} does not become equal`);
  }

  async #restoreOn(proxy: string, keep: boolean): Promise<void> {
    try {
      const report = await this.#class.restore([proxy], { keep, instant: true });
      // It had ended by itself: this was another one.
      const snapshot = this.snapshots.get(proxy);
      if (keep && snapshot && !continues(report)) this.#becomes(snapshot);
    } catch (error) {
      // It has ended by itself meanwhile.
      if (!(error instanceof KageError) || error.code !== 'wrong-state') throw error;
    }
  }

  async #powerFails(verb: Promise<void>): Promise<void> {
    this.#note('power fails');
    this.#count('cuts');
    const taking = this.#taking;
    this.#taking = undefined;
    if (this.#giving) this.snapshots.set(this.#giving.name, this.#giving.snapshot);
    this.#giving = undefined;
    this.#stopping = true;
    this.host.cutPower();
    // Whoever waits finds the disks dead, and ends.
    let ended = false;
    Promise.allSettled([verb, ...this.#clients]).then(() => {
      ended = true;
    });
    while (!ended || this.waiting.length > 0) {
      await new Promise((resolve) => setImmediate(resolve));
      for (const go of this.waiting.splice(0)) go();
    }
    this.#failure = undefined;
    const to = this.#time++;
    await this.#drive(this.#recover(taking, to));
    await this.#drive(this.#begin());
  }

  async #recover(taking: Taking | undefined, to: number): Promise<void> {
    await this.#open();
    const { pairs } = await this.#class.info();
    for (const pair of pairs) {
      const known = this.snapshots.get(pair.proxy);
      if (pair.joined || pair.state === 'restoring') {
        if (pair.joined) this.snapshots.delete(pair.proxy);
        continue;
      }
      assert(pair.state !== 'invalid' || pair.lastVerb === 'cancel', `${pair.proxy} is INVALID`);
      if (pair.state === 'invalid') continue;
      const content = await this.#contentOf(pair.proxy);
      if (known) assert.deepEqual(content, known.content, `snapshot ${pair.proxy} after the cut`);
      else if (taking?.names.includes(pair.proxy)) {
        const old = taking.before[taking.names.indexOf(pair.proxy)];
        // An update that was not committed leaves the snapshot before it.
        const same = old !== undefined && isDeepStrictEqual(content, old.content);
        if (!same) {
          this.#requireOneMoment([content], taking.from, to, 'the verb that power cut off');
        }
        this.snapshots.set(pair.proxy, { content });
      }
    }
    for (const { proxy, state, joined, direction, pendingRegions, changedRegions } of pairs) {
      this.#note(
        `  ${proxy} ${state} ${joined} ${direction} pending ${pendingRegions} changed ${changedRegions}`,
      );
    }
    const content = await this.#contentOf('m');
    for (const [s, version] of content.entries()) {
      const index = this.history[s].findLastIndex((entry) => entry.version === version);
      assert(
        index >= this.flushed[s],
        `master, sector ${s}: ${this.#onDisks(s)} version ${version} is older than what was flushed: ` +
          JSON.stringify(this.history[s].slice(this.flushed[s])),
      );
      this.history[s] = [{ version, asked: 0, answered: 0 }];
      this.flushed[s] = 0;
    }
  }

  async #open(): Promise<void> {
    this.#class = await openClass('sim', {
      home: '/home',
      host: this.host,
      kernel: 'js',
      create: true,
      live: true,
      tuning: { extentSize: REGION, extentsMax: 6, pieceSize: 2 * REGION },
    });
  }

  #onDisks(sector: number): string {
    return ['m', ...PROXIES]
      .map((name) => {
        const at = sector * SECTOR;
        const { content } = this.host.disks.get(`/${name}.img`)!;
        return `${name} ${versionAt(content.slice(at, at + SECTOR), sector, sector)}`;
      })
      .join(', ');
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.random() * from.length)];
  }

  #note(text: string): void {
    this.trace.push(`${this.#time} ${text}`);
  }

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }
}

/** The moment of the first run stands, and so does what clients wrote since. */
function continues(report: VerbReport): boolean {
  return report.pairs[0].notes.some((note) => note.includes('finishes what was begun'));
}

function lastAnswered(entries: readonly Entry[]): number {
  return entries.findLastIndex((entry) => entry.answered !== Number.POSITIVE_INFINITY);
}

function sectorBytes(sector: number, version: number): Uint8Array {
  const bytes = new Uint8Array(Math.min(SECTOR, SIZE - sector * SECTOR));
  const data = new DataView(bytes.buffer);
  for (let at = 0; at + 8 <= bytes.byteLength; at += 8) {
    data.setUint32(at, sector);
    data.setUint32(at + 4, version);
  }
  return bytes;
}

function versionBytes(first: number, count: number, version: number): Uint8Array {
  const parts = Array.from({ length: count }, (_, i) => sectorBytes(first + i, version));
  return Buffer.concat(parts);
}

/** The version of a sector, which must be whole. `first`: the sector at the begin of `bytes`. */
function versionAt(bytes: Uint8Array, sector: number, first: number): number {
  const at = (sector - first) * SECTOR;
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = data.getUint32(at + 4);
  const length = Math.min(SECTOR, SIZE - sector * SECTOR);
  for (let i = 0; i + 8 <= length; i += 8) {
    assert.equal(data.getUint32(at + i), sector, `a piece of sector ${sector}`);
    assert.equal(data.getUint32(at + i + 4), version, `sector ${sector} is torn`);
  }
  return version;
}
