/**
 * An NBD server for the tests of the client: small, plain, and ready to misbehave. Content is one
 * array; what is not flushed can be forgotten. Written against the protocol text, not against ours.
 */

import fs from 'node:fs';
import net from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  ALLOCATION,
  CHUNK,
  COMMAND,
  INFO,
  OPTION,
  OPTION_REPLY,
  TRANSMISSION,
} from '../../src/nbd/wire.ts';

export type Asked = {
  readonly connection: number;
  readonly command: number;
  readonly flags: number;
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
  readonly payload: Buffer;
};

/** What is done instead of the honest answer. */
export type Trick = 'drop' | 'ignore' | { errno: number; text?: string } | Uint8Array;

export const WRITABLE =
  TRANSMISSION.hasFlags | TRANSMISSION.sendFlush | TRANSMISSION.sendWriteZeroes;

export class FakeServer {
  content: Buffer;
  durable: Buffer;
  flags = WRITABLE;
  structured = true;
  contexts = true;
  go = true;
  noZeroes = true;
  /** minimum, preferred, maximum */
  blocks: readonly [number, number, number] | undefined = [1, 4096, 2 ** 25];
  /** Size that is told, where it is not the true one. */
  lie: number | undefined;
  name = 'disk';
  /** Keeps the connection open after the client has said good-bye. */
  lingers = false;
  /** The next connection gets these bytes and nothing else. */
  greeting: Uint8Array | undefined;
  trick: (asked: Asked) => Trick | undefined = () => undefined;
  readonly asked: Asked[] = [];
  readonly options: number[] = [];
  connections = 0;
  goodbyes = 0;
  readonly #path: string;
  #server: net.Server | undefined;
  readonly #sockets = new Set<net.Socket>();

  constructor(path: string, content: Uint8Array) {
    this.#path = path;
    this.content = Buffer.from(content);
    this.durable = Buffer.from(content);
  }

  get uri(): string {
    return `nbd+unix:///${this.name}?socket=${this.#path}`;
  }

  async start(): Promise<void> {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket));
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.#path, resolve));
  }

  /** The process dies; with `forget` what was not flushed is gone, as after a power cut. */
  async stop(forget = false): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.drop();
    await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
    fs.rmSync(this.#path, { force: true });
    if (forget) this.content = Buffer.from(this.durable);
  }

  /** Says something on every connection. */
  say(words: Uint8Array): void {
    for (const socket of this.#sockets) socket.write(words);
  }

  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Commands that were asked, as `write 0+512`. */
  log(): string[] {
    return this.asked.map(({ command, offset, length }) => {
      const [word] = Object.entries(COMMAND).find(([, number]) => number === command)!;
      return word === 'flush' ? word : `${word} ${offset}+${length}`;
    });
  }

  async #serve(socket: net.Socket): Promise<void> {
    const number = ++this.connections;
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    const read = reader(socket);
    try {
      if (this.greeting !== undefined) {
        socket.write(this.greeting);
        this.greeting = undefined;
        return;
      }
      socket.write(bytes('NBDMAGIC', 'IHAVEOPT', [2, this.noZeroes ? 3 : 1]));
      await read(4);
      const structured = await this.#haggle(socket, read);
      if (structured !== undefined) await this.#transmit(socket, read, number, structured);
    } catch {
      socket.destroy();
    }
  }

  async #haggle(socket: net.Socket, read: Read): Promise<boolean | undefined> {
    let structured = false;
    for (;;) {
      const head = await read(16);
      const option = head.readUInt32BE(8);
      const data = await read(head.readUInt32BE(12));
      this.options.push(option);
      const reply = (type: number, ...parts: Part[]) => {
        const body = bytes(...parts);
        socket.write(bytes([8, 0x3e889045565a9n], [4, option], [4, type], [4, body.length], body));
      };
      const size = this.lie ?? this.content.length;
      if (option === OPTION.structuredReply && this.structured) {
        structured = true;
        reply(OPTION_REPLY.ack);
      } else if (option === OPTION.setMetaContext && this.contexts) {
        reply(OPTION_REPLY.metaContext, [4, 7], 'base:allocation');
        reply(OPTION_REPLY.ack);
      } else if (option === OPTION.go && this.go) {
        if (data.subarray(4, 4 + data.readUInt32BE(0)).toString() !== this.name) {
          reply(OPTION_REPLY.unknown, 'not\x1b[2J here');
          continue;
        }
        if (this.blocks) {
          const [minimum, preferred, maximum] = this.blocks;
          reply(OPTION_REPLY.info, [2, INFO.blockSize], [4, minimum], [4, preferred], [4, maximum]);
        }
        reply(OPTION_REPLY.info, [2, INFO.export], [8, BigInt(size)], [2, this.flags]);
        reply(OPTION_REPLY.ack);
        return structured;
      } else if (option === OPTION.exportName) {
        if (data.toString() !== this.name) throw new Error('no such export');
        const zeroes = Buffer.alloc(this.noZeroes ? 0 : 124);
        socket.write(bytes([8, BigInt(size)], [2, this.flags], zeroes));
        return structured;
      } else {
        reply(OPTION_REPLY.unsupported);
      }
    }
  }

  async #transmit(socket: net.Socket, read: Read, connection: number, structured: boolean) {
    for (;;) {
      const head = await read(28);
      const asked: Asked = {
        connection,
        flags: head.readUInt16BE(4),
        command: head.readUInt16BE(6),
        cookie: head.readBigUInt64BE(8),
        offset: Number(head.readBigUInt64BE(16)),
        length: head.readUInt32BE(24),
        payload: Buffer.alloc(0),
      };
      if (asked.command === COMMAND.disconnect) {
        this.goodbyes++;
        if (!this.lingers) socket.end();
        return;
      }
      const payload = asked.command === COMMAND.write ? await read(asked.length) : asked.payload;
      const whole = { ...asked, payload };
      this.asked.push(whole);
      const trick = this.trick(whole);
      if (trick === 'drop') throw new Error('dropped');
      if (trick === 'ignore') continue;
      if (trick instanceof Uint8Array) {
        socket.write(trick);
        continue;
      }
      socket.write(trick ? failure(whole, trick, structured) : this.#answer(whole, structured));
    }
  }

  #answer(asked: Asked, structured: boolean): Buffer {
    const { command, offset, length, payload, cookie } = asked;
    if (command === COMMAND.write) payload.copy(this.content, offset);
    if (command === COMMAND.writeZeroes) this.content.fill(0, offset, offset + length);
    if (command === COMMAND.flush) this.durable = Buffer.from(this.content);
    const data = this.content.subarray(offset, offset + length);
    if (command === COMMAND.blockStatus) {
      const extents = extentsOf(data).flatMap(({ length: l, zero }): Part[] => [
        [4, l],
        [4, zero ? ALLOCATION.hole | ALLOCATION.zero : 0],
      ]);
      return chunk(cookie, CHUNK.blockStatus, true, bytes([4, 7], ...extents));
    }
    if (command !== COMMAND.read) return simple(cookie, 0);
    if (!structured) return bytes(simple(cookie, 0), data);
    return sparse(cookie, offset, data);
  }
}

export type Part = string | Uint8Array | readonly [1 | 2 | 4 | 8, number | bigint];

/** Bytes of texts, of other bytes, and of numbers with their width. */
export function bytes(...parts: readonly Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'string') return Buffer.from(part);
      if (part instanceof Uint8Array) return part;
      const number = Buffer.alloc(8);
      number.writeBigUInt64BE(BigInt(part[1]));
      return number.subarray(8 - part[0]);
    }),
  );
}

export function simple(cookie: bigint, errno: number): Buffer {
  return bytes([4, 0x67446698], [4, errno], [8, cookie]);
}

export function chunk(cookie: bigint, type: number, last: boolean, payload: Uint8Array): Buffer {
  const head = bytes([4, 0x668e33ef], [2, last ? 1 : 0], [2, type], [8, cookie]);
  return bytes(head, [4, payload.length], payload);
}

function failure({ cookie, command }: Asked, trick: Trick & object, structured: boolean): Buffer {
  const { errno, text = '' } = trick as { errno: number; text?: string };
  if (!structured || command !== COMMAND.read) return simple(cookie, errno);
  return chunk(cookie, CHUNK.error, true, bytes([4, errno], [2, text.length], text));
}

/** A read as data and holes, the last part first: any order is allowed. */
export function sparse(cookie: bigint, offset: number, data: Uint8Array): Buffer {
  let at = offset;
  const chunks: { type: number; payload: Buffer }[] = [];
  for (const { length, zero } of extentsOf(data)) {
    const part = data.subarray(at - offset, at - offset + length);
    if (zero) chunks.push({ type: CHUNK.offsetHole, payload: bytes([8, at], [4, length]) });
    else chunks.push({ type: CHUNK.offsetData, payload: bytes([8, at], part) });
    at += length;
  }
  chunks.reverse();
  const rest = chunks.map(({ type, payload }, i) =>
    chunk(cookie, type, i === chunks.length - 1, payload),
  );
  return Buffer.concat(rest);
}

/** Runs of 512 bytes that are zero, or not. */
function extentsOf(data: Uint8Array): { length: number; zero: boolean }[] {
  const extents: { length: number; zero: boolean }[] = [];
  for (let at = 0; at < data.length; at += 512) {
    const piece = data.subarray(at, at + 512);
    const zero = piece.every((byte) => byte === 0);
    const before = extents.at(-1);
    if (before?.zero === zero) before.length += piece.length;
    else extents.push({ length: piece.length, zero });
  }
  return extents;
}

type Read = (count: number) => Promise<Buffer>;

function reader(socket: net.Socket): Read {
  let have = Buffer.alloc(0);
  let wake = () => {};
  let over = false;
  socket.on('data', (data) => {
    have = Buffer.concat([have, data]);
    wake();
  });
  socket.on('close', () => {
    over = true;
    wake();
  });
  return async (count) => {
    while (have.length < count) {
      if (over) throw new Error('gone');
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    const taken = have.subarray(0, count);
    have = have.subarray(count);
    return taken;
  };
}

/** Time that passes when a test says so. */
export class FakeClock {
  now = 0;
  /** What was slept, in order. */
  readonly slept: number[] = [];
  #sleepers: { at: number; wake: () => void }[] = [];

  sleep(ms: number): Promise<void> {
    this.slept.push(ms);
    return new Promise((wake) => {
      this.#sleepers.push({ at: this.now + ms, wake });
    });
  }

  /** Lets `ms` pass, with turns of the event loop in between. */
  async advance(ms: number, step = 50): Promise<void> {
    for (const end = this.now + ms; this.now < end; ) {
      this.now += step;
      const due = this.#sleepers.filter(({ at }) => at <= this.now);
      this.#sleepers = this.#sleepers.filter(({ at }) => at > this.now);
      for (const { wake } of due) wake();
      for (let turn = 0; turn < 4; turn++) await nextTurn();
    }
  }

  /** Lets time pass until a promise is settled, at most an hour. */
  async until<T>(work: T | Promise<T>): Promise<T> {
    const promise = Promise.resolve(work);
    let settled = false;
    const done = () => {
      settled = true;
    };
    promise.then(done, done);
    for (const end = this.now + 3_600_000; !settled; ) {
      if (this.now > end) throw new Error('never settled');
      await this.advance(50);
    }
    return await promise;
  }
}
