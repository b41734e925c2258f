/**
 * A real server that is killed at a named step, in each situation that a pair can be in, under clients that
 * write numbered blocks to the master and, where it is in use, to the proxy. Then a server is started again,
 * and everything is there: what was flushed, each snapshot as the state of one moment within its verb, no
 * region that differs believed equal; and what has to be copied is no more than what was written or hot.
 */

import fs from 'node:fs';
import * as assert from 'uvu/assert';
import { STEPS, type Step } from '../../src/base/faults.ts';
import { EXTENT_SIZE } from '../../src/base/limits.ts';
import { seededRandom } from '../../src/device/memory-host.ts';
import type { PairInfo } from '../../src/engine/api.ts';
import { type Server, serve } from '../e2e/serve-support.ts';
import { History } from '../support/history.ts';
import { inWorld, type Running, sleep, type World } from '../support/world.ts';
import { BLOCK, blockOf, Counter, connect, versionsOf, Writer } from './numbered.ts';
import { EXPECTED } from './serve-kill.ts';

const MIB = 1024 * 1024;
const SIZE = 32 * MIB;
const BLOCKS = SIZE / BLOCK;
const REGION = 64 * 1024;
/** Extents that are written; the others stay as they are. */
const WARM = [0, 1, 3, 6];
const EXTENT_BLOCKS = EXTENT_SIZE / BLOCK;
/** A copy of all takes half a second, or it is still under way when the server ends. */
const RATE = ['--rate', '64M'];
const SLOWLY = ['--rate', '4M'];
/** Of every so many blocks of the proxy one is written there; snapshots are compared without it. */
const OWN = 8;

/** How often a step has to be arrived at, and where. */
export type Kill = {
  readonly situation: SituationName;
  readonly step: Step;
  readonly arrival: number;
  /** Stamps of the images are asked: a server that was held up between its note and a write costs a comparison. */
  readonly stamps?: true;
};

type Situation = {
  /** The pair when the server is started: none, joined, or parted with work on both sides. */
  readonly begin: 'none' | 'joined' | 'parted';
  /** Clients were at work when the server before it was killed. */
  readonly afterKill?: true;
  /** Verbs of the clients' second, one after the other. */
  readonly verbs: (w: World) => readonly (readonly string[])[];
  /** The verb that takes a snapshot, and the one that restores the master. */
  readonly takes?: 'part' | 'update';
  readonly restores?: 'restore' | 'restore --keep';
  /** A client writes to the proxy: from the begin, or when the verbs are done. */
  readonly proxyInUse?: 'always' | 'afterwards';
  /** The copy of the first join is of no use when it is not recorded. */
  readonly firstCopy?: true;
};

/** Situations in which nothing is copied at once, and the others. */
export const QUIET: readonly SituationName[] = [
  'joined',
  'parting',
  'parted',
  'starting after a kill',
];

const SITUATIONS = {
  joining: {
    begin: 'none',
    firstCopy: true,
    verbs: (w) => [['join', w.path('m.img'), w.path('p.img'), ...RATE]],
  },
  joined: { begin: 'joined', verbs: () => [] },
  parting: { begin: 'joined', takes: 'part', verbs: () => [['part', 'p']] },
  parted: { begin: 'parted', proxyInUse: 'always', verbs: () => [] },
  'instant part in the first copy': {
    begin: 'none',
    firstCopy: true,
    takes: 'part',
    proxyInUse: 'afterwards',
    verbs: (w) => [
      ['join', w.path('m.img'), w.path('p.img'), '--no-wait', ...SLOWLY],
      ['part', 'p', '--instant'],
    ],
  },
  'instant update': {
    begin: 'parted',
    takes: 'update',
    proxyInUse: 'afterwards',
    verbs: () => [['update', 'p', '--instant', ...SLOWLY]],
  },
  restoring: {
    begin: 'parted',
    restores: 'restore',
    verbs: () => [['restore', 'p', '--live', '--instant', ...SLOWLY]],
  },
  'restoring, keeping the proxy': {
    begin: 'parted',
    restores: 'restore --keep',
    proxyInUse: 'afterwards',
    verbs: () => [['restore', 'p', '--keep', '--live', '--instant', ...SLOWLY]],
  },
  rejoining: { begin: 'parted', verbs: () => [['rejoin', 'p', ...RATE]] },
  'starting after a kill': { begin: 'joined', afterKill: true, verbs: () => [] },
} satisfies Record<string, Situation>;

export type SituationName = keyof typeof SITUATIONS;
export const SITUATION_NAMES = Object.keys(SITUATIONS) as SituationName[];

/** Where each step is reached for certain, or why no server under clients reaches it. */
export const WHERE: Readonly<Record<Step, SituationName | { readonly never: string }>> = {
  'image:recorded': 'joining',
  'image:created': 'joining',
  'image:whole': { never: 'a copy to a new image is made by the command itself' },
  'class:removed': { never: 'a class with volumes is not removed, one without has no clients' },
  'class:last-root': { never: 'a class with volumes is not removed, one without has no clients' },
  'intent:before-write': 'joined',
  'intent:durable': 'parted',
  'write:preserved': 'instant update',
  'write:preserve-synced': 'instant part in the first copy',
  'write:preserve-cleared': 'instant update',
  'write:one-side': 'joined',
  'write:done': 'restoring',
  'flush:synced': 'joined',
  'flush:cleared': 'restoring',
  'evict:bits-durable': 'parted',
  'evict:done': 'joined',
  'copy:written': 'joining',
  'copy:source-synced': 'rejoining',
  'copy:target-synced': 'restoring, keeping the proxy',
  'copy:cleared': 'instant update',
  'verb:settled': 'parting',
  'verb:synced': 'rejoining',
  'commit:maps-written': 'parting',
  'commit:root-written': 'restoring',
  'commit:root-renamed': 'parting',
  'commit:done': 'restoring, keeping the proxy',
  'recovery:begun': 'starting after a kill',
  'recovery:pended': 'starting after a kill',
  'close:stamped': 'parted',
};

export const STEP_NAMES = Object.keys(STEPS) as Step[];

/** The kills that the tests try: each step once, in these situations. */
export function chosenKills(situations: readonly SituationName[]): Kill[] {
  return STEP_NAMES.flatMap((step): Kill[] => {
    const situation = WHERE[step];
    const isHere = typeof situation === 'string' && situations.includes(situation);
    return isHere ? [{ situation, step, arrival: 1 }] : [];
  });
}

export function nameOf({ situation, step, arrival }: Kill): string {
  return `${situation}: ${step}@${arrival}`;
}

/** True when the server has come to the step and was killed there. */
export async function killAtStep(kill: Kill, seed: number): Promise<boolean> {
  return await inWorld(async (w) => await new Trial(w, kill, seed).run());
}

class Trial {
  readonly #w: World;
  readonly #kill: Kill;
  readonly #situation: Situation;
  readonly #random: () => number;
  readonly #counter = new Counter();
  readonly #master = new History(Array(BLOCKS).fill(0));
  /** Of the proxy that is parted at the begin. */
  #proxy = new History([]);
  /** What was written to a proxy that came to be in use by the verbs, if any client got so far. */
  #own: History | undefined;
  /** What the proxy held before the verbs. */
  #before: readonly number[] = [];
  #verbsFrom = 0;
  #verbsTo = 0;
  #pairBefore: PairInfo | undefined;

  constructor(w: World, kill: Kill, seed: number) {
    this.#w = w;
    this.#kill = kill;
    this.#situation = SITUATIONS[kill.situation];
    this.#random = seededRandom(seed);
  }

  async run(): Promise<boolean> {
    await this.#prepare();
    const { step, arrival } = this.#kill;
    const doomed = this.#w.start(['serve'], { env: { KAGE_FAULT: `${step}@${arrival}` } });
    this.#w.atEnd(() => doomed.child.kill('SIGKILL'));
    if (await isReady(doomed)) await this.#live(doomed);
    const { signal, status, stderr } = await doomed.ended;
    assert.ok(signal === 'SIGKILL' || status === 0, `${status} ${stderr}`);
    const from = Date.now();
    const server = await serve(this.#w);
    await this.#check(server, from);
    return signal === 'SIGKILL';
  }

  // Before

  async #prepare(): Promise<void> {
    const { begin, afterKill } = this.#situation;
    fs.writeFileSync(this.#w.path('m.img'), '');
    fs.truncateSync(this.#w.path('m.img'), SIZE);
    await this.#w.engine(async (disks) => {
      const exclusive = !this.#kill.stamps;
      await disks.add([{ path: this.#w.path('m.img'), exclusive }]);
      await this.#fill(disks, 'm', this.#master, 200);
      if (begin === 'none') return;
      fs.truncateSync(this.#w.image('p.img', 1), SIZE);
      await disks.add([{ path: this.#w.path('p.img'), exclusive }]);
      await disks.join('m', 'p');
      if (begin === 'joined') return;
      await disks.part(['p']);
    });
    if (begin === 'parted') {
      this.#proxy = new History(this.#versionsIn('p.img'));
      await this.#w.engine(async (disks) => {
        await this.#fill(disks, 'm', this.#master, 100);
        await this.#fill(disks, 'p', this.#proxy, 100);
      });
    }
    if (afterKill) {
      const server = await serve(this.#w);
      const writer = await this.#writer(server.uri('default/m'), this.#master);
      await sleep(200);
      await server.kill();
      await writer.end();
      this.#master.observe(this.#versionsIn('m.img'));
    }
    this.#before = begin === 'none' ? [] : this.#versionsIn('p.img');
    this.#pairBefore = begin === 'none' ? undefined : await this.#w.pair('p');
  }

  async #fill(
    disks: { write(volume: string, offset: number, data: Uint8Array): Promise<void> },
    volume: string,
    history: History,
    count: number,
  ): Promise<void> {
    for (let i = 0; i < count; i++) {
      const block = warmBlock(this.#random());
      const version = this.#counter.next();
      await disks.write(volume, block * BLOCK, blockOf(block, version));
      const [entry] = history.ask(block, block + 1, version, this.#counter.next());
      entry.answered = this.#counter.next();
    }
    history.flush(history.covered());
  }

  #versionsIn(image: string): number[] {
    const bytes = this.#w.read(image);
    return Array.from({ length: BLOCKS }, (_, b) => {
      const at = b * BLOCK;
      return bytes.readUInt32BE(at + 4);
    });
  }

  // Under clients

  async #writer(uri: string, history: History, own = false): Promise<Writer> {
    const pick = (chance: number) => {
      const block = warmBlock(chance);
      return own ? block - (block % OWN) : block;
    };
    const { counter, random } = { counter: this.#counter, random: this.#random };
    const device = await connect(uri);
    return new Writer({ device, history, counter, random, pick, lanes: own ? 1 : 2 });
  }

  /** Until the server is dead: killed at its step, or ended in order because it never came there. */
  async #live(doomed: Running): Promise<void> {
    const { proxyInUse, verbs } = this.#situation;
    const uri = (name: string) => `nbd+unix:///${name}?socket=${this.#w.path('home', 'nbd.sock')}`;
    const writers: Writer[] = [];
    const add = async (name: string, history: History, own: boolean) => {
      try {
        writers.push(await this.#writer(uri(name), history, own));
      } catch (error) {
        // It was killed, or is just about to be.
        await pause(doomed, 1000);
        if (isAlive(doomed)) throw error;
      }
    };
    await add('default/m', this.#master, false);
    if (proxyInUse === 'always') await add('default/p', this.#proxy, true);
    await pause(doomed, 100);
    this.#verbsFrom = this.#counter.next();
    for (const words of verbs(this.#w)) {
      const { status, stderr } = await this.#verb(words, doomed);
      assert.ok(EXPECTED.includes(status ?? -1), `${words.join(' ')}: ${status} ${stderr}`);
      if (status !== 0) await pause(doomed, 1000);
      assert.ok(status === 0 || !isAlive(doomed), `${words.join(' ')}: ${status} ${stderr}`);
    }
    this.#verbsTo = this.#counter.next();
    if (proxyInUse === 'afterwards' && isAlive(doomed)) {
      this.#own = new History(Array(BLOCKS).fill(0));
      await add('default/p', this.#own, true);
    }
    await pause(doomed, 200);
    for (const writer of writers) await writer.end();
    doomed.child.kill('SIGTERM');
    await doomed.ended;
  }

  /** A command ends in any case: with its server. Nothing else may reach the state folder meanwhile. */
  async #verb(words: readonly string[], doomed: Running) {
    const command = this.#w.start(words);
    const died = doomed.ended.then(async () => {
      // Without its server a command that begins now would do the work itself.
      await sleep(50);
      command.child.kill('SIGKILL');
    });
    const ended = await command.ended;
    void died;
    return ended.signal === null ? ended : { ...ended, status: 20 };
  }

  // Afterwards

  async #check(server: Server, from: number): Promise<void> {
    const { pairs } = await this.#w.info();
    const pair = pairs.find((p) => p.proxy === 'p');
    await this.#checkMaster(server, pair);
    if (pair && !pair.joined) await this.#checkProxy(server, pair);
    if (pair) {
      const { pairs: verified } = await this.#w.ok(['verify', 'p']);
      assert.is(verified[0].unexpected, 0, 'regions are believed equal, and are not');
    }
    await this.#becomeEqual(from);
    await server.stop();
    assert.is(this.#w.hash('p.img'), this.#w.hash('m.img'), 'equal at last');
  }

  async #checkMaster(server: Server, pair: PairInfo | undefined): Promise<void> {
    const client = await connect(server.uri('default/m'));
    const content = await versionsOf(client);
    await client.close();
    const { restores } = this.#situation;
    const to = this.#verbsTo || this.#counter.next();
    if (restores && this.#wasCommitted(pair)) {
      this.#master.requireRestored(content, this.#before, this.#verbsFrom, to);
      return;
    }
    for (const [block, version] of content.entries()) {
      this.#master.requireSurvivor(block, version, 'master');
    }
  }

  #wasCommitted(pair: PairInfo | undefined): boolean {
    return pair !== undefined && pair.since !== this.#pairBefore?.since;
  }

  async #checkProxy(server: Server, pair: PairInfo): Promise<void> {
    assert.is.not(pair.state, 'invalid', 'after a kill the maps hold');
    const client = await connect(server.uri('default/p'));
    const content = await versionsOf(client);
    await client.close();
    const { takes, proxyInUse } = this.#situation;
    const snapshot = content.map((version, block) =>
      this.#own && block % OWN === 0 ? undefined : version,
    );
    if (takes !== undefined && this.#wasCommitted(pair)) {
      const to = this.#verbsTo || this.#counter.next();
      this.#master.requireOneMoment([snapshot], this.#verbsFrom, to, `the snapshot of ${takes}`);
    } else {
      for (const [block, version] of snapshot.entries()) {
        if (proxyInUse === 'always') this.#proxy.requireSurvivor(block, content[block], 'proxy');
        else if (version !== undefined) {
          assert.is(version, this.#before[block], `block ${block} of the snapshot`);
        }
      }
    }
    for (const [block, version] of content.entries()) {
      if (snapshot[block] === undefined) this.#own!.requireFlushed(block, version, 'proxy');
    }
  }

  /**
   * The pair is made equal, by the server itself if a copy was unfinished, at the cost of what was written
   * and what was hot.
   */
  async #becomeEqual(from: number): Promise<void> {
    for (let tries = 0; tries < 600; tries++) {
      const pair = (await this.#w.info()).pairs.find((p) => p.proxy === 'p');
      if (pair?.state === 'joined') {
        this.#requireCheap(pair, from);
        return;
      }
      const images = [this.#w.path('m.img'), this.#w.path('p.img')];
      const words = pair ? [pair.joined ? 'join' : 'rejoin', 'm', 'p'] : ['join', ...images];
      if (pair && !pair.joined) words.splice(1, 1);
      await this.#w.run(words);
      await sleep(20);
    }
    assert.unreachable('the two do not become equal');
  }

  #requireCheap({ lastCopy }: PairInfo, from: number): void {
    if (lastCopy === null || lastCopy.at < from || this.#situation.firstCopy) return;
    if (this.#kill.stamps && /written by another program/.test(lastCopy.reason)) return;
    assert.is(lastCopy.method, 'differential', lastCopy.reason);
    const most = (WARM.length * EXTENT_SIZE) / REGION;
    assert.ok(lastCopy.regions <= most, `${lastCopy.regions} regions`);
  }
}

function warmBlock(chance: number): number {
  const extent = WARM[Math.floor(chance * WARM.length)];
  const within = (chance * WARM.length) % 1;
  return extent * EXTENT_BLOCKS + Math.floor(within ** 2 * EXTENT_BLOCKS);
}

function isAlive({ child }: Running): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** False: it has ended before. */
async function isReady(server: Running): Promise<boolean> {
  for (let i = 0; i < 6000 && isAlive(server); i++) {
    if (server.stdout.includes('\n')) return true;
    await sleep(5);
  }
  assert.not.ok(isAlive(server), 'the server does not start');
  return false;
}

async function pause(server: Running, ms: number): Promise<void> {
  await Promise.race([sleep(ms), server.ended]);
}
