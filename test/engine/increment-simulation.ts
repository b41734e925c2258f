/**
 * A backup that is one full copy and then only increments, pulled after each part or update of a proxy, in
 * a world in memory where a seed decides what happens between and in which order disk operations go on:
 * clients of the master and of the proxy, verbs of two proxies, copies that are stopped, disks that fail,
 * strangers, kills and power cuts. Each time the backup must be exactly what the proxy holds.
 */

import assert from 'node:assert';
import { KageError } from '../../src/base/errors.ts';
import { MemoryHost, PowerCut, seededRandom } from '../../src/device/memory-host.ts';
import type { AttachedVolume, CopyOptions, DiskClass, PairInfo } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';

const REGION = 4096;
/** No multiple of the region. */
const SIZE = 12 * REGION + 700;
const WRITERS = 2;

export type IncrementCounts = Record<string, number>;

/** `cuts`: power fails and nobody else writes; `strangers`: others write, and processes are killed. */
export type IncrementMode = 'cuts' | 'strangers';

export async function simulateIncrements(
  seed: number,
  mode: IncrementMode,
  rounds: number,
): Promise<IncrementCounts> {
  const simulation = new Simulation(seed, mode);
  try {
    await simulation.run(rounds);
    return simulation.counts;
  } catch (error) {
    const text = error instanceof Error ? error.stack : String(error);
    throw new Error(`seed ${seed} ${mode}: ${text}\n  ${simulation.trace.slice(-40).join('\n  ')}`);
  }
}

class Simulation {
  readonly mode: IncrementMode;
  readonly host: MemoryHost;
  readonly random: () => number;
  readonly trace: string[] = [];
  readonly counts: IncrementCounts = {};
  readonly waiting: (() => void)[] = [];
  #class!: DiskClass;
  #clients: Promise<void>[] = [];
  #stopping = false;
  /** A disk has failed since the class was opened. */
  #failed = false;
  #backup: Uint8Array | undefined;
  /** The snapshot that the proxy is, by its time, and whether the backup has it. */
  #snapshot = { since: 0, pulled: true };

  constructor(seed: number, mode: IncrementMode) {
    this.mode = mode;
    this.host = new MemoryHost(seed);
    this.random = seededRandom(seed ^ 0x1c4e);
  }

  async run(rounds: number): Promise<void> {
    for (const name of ['m', 'p', 'q']) {
      const disk = this.host.addDisk(`/${name}.img`, SIZE);
      disk.write(this.#bytes(SIZE), 0);
      disk.flush();
    }
    await this.#open();
    const exclusive = this.mode === 'cuts';
    await this.#class.add(
      ['m', 'p', 'q'].map((name) => ({ path: `/${name}.img`, name, exclusive })),
    );
    await this.#class.join('m', 'p', { regionSize: REGION });
    await this.#class.join('m', 'q', { regionSize: REGION });
    this.host.latency = () => new Promise((resolve) => this.waiting.push(resolve));
    this.#begin();
    for (let i = 0; i < rounds; i++) await this.#round();
    await this.#drive(this.#rest());
    await this.#drive(this.#class.close().catch(ignore));
  }

  async #round(): Promise<void> {
    const stops = this.random() < 0.15;
    const left = stops ? 1 + Math.floor(this.random() * 150) : Number.POSITIVE_INFINITY;
    const work = this.#event();
    if (!(await this.#drive(work, left))) return await this.#worldStops(work);
    await this.#drive(this.#notice());
    const chance = this.random();
    if (chance < 0.1 || this.#failed) await this.#reopen();
    else await this.#drive(this.#some(Math.floor(this.random() * 30)));
  }

  // Who goes on

  /** Lets one operation after the other go on until `work` has ended. False: the world stops first. */
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
      if (ended) break;
      if (steps > left) return false;
      assert(steps < 20_000, 'it does not end');
      const [go] = this.waiting.splice(Math.floor(this.random() * this.waiting.length), 1);
      assert(go, 'everybody waits, and nothing is under way');
      go();
    }
    if (failure !== undefined) throw failure;
    return true;
  }

  async #some(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.host.latency!();
  }

  // Clients of the master

  #begin(): void {
    this.#stopping = false;
    this.#clients = Array.from({ length: WRITERS }, () => this.#client().catch(ignore));
  }

  async #client(): Promise<void> {
    let master: AttachedVolume | undefined;
    while (!this.#stopping) {
      await this.#some(3);
      try {
        master ??= await this.#class.attach('m');
        if (this.random() < 0.1) await master.flush();
        else await master.write(...this.#aWrite());
      } catch {
        // A failed write, a master that is INVALID for a while.
        await master?.close();
        master = undefined;
      }
    }
    await master?.close();
  }

  #aWrite(): [Uint8Array, number] {
    const offset = Math.floor(this.random() * SIZE);
    const length = Math.min(
      SIZE - offset,
      1 + Math.floor(this.random() * this.#pick([50, 1000, REGION])),
    );
    return [this.#bytes(length), offset];
  }

  async #rest(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#clients);
  }

  // What happens

  async #event(): Promise<void> {
    const kind = this.random();
    if (kind < 0.12) await this.#writeProxy();
    else if (kind < 0.22) await this.#withFault();
    else await this.#verb(this.random() < 0.75 ? 'p' : 'q');
    if (this.random() < 0.8) await this.#pull();
  }

  /** The proxy is used for something else between two backups. */
  async #writeProxy(): Promise<void> {
    await this.#try('write p', async () => {
      const before = this.random() < 0.3 ? await this.#class.info() : undefined;
      await this.#class.start(['p']);
      const proxy = await this.#class.attach('p');
      try {
        assert.equal(proxy.increment, undefined, 'of what clients may write there is none');
        for (let i = 0; i < 3; i++) await proxy.write(...this.#aWrite());
      } finally {
        await proxy.close();
      }
      return before;
    });
  }

  async #withFault(): Promise<void> {
    const disk = this.host.disks.get(`/${this.#pick(['m', 'p', 'q'])}.img`)!;
    const operation = this.#pick(['write', 'write', 'read', 'flush'] as const);
    let left = 1 + Math.floor(this.random() * 10);
    this.#note(`fault: ${operation} of ${disk.name}, the ${left}.`);
    disk.fault = (op, _, offset) => {
      if (op !== operation || --left !== 0) return;
      this.#failed = true;
      // Half of it is there.
      if (op === 'write') disk.write(this.#bytes(Math.min(50, SIZE - offset)), offset);
      throw new KageError('io-error', 'fault');
    };
    try {
      if (this.random() < 0.5) await this.#some(40);
      else await this.#verb(this.#pick(['p', 'q']));
    } finally {
      disk.fault = undefined;
    }
  }

  async #verb(name: string): Promise<void> {
    const info = await this.#class.info();
    const bad = info.volumes.find((v) => v.status === 'INVALID' && v.role === 'master');
    if (bad && this.random() < 0.5) return await this.#try('fix m', () => this.#class.fix('m'));
    const pair = info.pairs.find((p) => p.proxy === name);
    const wait = this.random() < 0.5;
    const instant = this.random() < 0.6;
    const compare = this.random() < 0.25;
    const signal = this.random() < 0.2 ? this.#abortSoon() : undefined;
    const copy = { wait, compare, signal };
    if (pair === undefined) {
      await this.#try(`join ${name}`, () =>
        this.#class.join('m', name, { regionSize: REGION, ...copy }),
      );
    } else if (pair.joined && pair.direction === 'toMaster') {
      await this.#try(`restore ${name}`, () =>
        this.#class.restore([name], { live: true, instant, ...copy }),
      );
    } else if (pair.joined) {
      const readOnly = this.random() < 0.5;
      await this.#try(`part ${name} ${instant}`, () =>
        this.#class.part([name], { instant, readOnly, compare, signal }),
      );
    } else {
      await this.#parted(name, pair, { ...copy, instant });
    }
  }

  async #parted(
    name: string,
    pair: PairInfo,
    options: CopyOptions & { instant: boolean },
  ): Promise<void> {
    const verbs = ['rejoin', 'rejoin', 'rejoin', 'update', 'update', 'restore', 'keep'];
    if (pair.pendingRegions > 0) verbs.push('cancel');
    if (this.random() < 0.05) verbs.push('break');
    if (pair.state === 'invalid') verbs.push('fix');
    const verb = this.#pick(verbs);
    const own = { ...options, live: true };
    await this.#try(`${verb} ${name} ${JSON.stringify(options)}`, () => {
      switch (verb) {
        case 'rejoin':
          return this.#class.rejoin([name], options);
        case 'update':
          return this.#class.update([name], options);
        case 'restore':
          return this.#class.restore([name], own);
        case 'keep':
          return this.#class.restore([name], { ...own, keep: true });
        case 'cancel':
          return this.#class.cancel(name);
        case 'fix':
          return this.#class.fix(name);
        default:
          return this.#class.break(name);
      }
    });
  }

  #abortSoon(): AbortSignal {
    const controller = new AbortController();
    void this.#some(Math.floor(this.random() * 30)).then(() => controller.abort());
    return controller.signal;
  }

  async #try(what: string, run: () => Promise<unknown>): Promise<void> {
    try {
      await run();
      this.#note(what);
      this.#count(what.split(' ')[0]);
    } catch (error) {
      this.#note(`${what}: ${(error as Error).message}`);
      if (!(error instanceof KageError)) throw error;
    }
  }

  // The backup

  async #pairOfP(): Promise<PairInfo | undefined> {
    return (await this.#class.info()).pairs.find((pair) => pair.proxy === 'p');
  }

  /** A new snapshot. Whoever has missed one has to begin anew. */
  async #notice(): Promise<void> {
    const pair = await this.#pairOfP();
    if (pair === undefined || pair.joined || !['part', 'update'].includes(pair.lastVerb)) return;
    if (pair.since === this.#snapshot.since) return;
    if (!this.#snapshot.pulled) this.#backup = undefined;
    this.#snapshot = { since: pair.since, pulled: false };
  }

  async #pull(): Promise<void> {
    await this.#notice();
    const pair = await this.#pairOfP();
    if (pair === undefined || pair.joined || pair.state === 'invalid') return;
    let proxy: AttachedVolume;
    try {
      await this.#class.start(['p'], { readOnly: true });
      proxy = await this.#class.attach('p');
    } catch (error) {
      // Also a class whose state could not be written down: it has to be opened anew.
      if (error instanceof KageError) return;
      throw error;
    }
    try {
      const content = new Uint8Array(SIZE);
      await proxy.read(content, 0);
      this.#apply(proxy, content);
      this.#note(`pulled, ${pair.lastVerb} ${pair.since} ${pair.state}`);
    } catch (error) {
      this.#note(`pull: ${(error as Error).message}`);
      if (!(error instanceof KageError)) throw error;
    } finally {
      await proxy.close();
    }
  }

  #apply(proxy: AttachedVolume, content: Uint8Array): void {
    this.#snapshot.pulled = true;
    if (this.#backup === undefined) {
      this.#backup = content;
      return;
    }
    assert(proxy.increment, 'a read-only parted proxy has an increment');
    let clean = 0;
    let at = 0;
    for (const { length, differs } of proxy.increment.runs(0, SIZE)) {
      if (differs) this.#backup.set(content.subarray(at, at + length), at);
      else clean += length;
      at += length;
    }
    assert.equal(at, SIZE);
    for (let i = 0; i < SIZE; i++) {
      if (this.#backup[i] === content[i]) continue;
      assert.fail(`region ${Math.floor(i / REGION)} is told to be as before, and differs`);
    }
    this.#count('increments');
    if (clean > 0) this.#count('parts of it');
  }

  // The world stops

  async #reopen(): Promise<void> {
    await this.#drive(this.#rest());
    await this.#drive(this.#class.close().catch(() => this.host.killProcesses()));
    if (this.mode === 'strangers' && this.random() < 0.4) {
      const name = this.#pick(['m', 'p', 'q']);
      this.#note(`a stranger writes ${name}`);
      this.host.disks.get(`/${name}.img`)!.write(...this.#aWrite());
    }
    this.#count('reopened');
    await this.#drive(this.#openAgain());
  }

  async #worldStops(work: Promise<void>): Promise<void> {
    this.#note('the world stops');
    this.#stopping = true;
    if (this.mode === 'cuts') this.host.cutPower();
    else this.host.killProcesses();
    for (const disk of this.host.disks.values()) disk.fault = undefined;
    let ended = false;
    Promise.allSettled([work, ...this.#clients]).then(() => {
      ended = true;
    });
    while (!ended || this.waiting.length > 0) {
      await new Promise((resolve) => setImmediate(resolve));
      for (const go of this.waiting.splice(0)) go();
    }
    this.#count('stops');
    await this.#drive(this.#openAgain());
  }

  async #openAgain(): Promise<void> {
    await this.#open();
    await this.#notice();
    this.#begin();
  }

  async #open(): Promise<void> {
    this.#failed = false;
    this.#class = await openClass('c', {
      home: '/home',
      host: this.host,
      kernel: 'js',
      create: true,
      live: true,
      tuning: { extentSize: REGION, extentsMax: 6, pieceSize: 2 * REGION },
    });
  }

  #bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => Math.floor(this.random() * 256));
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.random() * from.length)];
  }

  #note(text: string): void {
    this.trace.push(text);
  }

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }
}

/** What a world that has stopped answers is heard by nobody. */
function ignore(error: unknown): void {
  if (!(error instanceof PowerCut || error instanceof KageError)) throw error;
}
