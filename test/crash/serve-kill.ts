/**
 * A real server under a client that writes numbered blocks and under random verbs, killed at random: what
 * was flushed must be there, no block may be torn or older than its flush, and no region that differs may
 * be believed equal.
 */

import fs from 'node:fs';
import * as assert from 'uvu/assert';
import { seededRandom } from '../../src/device/memory-host.ts';
import { NbdDevice } from '../../src/nbd/client-device.ts';
import { type Server, serve } from '../e2e/serve-support.ts';
import { inWorld, sleep, type World } from '../support/world.ts';

const SIZE = 32 * 1024 * 1024;
const BLOCK = 4096;
const VERBS = [
  ['part', 'p'],
  ['part', 'p', '--instant'],
  ['rejoin', 'p'],
  ['rejoin', 'p', '--no-wait'],
  ['update', 'p', '--instant'],
];
/** Exit statuses that a verb may have while servers come and go. */
const EXPECTED = [0, 1, 2, 10, 11, 13, 20, 130];

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
  /** By block: versions it may have, the flushed one first. */
  readonly #versions = new Map<number, number[]>();
  #version = 0;

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
    const client = await this.#connect();
    const end = { reached: false };
    const verbs = this.#verbs(end);
    const writing = this.#write(client);
    await sleep(300 + this.#random() * 3000);
    await this.server.kill();
    end.reached = true;
    await Promise.all([verbs, writing]);
    await client.close();
    this.counts.kills++;
    this.server = await serve(this.#world);
    await this.#check();
  }

  async #connect(): Promise<NbdDevice> {
    const clock = { sleep };
    const reconnect = { attempts: 0 };
    return await NbdDevice.connect(this.server.uri('default/m'), { clock, reconnect });
  }

  /** Until the server is gone. */
  async #write(client: NbdDevice): Promise<void> {
    try {
      for (;;) {
        // A few hot blocks and many cold ones.
        const block = Math.floor(this.#random() ** 3 * (SIZE / BLOCK));
        const version = ++this.#version;
        const versions = this.#versions.get(block) ?? [0];
        versions.push(version);
        this.#versions.set(block, versions);
        await client.write(bytesOf(block, version), block * BLOCK);
        this.counts.writes++;
        if (this.#random() < 0.03) await this.#flush(client);
      }
    } catch {
      // It was killed.
    }
  }

  async #flush(client: NbdDevice): Promise<void> {
    await client.flush();
    // One writer: everything before the flush was answered.
    for (const versions of this.#versions.values()) versions.splice(0, versions.length - 1);
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
    const client = await this.#connect();
    for (const [block, versions] of this.#versions) {
      const bytes = new Uint8Array(BLOCK);
      await client.read(bytes, block * BLOCK);
      const version = new DataView(bytes.buffer).getUint32(4);
      assert.equal(bytes, bytesOf(version === 0 ? 0 : block, version), `block ${block} is torn`);
      assert.ok(versions.includes(version), `block ${block}: ${version}, not of ${versions}`);
      versions.splice(0, versions.length, version);
    }
    await client.close();
    const { pairs } = await this.#world.ok(['verify', 'p']);
    assert.is(pairs[0].unexpected, 0, `${pairs[0].unexpected} regions are believed equal`);
  }
}

/** Version 0 is a block that nobody has written. */
function bytesOf(block: number, version: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  const data = new DataView(bytes.buffer);
  if (version === 0) return bytes;
  for (let at = 0; at < BLOCK; at += 8) {
    data.setUint32(at, block);
    data.setUint32(at + 4, version);
  }
  return bytes;
}
