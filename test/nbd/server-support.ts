/**
 * A client for the server's core: it builds what goes over the wire and takes apart what comes back,
 * with no help of the code under test but the table of numbers. And an export whose every call can be
 * held back, made to fail, and read afterwards.
 */

import * as assert from 'uvu/assert';
import { Budget } from '../../src/nbd/budget.ts';
import { Connection } from '../../src/nbd/connection.ts';
import type { Extent, NbdExport, NbdExports } from '../../src/nbd/export.ts';
import { NbdMetrics } from '../../src/nbd/metrics.ts';
import type { TlsMode } from '../../src/nbd/options.ts';
import { SlabStore } from '../../src/nbd/slabs.ts';
import {
  CHUNK,
  COMMAND,
  IHAVEOPT,
  OPTION,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from '../../src/nbd/wire.ts';

export const MIB = 1024 * 1024;

// The wire, client to server.

export function bytes(...parts: (number | string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    parts.map((p) => (typeof p === 'number' ? Buffer.from([p]) : Buffer.from(p as Uint8Array))),
  );
}

export function be16(value: number): Buffer {
  const b = Buffer.alloc(2);
  b.writeUInt16BE(value);
  return b;
}

export function be32(value: number): Buffer {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(value);
  return b;
}

export function be64(value: bigint): Buffer {
  const b = Buffer.alloc(8);
  b.writeBigUInt64BE(value);
  return b;
}

export const named = (name: string | Uint8Array) =>
  bytes(be32(Buffer.from(name as Uint8Array).length), name);

export function option(number: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return bytes(be64(IHAVEOPT), be32(number), be32(data.length), data);
}

export const infoData = (name: string, ...types: number[]) =>
  bytes(named(name), be16(types.length), ...types.map(be16));

export const metaData = (name: string, ...queries: string[]) =>
  bytes(named(name), be32(queries.length), ...queries.map(named));

export type Ask = {
  command: number;
  flags?: number;
  cookie?: bigint;
  offset?: number | bigint;
  length?: number;
  data?: Uint8Array;
  magic?: number;
};

export function request(ask: Ask): Buffer {
  return bytes(
    be32(ask.magic ?? REQUEST_MAGIC),
    be16(ask.flags ?? 0),
    be16(ask.command),
    be64(ask.cookie ?? 1n),
    be64(BigInt(ask.offset ?? 0)),
    be32(ask.length ?? ask.data?.length ?? 0),
    ask.data ?? Buffer.alloc(0),
  );
}

export const write = (data: Uint8Array, offset: number | bigint, more: Partial<Ask> = {}) =>
  request({ command: COMMAND.write, data, offset, ...more });
export const read = (offset: number | bigint, length: number, more: Partial<Ask> = {}) =>
  request({ command: COMMAND.read, offset, length, ...more });

// The wire, server to client.

export type OptionReply = { option: number; type: number; data: Buffer };
export type Reply = {
  simple: boolean;
  cookie: bigint;
  /** Of a simple reply or an error chunk; 0 is success. */
  error: number;
  text: string;
  /** Flags and type of a chunk. */
  flags: number;
  type: number;
  data: Buffer;
};

// An export that can be watched.

export type Call = { name: string; offset: number; length: number; punch?: boolean };

export class TestExport implements NbdExport {
  name = 'disk';
  description = 'a disk';
  readonly size: number;
  readOnly = false;
  preferredBlockSize = 4096;
  contexts: readonly string[] = ['base:allocation', 'qemu:dirty-bitmap:increment'];
  readonly content: Buffer;
  readonly calls: Call[] = [];
  /** Thrown or rejected by the next calls of that name. */
  readonly failing = new Map<string, unknown>();
  /** Calls of these names wait until `release`. */
  readonly held = new Set<string>();
  #waiting: { name: string; offset: number; go: () => void }[] = [];
  extents: (context: string, offset: number, length: number) => Extent[] = (_c, offset) => [
    { length: this.size - offset, flags: 0 },
  ];

  constructor(size = MIB) {
    this.size = size;
    this.content = Buffer.alloc(size);
  }

  read(into: Uint8Array, offset: number) {
    return this.#do('read', offset, into.length, () =>
      into.set(this.content.subarray(offset, offset + into.length)),
    );
  }

  write(from: Uint8Array, offset: number) {
    return this.#do('write', offset, from.length, () => this.content.set(from, offset));
  }

  zero(offset: number, length: number, punch: boolean) {
    return this.#do(
      'zero',
      offset,
      length,
      () => void this.content.fill(0, offset, offset + length),
      punch,
    );
  }

  async flush(): Promise<void> {
    await this.#do('flush', 0, 0, () => {});
  }

  status(context: string, offset: number, length: number): Extent[] | Promise<Extent[]> {
    let result: Extent[] = [];
    const done = this.#do('status', offset, length, () => {
      result = this.extents(context, offset, length).map((e) => ({ ...e }));
    });
    return done === undefined ? result : done.then(() => result);
  }

  /** Lets the oldest waiting call (of a name) go on; how many still wait. */
  release(name?: string): number {
    const at = this.#waiting.findIndex((w) => name === undefined || w.name === name);
    if (at >= 0) this.#waiting.splice(at, 1)[0].go();
    return this.#waiting.length;
  }

  /** Lets the oldest waiting call whose offset is right go on. */
  releaseWhere(isRight: (offset: number) => boolean): void {
    const at = this.#waiting.findIndex(({ offset }) => isRight(offset));
    assert.ok(at >= 0, 'such a call waits');
    this.#waiting.splice(at, 1)[0].go();
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  named(name: string): Call[] {
    return this.calls.filter((c) => c.name === name);
  }

  #do(name: string, offset: number, length: number, work: () => void, punch?: boolean) {
    assert.ok(offset >= 0 && offset + length <= this.size, `${name} ${offset}+${length} is inside`);
    this.calls.push({ name, offset, length, ...(punch === undefined ? {} : { punch }) });
    const act = () => {
      if (this.failing.has(name)) throw this.failing.get(name);
      work();
    };
    if (!this.held.has(name)) return act();
    return new Promise<void>((go) => this.#waiting.push({ name, offset, go })).then(act);
  }
}

// A client.

export type ClientOptions = {
  targets?: readonly TestExport[];
  exports?: NbdExports;
  tls?: TlsMode;
  /** Shared with other clients. */
  budget?: Budget;
  /** The transport keeps what is sent until `take`. */
  stuck?: boolean;
};

export class Client {
  readonly targets: readonly TestExport[];
  readonly metrics = new NbdMetrics();
  readonly store = new SlabStore();
  readonly budget: Budget;
  readonly connection: Connection;
  /** What the transport was told. */
  readonly events: string[] = [];
  wanted = true;
  /** It has got beyond the handshake. */
  transmitted = false;
  stuck: boolean;
  /** Calls of `send`. */
  sends = 0;
  closedExports = 0;
  openedExports = 0;
  turns = 0;
  now = 0;
  #received: Buffer[] = [];
  #untaken: (() => void)[] = [];

  constructor(options: ClientOptions = {}) {
    this.targets = options.targets ?? [new TestExport()];
    this.stuck = options.stuck ?? false;
    this.budget = options.budget ?? new Budget();
    this.connection = new Connection(
      {
        send: (pieces, taken) => {
          this.sends++;
          for (const piece of pieces) this.#received.push(Buffer.from(piece));
          this.#untaken.push(taken);
          if (!this.stuck) queueMicrotask(() => this.take());
        },
        want: (more) => {
          this.wanted = more;
        },
        startTls: () => this.events.push('tls'),
        end: () => this.events.push('end'),
        drop: () => this.events.push('drop'),
      },
      {
        exports: options.exports ?? this.exports(),
        tls: options.tls ?? 'off',
        store: this.store,
        budget: this.budget,
        metrics: this.metrics,
        clock: () => this.now++,
        turn: async () => {
          this.turns++;
          await new Promise((resolve) => setImmediate(resolve));
        },
      },
      () => {
        this.transmitted ||= this.connection.phase === 'transmission';
      },
    );
    this.connection.start();
  }

  exports(): NbdExports {
    return {
      list: () => this.targets.map(({ name, description }) => ({ name, description })),
      open: (name) => {
        const target = name === '' ? this.targets[0] : this.targets.find((t) => t.name === name);
        if (target === undefined) return undefined;
        this.openedExports++;
        return { target, close: () => void this.closedExports++ };
      },
    };
  }

  /** The transport takes everything. */
  take(): void {
    const taken = this.#untaken;
    this.#untaken = [];
    for (const each of taken) each();
  }

  /** Sends bytes in pieces of the given sizes, over and over; then lets everything settle. */
  async say(data: Uint8Array, ...sizes: number[]): Promise<void> {
    if (sizes.length === 0) this.connection.receive(Buffer.from(data));
    for (let at = 0, i = 0; sizes.length > 0 && at < data.length; i++) {
      const end = Math.min(data.length, at + sizes[i % sizes.length]);
      this.connection.receive(Buffer.from(data.subarray(at, end)));
      at = end;
    }
    await settled();
  }

  /** All bytes since the last call. */
  heard(): Buffer {
    const all = Buffer.concat(this.#received);
    this.#received = [];
    return all;
  }

  /** Greeting read, flags sent. */
  async greet(flags = 3): Promise<void> {
    const greeting = this.heard();
    assert.is(greeting.length, 18);
    await this.say(be32(flags));
  }

  /** One option and all its replies. */
  async ask(number: number, data?: Uint8Array): Promise<OptionReply[]> {
    await this.say(option(number, data));
    return optionReplies(this.heard());
  }

  /** To the transmission phase by GO. */
  async go(how: { structured?: boolean; contexts?: string[]; name?: string } = {}): Promise<void> {
    const { structured = true, contexts, name = 'disk' } = how;
    await this.greet();
    if (structured) await this.ask(OPTION.structuredReply);
    if (contexts) await this.ask(OPTION.setMetaContext, metaData(name, ...contexts));
    const replies = await this.ask(OPTION.go, infoData(name));
    assert.is(replies.at(-1)?.type, OPTION_REPLY.ack);
  }

  /** Requests, and the replies to them. */
  async exchange(...requests: Uint8Array[]): Promise<Reply[]> {
    await this.say(Buffer.concat(requests));
    return this.replies();
  }

  /** The replies since the last look. */
  replies(): Reply[] {
    return repliesIn(this.heard(), this.#readLengths);
  }

  /** Lengths of the reads sent, by cookie: a simple reply does not tell. */
  readonly #readLengths = new Map<bigint, number>();
  expectRead(cookie: bigint, length: number): void {
    this.#readLengths.set(cookie, length);
  }
}

/** Everything that needs no outside help has happened. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve));
}

export function optionReplies(heard: Buffer): OptionReply[] {
  const replies: OptionReply[] = [];
  let at = 0;
  while (at < heard.length) {
    assert.is(heard.readBigUInt64BE(at), OPTION_REPLY_MAGIC);
    const end = at + 20 + heard.readUInt32BE(at + 16);
    assert.ok(end <= heard.length, 'a whole reply');
    replies.push({
      option: heard.readUInt32BE(at + 8),
      type: heard.readUInt32BE(at + 12),
      data: heard.subarray(at + 20, end),
    });
    at = end;
  }
  return replies;
}

export function repliesIn(
  heard: Buffer,
  lengths: ReadonlyMap<bigint, number> = new Map(),
): Reply[] {
  const replies: Reply[] = [];
  let at = 0;
  while (at < heard.length) {
    const magic = heard.readUInt32BE(at);
    const cookie = heard.readBigUInt64BE(at + 8);
    if (magic === SIMPLE_REPLY_MAGIC) {
      const error = heard.readUInt32BE(at + 4);
      const end = at + 16 + (error === 0 ? (lengths.get(cookie) ?? 0) : 0);
      const data = heard.subarray(at + 16, end);
      replies.push({ simple: true, cookie, error, text: '', flags: 1, type: 0, data });
      at = end;
      continue;
    }
    assert.is(magic, STRUCTURED_REPLY_MAGIC, `a reply begins at ${at}`);
    const end = at + 20 + heard.readUInt32BE(at + 16);
    assert.ok(end <= heard.length, 'a whole chunk');
    const data = heard.subarray(at + 20, end);
    const type = heard.readUInt16BE(at + 6);
    const isError = type >= CHUNK.error;
    replies.push({
      simple: false,
      cookie,
      error: isError ? data.readUInt32BE(0) : 0,
      text: isError ? data.subarray(6, 6 + data.readUInt16BE(4)).toString() : '',
      flags: heard.readUInt16BE(at + 4),
      type,
      data,
    });
    at = end;
  }
  return replies;
}

/** Extents of a block status chunk. */
export function extentsIn(reply: Reply): { id: number; extents: number[][] } {
  assert.is(reply.type, CHUNK.blockStatus);
  const extents: number[][] = [];
  for (let at = 4; at < reply.data.length; at += 8) {
    extents.push([reply.data.readUInt32BE(at), reply.data.readUInt32BE(at + 4)]);
  }
  return { id: reply.data.readUInt32BE(0), extents };
}
