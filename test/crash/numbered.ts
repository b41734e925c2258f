/**
 * Clients that write numbered blocks: each block carries its own number and that of its write, all over,
 * so that whoever reads it knows which write it is and whether it is whole.
 */

import * as assert from 'uvu/assert';
import { NbdDevice } from '../../src/nbd/client-device.ts';
import type { History } from '../support/history.ts';
import { sleep } from '../support/world.ts';

export const BLOCK = 4096;
/** Blocks are read in pieces of so many. */
const PIECE = 256;

/** A client that ends with its connection. */
export async function connect(uri: string): Promise<NbdDevice> {
  return await NbdDevice.connect(uri, { clock: { sleep }, reconnect: { attempts: 0 } });
}

/** Version 0 is a block that nobody has written. */
export function blockOf(block: number, version: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  const data = new DataView(bytes.buffer);
  if (version === 0) return bytes;
  for (let at = 0; at < BLOCK; at += 8) {
    data.setUint32(at, block);
    data.setUint32(at + 4, version);
  }
  return bytes;
}

/** The version of a block, which must be whole. */
export function versionOf(bytes: Uint8Array, block: number): number {
  const version = new DataView(bytes.buffer, bytes.byteOffset).getUint32(4);
  const whole = Buffer.compare(bytes, blockOf(block, version)) === 0;
  assert.ok(whole, `block ${block} is torn, or another one: ${bytes.subarray(0, 8)}`);
  return version;
}

/** The versions of all blocks. */
export async function versionsOf(device: NbdDevice): Promise<number[]> {
  const versions: number[] = [];
  const piece = new Uint8Array(PIECE * BLOCK);
  for (let first = 0; first < device.size / BLOCK; first += PIECE) {
    await device.read(piece, first * BLOCK);
    for (let i = 0; i < PIECE; i++) {
      versions.push(versionOf(piece.subarray(i * BLOCK, (i + 1) * BLOCK), first + i));
    }
  }
  return versions;
}

/** Moments and numbers of writes, the same for all clients of a run. */
export class Counter {
  #last = 0;

  next(): number {
    return ++this.#last;
  }
}

export type WriterOptions = {
  readonly device: NbdDevice;
  readonly history: History;
  readonly counter: Counter;
  readonly random: () => number;
  /** A block to write next, given a number from 0 to 1. */
  readonly pick: (chance: number) => number;
  /** Blocks under way at a time. */
  readonly lanes?: number;
};

/** Writes and flushes until its server is gone or `end` is called. */
export class Writer {
  readonly #options: WriterOptions;
  readonly #work: Promise<unknown>;
  #ended = false;
  writes = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
    const { lanes = 2 } = options;
    this.#work = Promise.allSettled(
      Array.from({ length: lanes }, (_, lane) => this.#write(lane, lanes)),
    );
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.#work;
    await this.#options.device.close();
  }

  async #write(lane: number, lanes: number): Promise<void> {
    const { device, history, counter, random, pick } = this.#options;
    while (!this.#ended) {
      const found = pick(random());
      const block = found - (found % lanes) + lane;
      const version = counter.next();
      const [entry] = history.ask(block, block + 1, version, counter.next());
      await device.write(blockOf(block, version), block * BLOCK);
      entry.answered = counter.next();
      this.writes++;
      if (random() < 0.03) await this.#flush(history);
    }
  }

  async #flush(history: History): Promise<void> {
    const covered = history.covered();
    await this.#options.device.flush();
    history.flush(covered);
  }
}
