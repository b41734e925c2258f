/**
 * The client's half of the transmission phase, pure over bytes: requests are encoded, replies are
 * read, simple and structured, cut anywhere. Data goes from the server's bytes straight to where
 * the read wants it.
 *
 * A reply counts only if all of it is right: a read is whole, no byte of it came twice or from
 * elsewhere. Everything else is a broken protocol and throws; nothing may be pushed after that. No
 * memory is taken by what a server claims. Requests carry no command flags at all.
 */

import { KageError } from '../base/errors.ts';
import type { Extent } from './export.ts';
import {
  CHUNK,
  CHUNK_DONE,
  CHUNK_HEADER_BYTES,
  COMMAND,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
  TEXT_BYTES_MAX,
} from './wire.ts';

const ERROR_BIT = 2 ** 15;
/** Payload of an error chunk, bytes: number, length of the text, text, offset. */
const ERROR_BYTES_MIN = 6;
const ERROR_BYTES_MAX = ERROR_BYTES_MIN + TEXT_BYTES_MAX + 8;
/** Extents in one chunk: what servers send at most. */
const EXTENTS_MAX = 2 ** 20;
/** Of them that many are kept: the caller asks again for the rest. */
const EXTENTS_KEPT = 2 ** 16;
/**
 * Separate parts in which the data of one read may arrive; servers send it in order, which is one.
 */
const ISLANDS_MAX = 1024;
/** Of a text of the server people see that many characters. */
const TEXT_SHOWN = 200;

/** A request in flight. Offset and length are bytes, the length above 0 (but for a flush). */
export type Request = {
  /** COMMAND. */
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  /** What is written, or where to read to: `length` bytes. */
  readonly data?: Uint8Array;
  /** Grows while the reply arrives; fresh for each time that the request is sent. */
  reply: Reply;
};

export type Reply = {
  /** ERRNO of the first error; 0 without one. */
  errno: number;
  /** What the server says to it. */
  text: string;
  /** Of a block status: the first one begins at the request's offset. */
  extents: Extent[];
  /** Begins and ends of the parts of a read that are there, in order, none touching another. */
  islands: number[];
  /** Bytes of data that have come. */
  arrived: number;
};

export function freshReply(): Reply {
  return { errno: 0, text: '', extents: [], islands: [], arrived: 0 };
}

export type ReplyRules = {
  /** What messages call the server. */
  readonly server: string;
  readonly structured: boolean;
  readonly allocationId: number | undefined;
  /** The request in flight that has the cookie. */
  find(cookie: number): Request | undefined;
  /** The reply is whole. The request is no longer in flight after that. */
  done(cookie: number, request: Request): void;
};

/** 28 bytes; cookies are safe integers. A write's data follows it on the wire. */
export function encodeRequest(cookie: number, request: Request): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, REQUEST_MAGIC);
  view.setUint16(6, request.command);
  setU64(view, 8, cookie);
  setU64(view, 16, request.offset);
  view.setUint32(24, request.length);
  return bytes;
}

type Chunk = {
  readonly cookie: number;
  readonly request: Request;
  readonly type: number;
  readonly last: boolean;
  /** Bytes of payload. */
  readonly length: number;
};

/** Returns the function that takes the server's bytes. It throws a `protocolError`. */
export function createReplyParser(rules: ReplyRules): (bytes: Uint8Array) => void {
  const small = new Uint8Array(ERROR_BYTES_MAX);
  const view = new DataView(small.buffer);
  let filled = 0;
  let wanted = SIMPLE_REPLY_BYTES;
  /** Runs when `wanted` bytes are in `small`. */
  let then = header;
  let chunk: Chunk;
  /** Where data goes that is on the way. */
  let target: Uint8Array | undefined;
  let targetAt = 0;
  /** Bytes of the extents of the chunk so far, and how many extents are to come. */
  let described = 0;
  let extentsLeft = 0;
  let keeping = true;

  const broken = (what: string) => protocolError(rules.server, what);

  function want(bytes: number, step: () => void): void {
    filled = 0;
    wanted = bytes;
    then = step;
  }

  function header(): void {
    const magic = view.getUint32(0);
    if (magic === SIMPLE_REPLY_MAGIC) simpleReply();
    else if (magic !== STRUCTURED_REPLY_MAGIC || !rules.structured) throw broken('wrong magic');
    else {
      wanted = CHUNK_HEADER_BYTES;
      then = chunkHeader;
    }
  }

  function find(cookie: number): Request {
    const request = rules.find(cookie);
    if (request === undefined) throw broken('a reply to nothing that was asked');
    return request;
  }

  function simpleReply(): void {
    const cookie = u64(view, 8);
    const request = find(cookie);
    const errno = view.getUint32(4);
    const { command } = request;
    if (rules.structured && command === COMMAND.read) throw broken('a simple reply to a read');
    if (errno === 0 && command === COMMAND.blockStatus) throw broken('a status without extents');
    request.reply.errno = errno;
    chunk = { cookie, request, type: CHUNK.offsetData, last: true, length: 0 };
    if (errno === 0 && command === COMMAND.read) receive(request.offset, request.length);
    else endOfChunk();
  }

  function chunkHeader(): void {
    const flags = view.getUint16(4);
    const type = view.getUint16(6);
    const cookie = u64(view, 8);
    const length = view.getUint32(16);
    if ((flags & ~CHUNK_DONE) !== 0) throw broken(`a reply with flags ${flags}`);
    chunk = { cookie, request: find(cookie), type, last: flags === CHUNK_DONE, length };
    const { command } = chunk.request;
    if (type === CHUNK.none) {
      if (length !== 0 || !chunk.last) throw broken('an empty chunk that is not the end');
      endOfChunk();
    } else if (type >= ERROR_BIT) {
      if (length < ERROR_BYTES_MIN || length > ERROR_BYTES_MAX) throw broken('length of an error');
      want(length, errorChunk);
    } else if (type === CHUNK.offsetData && command === COMMAND.read && length > 8) {
      want(8, () => receive(u64(view, 0), length - 8));
    } else if (type === CHUNK.offsetHole && command === COMMAND.read && length === 12) {
      want(12, hole);
    } else if (type === CHUNK.blockStatus && command === COMMAND.blockStatus) {
      if (length < 12 || length % 8 !== 4 || length > 4 + 8 * EXTENTS_MAX) {
        throw broken('length of a block status');
      }
      want(4, blockStatus);
    } else {
      throw broken(`a chunk of type ${type} and ${length} bytes to command ${command}`);
    }
  }

  /** Claims the range of the read that a chunk brings, and returns where it goes. */
  function place(offset: number, length: number): Uint8Array {
    const { request } = chunk;
    const start = offset - request.offset;
    if (start < 0 || length < 1 || length > request.length - start) {
      throw broken('data from outside of what was asked');
    }
    if (!claim(request.reply.islands, start, start + length)) {
      throw broken('data that overlaps, or in too many parts');
    }
    return request.data!.subarray(start, start + length);
  }

  function receive(offset: number, length: number): void {
    target = place(offset, length);
    targetAt = 0;
  }

  function hole(): void {
    place(u64(view, 0), view.getUint32(8)).fill(0);
    chunk.request.reply.arrived += view.getUint32(8);
    endOfChunk();
  }

  function errorChunk(): void {
    const errno = view.getUint32(0);
    const end = ERROR_BYTES_MIN + view.getUint16(4);
    const rest = chunk.length - end;
    if (errno === 0) throw broken('an error without a number');
    if (rest < 0 || (chunk.type === CHUNK.error && rest !== 0)) throw broken('length of an error');
    if (chunk.type === CHUNK.errorOffset && rest !== 8) throw broken('length of an error');
    const { reply } = chunk.request;
    if (reply.errno === 0) {
      reply.errno = errno;
      reply.text = plainText(small.subarray(ERROR_BYTES_MIN, end));
    }
    endOfChunk();
  }

  function blockStatus(): void {
    if (view.getUint32(0) !== rules.allocationId) throw broken('a context that was not asked for');
    if (chunk.request.reply.extents.length > 0) throw broken('the same context twice');
    described = 0;
    keeping = true;
    extentsLeft = (chunk.length - 4) / 8;
    want(8, extent);
  }

  function extent(): void {
    const length = view.getUint32(0);
    const flags = view.getUint32(4);
    if (length === 0 || described >= chunk.request.length) throw broken('an extent too many');
    described += length;
    const { extents } = chunk.request.reply;
    const before = extents.at(-1);
    if (keeping && before?.flags === flags) before.length += length;
    else if (keeping) keeping = extents.push({ length, flags }) < EXTENTS_KEPT;
    if (--extentsLeft > 0) want(8, extent);
    else endOfChunk();
  }

  function endOfChunk(): void {
    want(SIMPLE_REPLY_BYTES, header);
    const { cookie, request, last } = chunk;
    if (!last) return;
    const { errno, extents, islands } = request.reply;
    if (errno === 0 && request.command === COMMAND.read) {
      const whole = islands.length === 2 && islands[1] - islands[0] === request.length;
      if (!whole) throw broken('a read that is not whole');
    }
    if (errno === 0 && request.command === COMMAND.blockStatus && extents.length === 0) {
      throw broken('a status without extents');
    }
    rules.done(cookie, request);
  }

  return (bytes) => {
    let at = 0;
    while (at < bytes.byteLength) {
      if (target !== undefined) {
        const count = Math.min(target.byteLength - targetAt, bytes.byteLength - at);
        target.set(bytes.subarray(at, at + count), targetAt);
        targetAt += count;
        at += count;
        chunk.request.reply.arrived += count;
        if (targetAt < target.byteLength) continue;
        target = undefined;
        endOfChunk();
      } else {
        const count = Math.min(wanted - filled, bytes.byteLength - at);
        small.set(bytes.subarray(at, at + count), filled);
        filled += count;
        at += count;
        if (filled === wanted) then();
      }
    }
  };
}

/**
 * Adds [start, end) to the islands, in order and joined where they touch. False, and nothing is
 * added, where it overlaps one or they become too many.
 */
function claim(islands: number[], start: number, end: number): boolean {
  let at = islands.length;
  while (at > 0 && islands[at - 2] >= end) at -= 2;
  // All before `at` begin before `end`: only the nearest can reach into the range.
  if (at > 0 && islands[at - 1] > start) return false;
  const joinsBefore = at > 0 && islands[at - 1] === start;
  const joinsAfter = islands[at] === end;
  if (joinsBefore && joinsAfter) islands.splice(at - 1, 2);
  else if (joinsBefore) islands[at - 1] = end;
  else if (joinsAfter) islands[at] = start;
  else if (islands.length >= 2 * ISLANDS_MAX) return false;
  else islands.splice(at, 0, start, end);
  return true;
}

/** The server said what the protocol does not have: it is not to be believed any more. */
export function protocolError(server: string, what: string): KageError {
  return new KageError('io-error', `${server}: the server broke the NBD protocol: ${what}`, {
    data: { path: server, protocol: true },
  });
}

/** A text of the server as a line for people: short, nothing in it that moves a cursor. */
export function plainText(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes.subarray(0, 4 * TEXT_SHOWN));
  return text
    .replace(/[\p{C}\s]+/gu, ' ')
    .trim()
    .slice(0, TEXT_SHOWN);
}

/** Inexact above 2^53, and then larger than anything it is compared with. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}
