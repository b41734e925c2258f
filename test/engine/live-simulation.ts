/**
 * Clients that use a class while verbs run, in a world in memory where a seed decides which of all
 * waiting disk operations goes on next, which disk is slow, what fails, and when power fails. Held
 * against a history of every write with the moments at which it was asked for and answered: a snapshot
 * must be the state of one moment within its verb and stay what it was, what was flushed must be there
 * after a cut, whatever is said to be equal must be equal, and between any two steps what is believed
 * equal is.
 */

import assert from 'node:assert';
import { KageError } from '../../src/base/errors.ts';
import {
  type MemoryDisk,
  MemoryHost,
  PowerCut,
  seededRandom,
} from '../../src/device/memory-host.ts';
import type { AttachedVolume, DiskClass, PairInfo, VerbReport } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';
import type { State } from '../../src/engine/state.ts';
import { HASH_STATE_BYTES } from '../../src/kernel/kernel.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { History } from '../support/history.ts';
import { Belief } from './live-belief.ts';
import { Faults } from './live-faults.ts';

const SECTOR = 512;
const REGION = 4096;
const SIZE = 10 * REGION + 700;
const SECTORS = Math.ceil(SIZE / SECTOR);
const PROXIES = ['p1', 'p2', 'p3'] as const;
/** One of them behind a server, as far as the engine can see: it is opened anew after a fault. */
const PATHS: Readonly<Record<string, string>> = {
  m: '/m.img',
  p1: '/p1.img',
  p2: 'nbd://elsewhere/p2',
  p3: '/p3.img',
};
const WRITERS = 3;
/** Sectors in a row that belong to one writer. */
const STRIPE = 3;

/** A slow disk is passed over so often. */
const SLOWNESS = 0.95;

/** A verb under way that makes snapshots, and those there were before it. */
type Taking = {
  readonly names: readonly string[];
  readonly from: number;
  readonly before: readonly (History | undefined)[];
  /** When the pairs got into the state before. */
  readonly since: readonly (number | undefined)[];
};
type Waiting = { readonly disk: MemoryDisk | undefined; readonly go: () => void };

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
  /** Of the master. */
  readonly history = new History([]);
  /** Of the parted proxies: what they were at their moment, and what was written to them since. */
  readonly snapshots = new Map<string, History>();
  readonly waiting: Waiting[] = [];
  readonly #belief: Belief;
  #class!: DiskClass;
  /** What the session believes; undefined while there is none. */
  #state: State | undefined;
  #faults!: Faults;
  #slow: string | undefined;
  /** Proxies that a fault may have made INVALID. */
  readonly #spoiled = new Set<string>();
  #master: AttachedVolume | undefined;
  #clients: Promise<void>[] = [];
  #stopping = false;
  #time = 1;
  #version = 1;

  constructor(seed: number) {
    this.host = new MemoryHost(seed);
    this.random = seededRandom(seed ^ 0x11fe);
    this.#belief = new Belief(this.host);
  }

  async run(rounds: number): Promise<void> {
    for (const name of ['m', ...PROXIES]) {
      const disk = this.host.addDisk(PATHS[name], SIZE);
      const version = this.#version++;
      for (let s = 0; s < SECTORS; s++) disk.write(sectorBytes(s, version), s * SECTOR);
      disk.flush();
      if (name === 'm') this.history.begin(Array.from({ length: SECTORS }, () => version));
    }
    this.#faults = new Faults(this.host, this.random);
    this.#faults.onFire = (where) => this.#fired(where);
    await this.#open();
    await this.#class.add(
      ['m', ...PROXIES].map((name) => ({ path: PATHS[name], name, exclusive: true })),
    );
    this.host.latency = (disk) => new Promise((go) => this.waiting.push({ disk, go }));
    await this.#drive(this.#begin());
    for (let i = 0; i < rounds; i++) await this.#round();
    await this.#rest();
    await this.#drive(this.#class.close());
  }

  async #round(): Promise<void> {
    this.#slow = this.random() < 0.3 ? PATHS[this.#pick(['m', ...PROXIES])] : undefined;
    const fate = this.random();
    const left = fate < 0.25 ? 1 + Math.floor(this.random() * 150) : Number.POSITIVE_INFINITY;
    const fails = fate > 0.75;
    if (fails) this.#note(`will fail: ${this.#faults.plan()}`);
    const verb = this.#verb();
    const alive = await this.#drive(verb, left);
    if (!alive) await this.#ends(verb, true);
    else if (fails) await this.#mend();
    else if (this.random() < 0.2) await this.#quiet();
    else await this.#drive(this.#some(40));
  }

  // Faults

  #fired(where: string): void {
    this.#count('faults');
    this.#note(`fails: ${[...this.#faults.fired].join(', ')}`);
    const { record } = this.#state ?? {};
    const onDisk = (id: number) => {
      const volume = record!.volumes.find((v) => v.id === id)!;
      return where === 'state' || record!.disks.find((d) => d.name === volume.disk)?.path === where;
    };
    if (record === undefined || where === 'state') this.#faults.reachesMaster = true;
    for (const pair of record?.pairs ?? []) {
      if (!onDisk(pair.master) && !onDisk(pair.proxy)) continue;
      this.#spoiled.add(record!.volumes.find((v) => v.id === pair.proxy)!.name);
      // A flush of the master covers what was brought to it.
      if (onDisk(pair.master) || pair.lastVerb.startsWith('restore'))
        this.#faults.reachesMaster = true;
    }
    // A pair may be on its way into the record, or out of it.
    for (const name of PROXIES) if (where === PATHS[name]) this.#spoiled.add(name);
    const master = record?.volumes.find((v) => v.name === 'm');
    if (master && onDisk(master.id)) this.#faults.reachesMaster = true;
  }

  /** The disks work again. What a session cannot forget ends with it. */
  async #mend(): Promise<void> {
    await this.#drive(this.#some(60));
    this.#faults.clear();
    const { fired, lostData } = this.#faults;
    if (fired.size === 0) return;
    await this.#drive(this.#some(20));
    this.#count('mended');
    if (lostData || this.#state?.broken || this.random() < 0.2) {
      // What a failed sync has left in the cache is there no more when the machine comes back.
      await this.#ends(Promise.resolve(), lostData);
      return;
    }
    await this.#drive(this.#pauseClients());
    await this.#master?.close();
    this.#faults.forget();
    await this.#drive(this.#repairMaster());
    await this.#drive(this.#begin());
  }

  /** An INVALID master is restored to the end, or declared good as it is. */
  async #repairMaster(): Promise<void> {
    const isInvalid = async () =>
      (await this.#class.info()).volumes.some((v) => v.name === 'm' && v.status === 'INVALID');
    if (!(await isInvalid())) return;
    this.#count('repairs');
    const { pairs } = await this.#class.info();
    const half = pairs.find((p) => p.direction === 'toMaster' && p.pendingRegions > 0);
    if (half !== undefined) await this.#restoreOn(half.proxy, !half.joined);
    const lost = await isInvalid();
    if (lost) await this.#class.fix('m');
    await this.#class.start(['m']);
    if (lost) this.history.begin(await this.#contentOf('m'));
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
      await this.#look();
      if (ended) break;
      if (steps > left) return false;
      assert(this.waiting.length > 0, 'everybody waits, and nothing is under way');
      this.#next().go();
    }
    if (failure !== undefined) throw failure;
    return true;
  }

  #next(): Waiting {
    const pick = () => Math.floor(this.random() * this.waiting.length);
    let next = pick();
    if (this.#slow === this.waiting[next].disk?.name && this.random() < SLOWNESS) next = pick();
    return this.waiting.splice(next, 1)[0];
  }

  async #look(): Promise<void> {
    if (this.#state === undefined) return;
    this.#belief.lostData = this.#faults.lostData;
    await this.#belief.require(this.#state);
    this.#count('steps');
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
        if (this.random() < 0.15) await this.#flush(master, this.history);
        else if (this.random() < 0.03) await this.#verify();
        else if (this.random() < 0.2) await this.#useSnapshot(own);
        else await this.#write(master, this.history, own);
      } catch (error) {
        // What a machine without power answers is heard by nobody.
        if (this.host.life !== life) return;
        this.#faults.excuse(error, true);
        this.#count('errors');
      }
    }
  }

  /** Beside writers, verbs and copies: nothing differs but what is known to, and no hash is of a mixture. */
  async #verify(): Promise<void> {
    const { life } = this.host;
    const name = this.#pick(PROXIES);
    try {
      const { pairs } = await this.#class.verify([name]);
      const { unexpected, masterHash, proxyHash } = pairs[0];
      // What a sync has failed on may be gone from one of the two.
      if (this.#faults.lostData) return;
      assert.equal(unexpected, 0, `verify ${name}: a difference that is none`);
      for (const [volume, hash] of [
        ['m', masterHash],
        [name, proxyHash],
      ] as const) {
        this.#count(hash === null ? 'moving' : 'hashes');
        if (hash !== null) assert.equal(hash, this.#hashOf(volume), `hash of ${volume}`);
      }
    } catch (error) {
      if (this.host.life !== life) throw error;
      // It is no proxy, or was broken meanwhile; or one of the two disks it reads has failed.
      if (!isCode(error, 'wrong-state')) this.#faults.excuse(error, false);
    }
  }

  #hashOf(volume: string): string {
    const kernel = createKernel('js');
    // A swap gives it another disk.
    const { path } = this.#state!.diskOf(this.#state!.volume(volume));
    const { content } = this.host.disks.get(path)!;
    const [state, data] = [kernel.allocate(HASH_STATE_BYTES), kernel.allocate(SIZE)];
    kernel.bytes(data, SIZE).set(content);
    kernel.hashReset(state);
    kernel.hashUpdate(state, data, SIZE);
    return kernel.hashDigest(state);
  }

  async #pauseClients(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#clients);
  }

  async #write(volume: AttachedVolume, history: History, own: number): Promise<void> {
    const stripes = Math.ceil(SECTORS / STRIPE);
    const stripe = Math.floor(this.random() * (stripes / WRITERS)) * WRITERS + own;
    if (stripe >= stripes) return;
    const first = stripe * STRIPE + Math.floor(this.random() * STRIPE);
    const end = Math.min((stripe + 1) * STRIPE, SECTORS, first + 1 + Math.floor(this.random() * 3));
    if (first >= end) return;
    const version = this.#version++;
    const bytes = versionBytes(first, end - first, version);
    const entries = history.ask(first, end, version, this.#time++);
    const flight = { from: first * SECTOR, to: end * SECTOR };
    this.#belief.flights.add(flight);
    try {
      await volume.write(bytes, first * SECTOR);
    } finally {
      this.#belief.flights.delete(flight);
    }
    for (const entry of entries) entry.answered = this.#time;
    this.#time++;
    this.#count('writes');
    await this.#read(volume, history, first, end);
  }

  /** Nobody else writes these sectors: they must read as they were just written. */
  async #read(volume: AttachedVolume, history: History, first: number, end: number): Promise<void> {
    if (this.random() < 0.7) return;
    const length = Math.min(end * SECTOR, SIZE) - first * SECTOR;
    const into = new Uint8Array(length);
    await volume.read(into, first * SECTOR);
    // What a sync has failed on may be gone from the cache, as whoever flushed was told.
    if (this.#faults.lostData) return;
    for (let s = first; s < end; s++) {
      const version = versionAt(into, s, first);
      assert(history.mayHold(s, version), `${volume.name}: read of ${s}: version ${version}`);
    }
  }

  async #flush(volume: AttachedVolume, history: History): Promise<void> {
    const covered = history.covered();
    await volume.flush();
    history.flush(covered);
    this.#count('flushes');
  }

  /** A client of a parted proxy comes, reads or writes, perhaps flushes, and goes. */
  async #useSnapshot(own: number): Promise<void> {
    const name = this.#pick(PROXIES);
    const snapshot = this.snapshots.get(name);
    if (snapshot === undefined) return;
    const { life } = this.host;
    let volume: AttachedVolume | undefined;
    try {
      volume = await this.#class.attach(name);
      // A verb may have taken it away while this waited for its turn.
      if (this.snapshots.get(name) !== snapshot) return;
      if (this.random() < 0.4) await this.#lookAt(volume, snapshot);
      else await this.#write(volume, snapshot, own);
      if (this.random() < 0.3) await this.#flush(volume, snapshot);
    } catch (error) {
      if (this.host.life !== life) throw error;
      // It became INVALID, or its pair is joined by now.
      if (volume === undefined && isCode(error, 'wrong-state')) return;
      this.#faults.excuse(error, false);
    } finally {
      await volume?.close();
    }
  }

  async #lookAt(volume: AttachedVolume, snapshot: History): Promise<void> {
    const s = Math.floor(this.random() * SECTORS);
    const into = new Uint8Array(Math.min(SECTOR, SIZE - s * SECTOR));
    const oldest = snapshot.oldest(s);
    await volume.read(into, s * SECTOR);
    if (this.#faults.lostData) return;
    const version = versionAt(into, s, s);
    assert(
      snapshot.mayHold(s, version, oldest),
      `snapshot ${volume.name}, sector ${s}: ${version}`,
    );
    this.#count('looks');
  }

  // Verbs

  async #verb(): Promise<void> {
    const name = this.#pick(PROXIES);
    const info = await this.#class.info();
    const pair = info.pairs.find((p) => p.proxy === name);
    const wait = this.random() < 0.4;
    if (pair === undefined) {
      const options = { wait, regionSize: REGION };
      if (this.random() < 0.8) {
        await this.#tell(`join ${name}`, () => this.#class.join('m', name, options));
      } else {
        await this.#tell(`relate ${name}`, () =>
          this.#class.relate('m', name, { regionSize: REGION }),
        );
      }
    } else if (pair.joined) await this.#joined(name, pair, info.pairs, wait);
    else {
      const verb = this.#pick(['rejoin', 'rejoin', 'update', 'restore', 'keep', 'cancel', 'break']);
      await this.#parted(verb, name, wait);
    }
  }

  async #joined(
    name: string,
    pair: PairInfo,
    pairs: readonly PairInfo[],
    wait: boolean,
  ): Promise<void> {
    if (pair.state === 'invalid' && this.random() < 0.7) {
      await this.#tell(`join ${name} again`, () => this.#class.join('m', name, { wait }));
      return;
    }
    if (this.random() < 0.08) {
      await this.#tell(`swap ${name}`, () => this.#class.swap(name));
      return;
    }
    const instant = this.random() < 0.5;
    const joined = pairs.filter((p) => p.joined).map((p) => p.proxy);
    const names = this.random() < 0.3 ? joined : [name];
    await this.#take(`part ${names}${instant ? ' instant' : ''}`, names, () =>
      this.#class.part(names, { instant }),
    );
  }

  async #parted(verb: string, name: string, wait: boolean): Promise<unknown> {
    switch (verb) {
      case 'rejoin':
        return await this.#giveUp(`rejoin ${name}`, name, () =>
          this.#class.rejoin([name], { wait }),
        );
      case 'update': {
        const instant = this.random() < 0.7;
        return await this.#take(`update ${name}`, [name], () =>
          this.#class.update([name], { instant, wait: wait || !instant }),
        );
      }
      case 'cancel':
        // A whole snapshot stays what it is; an unfinished one becomes INVALID.
        return await this.#tell(`cancel ${name}`, () => this.#class.cancel(name));
      case 'break':
        this.#belief.leaving = name;
        await this.#giveUp(`break ${name}`, name, () => this.#class.break(name));
        this.#belief.leaving = undefined;
        return;
      default:
        return await this.#restore(name, verb === 'keep');
    }
  }

  /** The master becomes the snapshot while its clients stay, who hold still until that is committed. */
  async #restore(name: string, keep: boolean): Promise<void> {
    const snapshot = this.snapshots.get(name);
    if (snapshot === undefined) return;
    const { life } = this.host;
    await this.#pauseClients();
    if (this.host.life !== life) throw new PowerCut();
    const content = await this.#contentOf(name).catch((error) => {
      if (this.host.life !== life) throw error;
      if (!isCode(error, 'wrong-state')) this.#faults.excuse(error, false);
    });
    let continued = false;
    this.#restoring = content ? { name, since: this.#sinceOf(name), content } : undefined;
    const done =
      content !== undefined &&
      (await this.#giveUp(`restore ${name}${keep ? ' keep' : ''}`, name, async () => {
        const options = { keep, instant: true, live: true, wait: false };
        continued = continues(await this.#class.restore([name], options));
      }));
    if (this.host.life !== life) throw new PowerCut();
    // Whether a root that could not be synced is there shows when the class is opened again.
    if (!this.#state?.broken) this.#restoring = undefined;
    if (done && !continued) this.history.becomes(content, this.#time++);
    if (keep || !done) this.snapshots.set(name, snapshot);
    this.#stopping = false;
    this.#clients = this.#clientsOf(this.#master!);
  }

  /** A verb after which the proxies are snapshots of a moment within it. */
  async #take(
    what: string,
    names: readonly string[],
    run: () => Promise<VerbReport>,
  ): Promise<void> {
    const { life } = this.host;
    const before = names.map((name) => this.snapshots.get(name));
    for (const name of names) this.snapshots.delete(name);
    const from = this.#time++;
    const since = names.map((name) => this.#sinceOf(name));
    this.#taking = { names, from, before, since };
    let continued = false;
    const done = await this.#tell(what, async () => {
      continued = continues(await run());
    });
    if (this.host.life !== life) throw new PowerCut();
    if (done === false) {
      this.#taking = undefined;
      for (const [i, snapshot] of before.entries()) {
        if (snapshot) this.snapshots.set(names[i], snapshot);
      }
      return;
    }
    const to = this.#time++;
    const contents = new Map<string, number[]>();
    for (const [i, name] of names.entries()) {
      if (done === 'failed' && this.#sinceOf(name) === since[i]) {
        if (before[i]) this.snapshots.set(name, before[i]);
        continue;
      }
      const content = await this.#contentOf(name).catch((error) => {
        if (this.host.life !== life) throw error;
        // It was not parted after all, or is only half there.
        if (done === true) this.#faults.excuse(error, false);
      });
      if (content === undefined) continue;
      this.snapshots.set(name, new History(content));
      // An update that is not finished is continued, at its first moment; what failed left the one before.
      if (this.#isStill(before[i], content)) this.snapshots.set(name, before[i]!);
      else if (!continued) contents.set(name, content);
    }
    this.history.requireOneMoment([...contents.values()], from, to, what);
    // Whether a root that could not be synced is there shows when the class is opened again.
    if (done === true || !this.#state?.broken) this.#taking = undefined;
    this.#count('snapshots');
  }

  #sinceOf(proxy: string): number | undefined {
    const { record } = this.#state!;
    const id = record.volumes.find((v) => v.name === proxy)?.id;
    return record.pairs.find((p) => p.proxy === id)?.since;
  }

  #isStill(snapshot: History | undefined, content: readonly number[]): boolean {
    return snapshot !== undefined && content.every((v, s) => snapshot.mayHold(s, v));
  }

  #taking: Taking | undefined;

  /** A restore of which nobody knows yet whether it was committed. */
  #restoring: { name: string; since: number | undefined; content: readonly number[] } | undefined;

  /** A snapshot that the verb under way gives up, if it comes to its commit. */
  #giving: { name: string; snapshot: History } | undefined;

  /** True when it has come to its commit. */
  async #giveUp(what: string, name: string, run: () => Promise<unknown>): Promise<boolean> {
    const { life } = this.host;
    const snapshot = this.snapshots.get(name);
    this.snapshots.delete(name);
    this.#giving = snapshot && { name, snapshot };
    const done = await this.#tell(what, run);
    if (this.host.life !== life) throw new PowerCut();
    this.#giving = undefined;
    const gone = done === 'failed' ? await this.#wasCommitted(name) : done;
    if (!gone && snapshot) this.snapshots.set(name, snapshot);
    return gone;
  }

  /** Of a verb that has failed: it was committed, and what it copied afterwards failed. */
  async #wasCommitted(name: string): Promise<boolean> {
    if (this.#state?.broken) return false;
    const pair = (await this.#class.info()).pairs.find((p) => p.proxy === name);
    return pair === undefined || pair.joined;
  }

  /** False: refused. */
  async #tell(what: string, run: () => Promise<unknown>): Promise<boolean | 'failed'> {
    const { life } = this.host;
    this.#note(`begin ${what}`);
    try {
      await run();
      this.#note(what);
      this.#count(what.split(' ')[0]);
      return true;
    } catch (error) {
      if (this.host.life !== life) throw error;
      this.#note(`${what}: ${(error as Error).message}`);
      if (isCode(error, 'wrong-state')) return false;
      // A copy that another verb stopped: the verb itself was committed.
      if (isCode(error, 'interrupted')) return true;
      this.#faults.excuse(error, false);
      return 'failed';
    }
  }

  // What must be true

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
    await this.#drive(this.#pauseClients());
    await this.#drive(this.#audit());
  }

  async #audit(): Promise<void> {
    await this.#master?.close();
    this.#master = undefined;
    this.history.requireHeld(await this.#contentOf('m'), 'master');
    for (const pair of (await this.#class.info()).pairs) {
      const snapshot = this.snapshots.get(pair.proxy);
      if (!pair.joined) {
        if (snapshot && pair.state !== 'invalid') {
          snapshot.requireHeld(await this.#contentOf(pair.proxy), pair.proxy);
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
      const content = await this.#contentOf(proxy).catch(() => undefined);
      const report = await this.#class.restore([proxy], { keep, instant: true });
      // It had ended by itself: this was another one.
      if (keep && content && !continues(report)) this.history.becomes(content, this.#time++);
    } catch (error) {
      // It has ended by itself meanwhile.
      if (!isCode(error, 'wrong-state')) throw error;
    }
  }

  /** The session ends where it stands: power fails, or the process is killed. */
  async #ends(verb: Promise<void>, cut: boolean): Promise<void> {
    this.#note(cut ? 'power fails' : 'killed');
    this.#count(cut ? 'cuts' : 'kills');
    const taking = this.#taking;
    this.#taking = undefined;
    if (this.#giving) this.snapshots.set(this.#giving.name, this.#giving.snapshot);
    this.#giving = undefined;
    this.#stopping = true;
    this.#state = undefined;
    if (cut) this.host.cutPower();
    else this.host.killProcesses();
    // Whoever waits finds the disks dead, and ends.
    let ended = false;
    Promise.allSettled([verb, ...this.#clients]).then(() => {
      ended = true;
    });
    let turns = 0;
    while (!ended || this.waiting.length > 0) {
      assert(turns++ < 100_000, 'somebody never ends');
      await new Promise((resolve) => setImmediate(resolve));
      for (const { go } of this.waiting.splice(0)) go();
    }
    this.#failure = undefined;
    this.#belief.forget();
    this.#faults.forget();
    const to = this.#time++;
    await this.#drive(this.#recover(taking, to, cut));
    await this.#drive(this.#begin());
  }

  async #recover(taking: Taking | undefined, to: number, cut: boolean): Promise<void> {
    await this.#open();
    await this.#repairMaster();
    const { pairs } = await this.#class.info();
    for (const pair of pairs) {
      const { proxy, state, joined, direction, pendingRegions, changedRegions } = pair;
      this.#note(
        `  ${proxy} ${state} ${joined} ${direction} pending ${pendingRegions} changed ${changedRegions}`,
      );
      if (this.#restoring?.name === proxy && this.#restoring.since !== pair.since) {
        this.history.becomes(this.#restoring.content, this.#time++);
      }
      await this.#recoverSnapshot(pair, taking, to, cut);
    }
    this.#restoring = undefined;
    const content = await this.#contentOf('m');
    for (const [s, version] of content.entries()) {
      this.history.requireSurvivor(s, version, `master (${this.#onDisks(s)})`);
    }
    if (cut) this.history.begin(content);
    else this.history.observe(content);
  }

  /** A parted proxy is the snapshot it was, or that of the verb that was cut off. */
  async #recoverSnapshot(
    pair: PairInfo,
    taking: Taking | undefined,
    to: number,
    cut: boolean,
  ): Promise<void> {
    const { proxy, state } = pair;
    const at = taking?.names.indexOf(proxy) ?? -1;
    const isNew = at >= 0 && taking!.since[at] !== pair.since;
    const known = this.snapshots.get(proxy) ?? taking?.before[at];
    this.snapshots.delete(proxy);
    if (pair.joined) return;
    // A proxy that was given up half-copied is INVALID in its next pair, too.
    const explained = ['cancel', 'relate'].includes(pair.lastVerb) || this.#spoiled.has(proxy);
    assert(state !== 'invalid' || explained, `${proxy} is INVALID`);
    if (state === 'invalid') return;
    this.#spoiled.delete(proxy);
    const content = await this.#contentOf(proxy).catch((error) => {
      // Nobody may use the target of an update that was not instant.
      if (state !== 'copying' || !isCode(error, 'wrong-state')) throw error;
    });
    if (content === undefined) return;
    if (isNew) {
      this.history.requireOneMoment([content], taking!.from, to, 'the verb that was cut off');
      this.snapshots.set(proxy, new History(content));
    } else if (known) {
      for (const [s, v] of content.entries()) known.requireSurvivor(s, v, proxy);
      if (cut) known.begin(content);
      else known.observe(content);
      this.snapshots.set(proxy, known);
    }
  }

  async #open(): Promise<void> {
    this.#class = await openClass('sim', {
      home: '/home',
      host: this.host,
      kernel: 'js',
      create: true,
      live: true,
      tuning: {
        extentSize: REGION,
        extentsMax: 6,
        pieceSize: 2 * REGION,
        watch: (state) => {
          this.#state = state;
        },
      },
    });
  }

  #onDisks(sector: number): string {
    return ['m', ...PROXIES]
      .map((name) => {
        const at = sector * SECTOR;
        const { content } = this.host.disks.get(PATHS[name])!;
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

function isCode(error: unknown, code: string): boolean {
  return error instanceof KageError && error.code === code;
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
