/**
 * A real server under clients that write numbered blocks and under random verbs, killed at random: what
 * was flushed must be there, no block may be torn or older than its flush, and no region that differs may
 * be believed equal.
 */

import fs from 'node:fs';
import * as assert from 'uvu/assert';
import { seededRandom } from '../../src/device/memory-host.ts';
import { type Server, serve } from '../e2e/serve-support.ts';
import { History } from '../support/history.ts';
import { inWorld, sleep, type World } from '../support/world.ts';
import { BLOCK, Counter, connect, versionsOf, Writer } from './numbered.ts';

const SIZE = 32 * 1024 * 1024;
const VERBS = [
  ['part', 'p'],
  ['part', 'p', '--instant'],
  ['rejoin', 'p'],
  ['rejoin', 'p', '--no-wait'],
  ['update', 'p', '--instant'],
];
/** Exit statuses that a verb may have while servers come and go. */
export const EXPECTED = [0, 1, 2, 10, 11, 13, 20, 130];

export type KillCounts = { kills: number; parts: number; writes: number };

export async function killServers(seed: number, kills: number): Promise<KillCounts> {
  return await inWorld(async (w) => {
    const run = new Run(w, seed);
    await run.begin();
    for (let i = 0; i < kills; i++) await run.round();
    await run.server.stop();
    return run.counts;
  });
}

class Run {
  readonly counts: KillCounts = { kills: 0, parts: 0, writes: 0 };
  server!: Server;
  readonly #world: World;
  readonly #random: () => number;
  readonly #history = new History(Array(SIZE / BLOCK).fill(0));
  readonly #counter = new Counter();

  constructor(world: World, seed: number) {
    this.#world = world;
    this.#random = seededRandom(seed);
  }

  async begin(): Promise<void> {
    fs.writeFileSync(this.#world.path('m.img'), '');
    fs.truncateSync(this.#world.path('m.img'), SIZE);
    await this.#world.ok(['join', this.#world.path('m.img'), this.#world.path('p.img')]);
    this.server = await serve(this.#world);
  }

  async round(): Promise<void> {
    const writer = new Writer({
      device: await connect(this.server.uri('default/m')),
      history: this.#history,
      counter: this.#counter,
      random: this.#random,
      // A few hot blocks and many cold ones.
      pick: (chance) => Math.floor(chance ** 3 * (SIZE / BLOCK)),
    });
    const end = { reached: false };
    const verbs = this.#verbs(end);
    await sleep(300 + this.#random() * 3000);
    await this.server.kill();
    end.reached = true;
    await verbs;
    await writer.end();
    this.counts.writes += writer.writes;
    this.counts.kills++;
    this.server = await serve(this.#world);
    await this.#check();
  }

  async #verbs(end: { readonly reached: boolean }): Promise<void> {
    while (!end.reached) {
      const words = VERBS[Math.floor(this.#random() * VERBS.length)];
      const { status, stderr } = await this.#world.run(words);
      assert.ok(EXPECTED.includes(status ?? -1), `${words.join(' ')}: ${status} ${stderr}`);
      assert.not.match(stderr, /internal/);
      if (status === 0 && words[0] === 'part') this.counts.parts++;
    }
  }

  async #check(): Promise<void> {
    const client = await connect(this.server.uri('default/m'));
    const content = await versionsOf(client);
    await client.close();
    for (const [block, version] of content.entries()) {
      this.#history.requireSurvivor(block, version, 'master');
    }
    this.#history.observe(content);
    const { pairs } = await this.#world.ok(['verify', 'p']);
    assert.is(pairs[0].unexpected, 0, `${pairs[0].unexpected} regions are believed equal`);
  }
}
