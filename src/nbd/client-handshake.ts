/**
 * The client's half of the fixed newstyle handshake, pure over bytes: what to send, how many bytes
 * to wait for. Options: STARTTLS (where TLS is wanted nothing goes on without it),
 * STRUCTURED_REPLY, SET_META_CONTEXT, GO with the block sizes, and EXPORT_NAME for servers that
 * have no GO.
 *
 * A server that breaks the protocol is an error. No reply is longer than `OPTION_BYTES_MAX`, and no
 * option has more than `OPTION_REPLIES_MAX` of them: memory is bounded whatever the server claims.
 */

import { KageError } from '../base/errors.ts';
import { IMAGE_SIZE_MAX } from '../base/limits.ts';
import { plainText, protocolError, u64 } from './client-protocol.ts';
import {
  BASE_ALLOCATION,
  HANDSHAKE,
  IHAVEOPT,
  INFO,
  NBDMAGIC,
  OPTION,
  OPTION_HEADER_BYTES,
  OPTION_REPLY,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  PAYLOAD_BYTES_MAX,
  TEXT_BYTES_MAX,
  TRANSMISSION,
} from './wire.ts';

/** Data of one option reply, bytes: a text, and the numbers before it. */
const OPTION_BYTES_MAX = TEXT_BYTES_MAX + 64;
const OPTION_REPLIES_MAX = 64;
/** Magic of servers from before 2011, in place of IHAVEOPT. */
const OLDSTYLE_MAGIC = 0x00420281861253n;
const BLOCK_MINIMUM_MAX = 65_536;

export type HandshakeWish = {
  /** What messages call the server. */
  readonly server: string;
  readonly exportName: string;
  readonly tls: boolean;
  /** Asks for the context `base:allocation`. */
  readonly allocation: boolean;
};

/** What server and client have agreed on. Sizes are bytes. */
export type Negotiated = {
  readonly size: number;
  /** TRANSMISSION. */
  readonly flags: number;
  readonly structured: boolean;
  /** Id of `base:allocation` in replies; undefined where the server does not have it. */
  readonly allocationId: number | undefined;
  /** Every offset and length is a multiple of `minimum`; a payload has at most `maximum`. */
  readonly minimum: number;
  readonly maximum: number;
};

type Step = { readonly send: Uint8Array } | { readonly read: number } | 'start-tls';
type Steps<T> = Generator<Step, T, Uint8Array>;
type OptionReply = { readonly type: number; readonly data: Uint8Array };

export type HandshakeDriver = {
  /** Bytes of the server, cut anywhere. Throws a KageError; nothing may be pushed after that. */
  push(bytes: Uint8Array): void;
  /** TLS is on: the handshake goes on inside it. */
  secured(): void;
};

/** What the driver asks of the connection. */
export type HandshakeActions = {
  send(bytes: Uint8Array): void;
  startTls(): void;
  done(negotiated: Negotiated): void;
};

/** Starts the handshake: the server speaks first. */
export function startHandshake(wish: HandshakeWish, actions: HandshakeActions): HandshakeDriver {
  const steps = handshake(wish);
  let wanted = new Uint8Array(0);
  let filled = 0;
  let state: 'reading' | 'securing' | 'done' = 'reading';
  let agreed: Negotiated | undefined;

  /** Runs up to the next wait. */
  function advance(got: Uint8Array): void {
    for (let next = steps.next(got); ; next = steps.next(got)) {
      if (next.done) {
        state = 'done';
        agreed = next.value;
        return;
      }
      const step = next.value;
      if (step === 'start-tls') {
        state = 'securing';
        return;
      }
      if ('send' in step) actions.send(step.send);
      else if (step.read > 0) {
        wanted = new Uint8Array(step.read);
        filled = 0;
        return;
      } else got = wanted = new Uint8Array(0);
    }
  }
  advance(wanted);

  return {
    push(bytes) {
      let at = 0;
      while (at < bytes.byteLength) {
        // Whoever can write on the wire could put words into the encrypted part, CVE-2021-3716.
        if (state !== 'reading') throw protocolError(wish.server, 'it spoke out of turn');
        const count = Math.min(wanted.byteLength - filled, bytes.byteLength - at);
        wanted.set(bytes.subarray(at, at + count), filled);
        filled += count;
        at += count;
        if (filled === wanted.byteLength) advance(wanted);
      }
      if (state === 'securing') actions.startTls();
      if (agreed !== undefined) actions.done(agreed);
    },
    secured() {
      state = 'reading';
      advance(new Uint8Array(0));
    },
  };
}

function* handshake(wish: HandshakeWish): Steps<Negotiated> {
  const noZeroes = yield* greet(wish);
  if (wish.tls) yield* startTls(wish);
  const structured = yield* structuredReplies(wish);
  const allocationId = structured && wish.allocation ? yield* setContext(wish) : undefined;
  const agreed = { structured, allocationId };
  return (yield* go(wish, agreed)) ?? (yield* exportName(wish, agreed, noZeroes));
}

function* greet({ server }: HandshakeWish): Steps<boolean> {
  const hello = viewOf(yield { read: 18 });
  if (hello.getBigUint64(0) !== NBDMAGIC) {
    throw new KageError('io-error', `${server}: this is no NBD server`, { data: { path: server } });
  }
  const style = hello.getBigUint64(8);
  const flags = hello.getUint16(16);
  if (style !== IHAVEOPT && style !== OLDSTYLE_MAGIC) throw protocolError(server, 'wrong magic');
  if (style === OLDSTYLE_MAGIC || !(flags & HANDSHAKE.fixedNewstyle)) {
    throw refused(server, 'the server speaks only an old form of NBD (fixed newstyle is needed)');
  }
  const noZeroes = (flags & HANDSHAKE.noZeroes) !== 0;
  const answer = new Uint8Array(4);
  answer[3] = HANDSHAKE.fixedNewstyle | (noZeroes ? HANDSHAKE.noZeroes : 0);
  yield { send: answer };
  return noZeroes;
}

function* startTls({ server }: HandshakeWish): Steps<void> {
  const reply = yield* ask(server, OPTION.startTls, new Uint8Array(0));
  if (reply.type !== OPTION_REPLY.ack) {
    const hint = 'nbd:// connects without encryption';
    throw refused(server, `the server has no TLS${saying(reply)}`, hint);
  }
  yield 'start-tls';
}

function* structuredReplies({ server }: HandshakeWish): Steps<boolean> {
  const reply = yield* ask(server, OPTION.structuredReply, new Uint8Array(0));
  if (reply.type === OPTION_REPLY.tlsRequired || reply.type === OPTION_REPLY.shutdown) {
    throw optionError(server, '', reply);
  }
  return reply.type === OPTION_REPLY.ack;
}

/** Id of the context, undefined where the server does not have it. */
function* setContext({ server, exportName }: HandshakeWish): Steps<number | undefined> {
  const name = encode(exportName);
  const query = encode(BASE_ALLOCATION);
  const data = joined([u32(name.byteLength), name, u32(1), u32(query.byteLength), query]);
  let id: number | undefined;
  // An error means no context; whether there is such an export GO will tell.
  yield* ask(server, OPTION.setMetaContext, data, (reply) => {
    if (reply.type !== OPTION_REPLY.metaContext || reply.data.byteLength < 5) return false;
    // A context that was not asked for would come with replies that nobody reads.
    if (id !== undefined || decode(reply.data.subarray(4)) !== BASE_ALLOCATION) return false;
    id = viewOf(reply.data).getUint32(0);
    return true;
  });
  return id;
}

type Agreed = Pick<Negotiated, 'structured' | 'allocationId'>;

/** Undefined where the server does not know GO. */
function* go(wish: HandshakeWish, agreed: Agreed): Steps<Negotiated | undefined> {
  const { server } = wish;
  const name = encode(wish.exportName);
  const data = joined([u32(name.byteLength), name, u16(1), u16(INFO.blockSize)]);
  let found: { size: number; flags: number } | undefined;
  let blocks = UNSAID;
  const last = yield* ask(server, OPTION.go, data, (reply) => {
    if (reply.type !== OPTION_REPLY.info || reply.data.byteLength < 2) return false;
    const view = viewOf(reply.data);
    const kind = view.getUint16(0);
    if (kind === INFO.export) {
      if (reply.data.byteLength !== 12) return false;
      found = { size: u64(view, 2), flags: view.getUint16(10) };
    } else if (kind === INFO.blockSize) {
      if (reply.data.byteLength !== 14) return false;
      blocks = { minimum: view.getUint32(2), maximum: view.getUint32(10) };
    }
    return true;
  });
  if (last.type === OPTION_REPLY.unsupported) return undefined;
  if (last.type !== OPTION_REPLY.ack) throw optionError(server, wish.exportName, last);
  if (found === undefined) throw protocolError(server, 'GO without the size of the export');
  return checked(server, { ...found, ...agreed, ...blocks });
}

/** What a server that says nothing of block sizes must take. */
const UNSAID = { minimum: 1, maximum: PAYLOAD_BYTES_MAX };

function* exportName(wish: HandshakeWish, agreed: Agreed, noZeroes: boolean): Steps<Negotiated> {
  yield { send: optionOf(OPTION.exportName, encode(wish.exportName)) };
  const view = viewOf(yield { read: noZeroes ? 10 : 134 });
  const found = { size: u64(view, 0), flags: view.getUint16(8) };
  return checked(wish.server, { ...found, ...agreed, ...UNSAID });
}

function checked(server: string, found: Negotiated): Negotiated {
  const { size, minimum, maximum } = found;
  if (size > IMAGE_SIZE_MAX) throw refused(server, 'the export is larger than 4 PiB');
  if (minimum < 1 || minimum > BLOCK_MINIMUM_MAX || (minimum & (minimum - 1)) !== 0) {
    throw protocolError(server, `a minimum block size of ${minimum} bytes`);
  }
  if (maximum < Math.max(minimum, 512)) {
    throw protocolError(server, `a maximum block size of ${maximum} bytes`);
  }
  const flags = found.flags & TRANSMISSION.hasFlags ? found.flags : 0;
  return { ...found, flags, maximum: maximum - (maximum % minimum) };
}

/**
 * Sends an option; the reply that ends it: an ACK or an error. `more` is handed all others, and
 * returns false for one that the option does not have.
 */
function* ask(
  server: string,
  option: number,
  data: Uint8Array,
  more: (reply: OptionReply) => boolean = () => false,
): Steps<OptionReply> {
  yield { send: optionOf(option, data) };
  for (let count = 0; count < OPTION_REPLIES_MAX; count++) {
    const header = viewOf(yield { read: OPTION_REPLY_HEADER_BYTES });
    if (header.getBigUint64(0) !== OPTION_REPLY_MAGIC) throw protocolError(server, 'wrong magic');
    if (header.getUint32(8) !== option) throw protocolError(server, 'reply to another option');
    const type = header.getUint32(12);
    const length = header.getUint32(16);
    if (length > OPTION_BYTES_MAX) throw protocolError(server, `a reply of ${length} bytes`);
    const reply = { type, data: yield { read: length } };
    if (type >= 2 ** 31) return reply;
    if (type === OPTION_REPLY.ack) {
      if (length > 0) throw protocolError(server, 'an acknowledgement with data');
      return reply;
    }
    if (!more(reply)) throw protocolError(server, `reply ${type} to option ${option}`);
  }
  throw protocolError(server, 'replies to an option without an end');
}

function optionError(server: string, name: string, reply: OptionReply): KageError {
  const said = saying(reply);
  switch (reply.type) {
    case OPTION_REPLY.unknown: {
      const which = name === '' ? 'no default export' : `no export ${plainText(encode(name))}`;
      return new KageError('image-missing', `${server}: the server has ${which}${said}`, {
        hint: 'the export is what stands behind the host: nbd://HOST/EXPORT',
        data: { path: server },
      });
    }
    case OPTION_REPLY.tlsRequired:
      return refused(server, `the server wants TLS${said}`, 'nbds:// connects with encryption');
    case OPTION_REPLY.shutdown:
      return new KageError('io-error', `${server}: the server is stopping${said}`, {
        data: { path: server },
      });
    default:
      return refused(server, `the server refuses the export${said}`);
  }
}

function refused(server: string, what: string, hint?: string): KageError {
  return new KageError('not-permitted', `${server}: ${what}`, { hint, data: { path: server } });
}

function saying({ data }: OptionReply): string {
  const text = plainText(data);
  return text === '' ? '' : ` (${text})`;
}

function optionOf(option: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(OPTION_HEADER_BYTES + data.byteLength);
  const view = viewOf(bytes);
  view.setBigUint64(0, IHAVEOPT);
  view.setUint32(8, option);
  view.setUint32(12, data.byteLength);
  bytes.set(data, OPTION_HEADER_BYTES);
  return bytes;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

const u16 = (value: number) => Uint8Array.of(value >>> 8, value);
const u32 = (value: number) => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
