/**
 * A disk behind an NBD server. Transfers are cut into pieces of which several are in flight, from
 * and to the caller's memory without a copy of ours; disks with a minimum block are read and
 * written around the edges.
 *
 * What the laws of `BlockDevice` ask, a server has to promise: one without FLUSH can be read only.
 * A lost connection is opened again where nothing can be lost by it (`client-session.ts`); where
 * something can, the device has a fault: every read, write and flush fails with it from then on.
 */

import { assert } from '../base/assert.ts';
import type { KageError } from '../base/errors.ts';
import type { BlockDevice } from '../device/device.ts';
import { createRangeLock, type Part, partsOf, roundUp } from './client-blocks.ts';
import { openConnection } from './client-connection.ts';
import { protocolError, type Reply, type Request } from './client-protocol.ts';
import { NbdSession } from './client-session.ts';
import { pieceOf, replyError, writeRefusal } from './client-terms.ts';
import type { Clock } from './client-ticks.ts';
import type { Extent } from './export.ts';
import { formatNbdUri, type NbdUri, parseNbdUri } from './uri.ts';
import { COMMAND, PAYLOAD_BYTES_MAX, TRANSMISSION } from './wire.ts';

/** A block status goes over that many bytes at most: a multiple of every block. */
const STATUS_BYTES_MAX = 2 ** 31;

export type NbdDeviceOptions = {
  /** A `Host` is one. */
  readonly clock: Clock;
  readonly readOnly?: boolean;
  /** Requests in flight; 16. */
  readonly window?: number;
  /** Largest piece of a transfer, bytes; 1 MiB. */
  readonly pieceBytes?: number;
  /** Connecting and the handshake together, ms; 10 s. */
  readonly connectMs?: number;
  /** A connection is lost that gives no answer for so long, ms; 60 s, for a flush 10 min. */
  readonly answerMs?: number;
  readonly flushMs?: number;
  /** Attempts to reach a lost server again; 15, 0.1 s to 5 s apart, about a minute. */
  readonly reconnect?: {
    readonly attempts?: number;
    readonly firstMs?: number;
    readonly longestMs?: number;
  };
};

export class NbdDevice implements BlockDevice {
  // Fixed at creation
  /** The URI. */
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  /** Whether `blockStatus` knows anything. */
  readonly hasAllocation: boolean;
  readonly #session: NbdSession;
  readonly #minimum: number;
  readonly #piece: number;
  readonly #window: number;
  readonly #canFlush: boolean;
  readonly #canZero: boolean;
  readonly #alone = createRangeLock();

  // Changes while running
  /** Reads, changes and flushes that have not returned. */
  readonly #underWay = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;

  private constructor(name: string, session: NbdSession, options: NbdDeviceOptions) {
    const { agreed } = session;
    this.name = name;
    this.size = agreed.size;
    this.readOnly = options.readOnly ?? false;
    this.hasAllocation = agreed.allocationId !== undefined;
    this.#session = session;
    this.#minimum = agreed.minimum;
    this.#piece = pieceOf(agreed, options.pieceBytes ?? 1024 * 1024);
    this.#window = options.window ?? 16;
    this.#canFlush = (agreed.flags & TRANSMISSION.sendFlush) !== 0;
    this.#canZero = (agreed.flags & TRANSMISSION.sendWriteZeroes) !== 0;
  }

  /**
   * Connects, in one attempt. Throws 'usage' for a URI that cannot be meant, 'io-error' where no
   * server answers, 'image-missing' for an unknown export, 'image-readonly' and 'not-permitted' for
   * what the server or this runtime does not do.
   */
  static async connect(uri: string | NbdUri, options: NbdDeviceOptions): Promise<NbdDevice> {
    const parsed = typeof uri === 'string' ? parseNbdUri(uri) : uri;
    const name = formatNbdUri(parsed);
    const { clock, reconnect } = options;
    const session = await NbdSession.open(
      {
        server: name,
        clock,
        window: options.window ?? 16,
        answerMs: options.answerMs ?? 60_000,
        flushMs: options.flushMs ?? 600_000,
        attempts: reconnect?.attempts ?? 15,
        firstMs: reconnect?.firstMs ?? 100,
        longestMs: reconnect?.longestMs ?? 5000,
      },
      (events) => {
        const connectMs = options.connectMs ?? 10_000;
        return openConnection({ uri: parsed, server: name, clock, connectMs }, events);
      },
    );
    const refusal = options.readOnly ? undefined : writeRefusal(name, session.agreed);
    if (refusal === undefined) return new NbdDevice(name, session, options);
    await session.end();
    throw refusal;
  }

  /** Why nothing goes any more; undefined while all is well. */
  get faulted(): KageError | undefined {
    return this.#session.fault;
  }

  /** How often a lost connection was opened again. */
  get generation(): number {
    return this.#session.generation;
  }

  read(into: Uint8Array, offset: number): void | Promise<void> {
    this.#check(offset, into.byteLength);
    if (into.byteLength === 0) return;
    const read = this.#parts(offset, into.byteLength, async (part) => {
      const data = into.subarray(part.offset - offset, part.offset - offset + part.length);
      if (part.kind === 'whole') return await this.#transfer(COMMAND.read, part.offset, data);
      data.set((await this.#readBlock(part)).subarray(...within(part)));
    });
    return this.#counted(read);
  }

  write(from: Uint8Array, offset: number): void | Promise<void> {
    assert(!this.readOnly, 'write on a read-only device');
    this.#check(offset, from.byteLength);
    if (from.byteLength === 0) return;
    return this.#change(offset, from.byteLength, async (part) => {
      const data = from.subarray(part.offset - offset, part.offset - offset + part.length);
      if (part.kind === 'whole') return await this.#transfer(COMMAND.write, part.offset, data);
      await this.#patch(part, (edge) => edge.set(data));
    });
  }

  zero(offset: number, length: number): void | Promise<void> {
    assert(!this.readOnly, 'zero on a read-only device');
    this.#check(offset, length);
    if (length === 0) return;
    return this.#change(offset, length, async (part) => {
      if (part.kind === 'edge') await this.#patch(part, (edge) => edge.fill(0));
      else if (this.#canZero) await this.#zeroBlocks(part.offset, part.length);
      else await this.#writeZeros(part.offset, part.length);
    });
  }

  /** A flush that has failed fails for ever, as one of a lost server does. */
  async flush(): Promise<void> {
    assert(this.#closed === undefined, 'device used after close');
    const fault = this.#session.fault;
    if (fault !== undefined) throw fault;
    if (!this.#canFlush) return; // Then it is read-only, and nothing waits to be durable.
    const request = { command: COMMAND.flush, offset: 0, length: 0 };
    const reply = await this.#counted(this.#session.submit(request));
    if (reply.errno === 0) return;
    const error = this.#errorOf('sync', reply);
    this.#session.fail(error);
    throw this.#session.fault ?? error;
  }

  /**
   * What of a range is data, hole or zeros (`ALLOCATION`), from `offset` on: at least one extent,
   * all within the range. May end before it does; ask again from there. All of it is data where the
   * server does not say. Only the flag `zero` says something of the content.
   */
  async blockStatus(offset: number, length: number): Promise<Extent[]> {
    this.#check(offset, length);
    assert(length > 0, 'status of nothing');
    if (!this.hasAllocation) return [{ length, flags: 0 }];
    const start = offset - (offset % this.#minimum);
    const end = Math.min(offset + length, start + STATUS_BYTES_MAX);
    const asked = Math.min(this.size, roundUp(end, this.#minimum)) - start;
    const request = { command: COMMAND.blockStatus, offset: start, length: asked };
    const reply = await this.#counted(this.#session.submit(request));
    if (reply.errno !== 0) throw this.#errorOf(`block status at byte ${start}`, reply);
    const extents = clipped(reply.extents, offset - start, end - start);
    if (extents.length > 0) return extents;
    const error = protocolError(this.name, 'an extent that is no whole block');
    this.#session.fail(error);
    throw error;
  }

  /** Waits for what is under way, then ends the connection in order. Flushes nothing. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      await Promise.allSettled(this.#underWay);
      await this.#session.end();
    })();
    return this.#closed;
  }

  /** Remembers work until it is done: closing waits for it. */
  #counted<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    const done = () => this.#underWay.delete(work);
    work.then(done, done);
    return work;
  }

  #check(offset: number, length: number): void {
    assert(this.#closed === undefined, 'device used after close');
    assert(
      Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size,
      () => `range ${offset}+${length} outside ${this.name}`,
    );
  }

  /** Does the parts of a range side by side. */
  async #parts(offset: number, length: number, work: (part: Part) => Promise<void>): Promise<void> {
    await all(partsOf(offset, length, this.#minimum, this.size).map(work));
  }

  /** The same for a change, alone on its blocks where they may be shared with another change. */
  #change(offset: number, length: number, work: (part: Part) => Promise<void>): Promise<void> {
    const change = () => this.#parts(offset, length, work);
    if (this.#minimum === 1) return this.#counted(change());
    const start = offset - (offset % this.#minimum);
    const end = roundUp(offset + length, this.#minimum);
    return this.#counted(this.#alone(start, end, change));
  }

  async #readBlock({ block, blockLength }: Part & { kind: 'edge' }): Promise<Uint8Array> {
    const bytes = new Uint8Array(blockLength);
    await this.#transfer(COMMAND.read, block, bytes);
    return bytes;
  }

  async #patch(part: Part & { kind: 'edge' }, change: (edge: Uint8Array) => void): Promise<void> {
    const bytes = await this.#readBlock(part);
    change(bytes.subarray(...within(part)));
    await this.#transfer(COMMAND.write, part.block, bytes);
  }

  #transfer(command: number, offset: number, data: Uint8Array): Promise<void> {
    return this.#pieces(offset, data.byteLength, this.#piece, (at, length) => {
      const piece = data.subarray(at - offset, at - offset + length);
      return { command, offset: at, length, data: piece };
    });
  }

  #zeroBlocks(offset: number, length: number): Promise<void> {
    const command = COMMAND.writeZeroes;
    return this.#pieces(offset, length, PAYLOAD_BYTES_MAX, (at, count) => {
      return { command, offset: at, length: count };
    });
  }

  #writeZeros(offset: number, length: number): Promise<void> {
    const zeros = new Uint8Array(Math.min(length, this.#piece));
    return this.#pieces(offset, length, this.#piece, (at, count) => {
      return { command: COMMAND.write, offset: at, length: count, data: zeros.subarray(0, count) };
    });
  }

  /**
   * Sends a range in pieces, as many at a time as the window has room for. After a failure no
   * further piece is sent; it throws when none is under way any more, so that the memory is the
   * caller's again.
   */
  async #pieces(
    offset: number,
    length: number,
    most: number,
    request: (offset: number, length: number) => Omit<Request, 'reply'>,
  ): Promise<void> {
    const end = offset + length;
    let next = offset;
    let failed = false;
    const lane = async () => {
      while (next < end && !failed) {
        const at = next;
        // Later pieces begin at multiples of `most`.
        next = Math.min(end, at - (at % most) + most);
        try {
          const sent = request(at, next - at);
          const reply = await this.#session.submit(sent);
          if (reply.errno !== 0) throw this.#errorOf(`${WORDS[sent.command]} at byte ${at}`, reply);
        } catch (error) {
          failed = true;
          throw error;
        }
      }
    };
    const lanes = Math.min(this.#window, Math.ceil(length / most) + 1);
    await all(Array.from({ length: lanes }, lane));
  }

  #errorOf(what: string, reply: Reply): KageError {
    return replyError(this.name, what, reply);
  }
}

const WORDS: Readonly<Record<number, string>> = {
  [COMMAND.read]: 'reading',
  [COMMAND.write]: 'writing',
  [COMMAND.writeZeroes]: 'zeroing',
};

/** Where an edge lies in its block, begin and end. */
function within({ offset, length, block }: Part & { kind: 'edge' }): [number, number] {
  return [offset - block, offset - block + length];
}

/** Waits for all, then throws what failed first in the list. */
async function all(work: readonly Promise<void>[]): Promise<void> {
  if (work.length === 1) return await work[0];
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

/** The part [start, end) of extents that begin at 0; neighbours differ. */
function clipped(extents: readonly Extent[], start: number, end: number): Extent[] {
  const result: Extent[] = [];
  let at = 0;
  for (const { length, flags } of extents) {
    const from = Math.max(at, start);
    const to = Math.min(at + length, end);
    if (from < to) result.push({ length: to - from, flags });
    at += length;
  }
  return result;
}
