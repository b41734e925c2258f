/**
 * The client's protocol over bytes alone: every cut of what an honest server says gives the same,
 * and whatever else comes is an error with a code, in bounded time and memory.
 */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import {
  type HandshakeWish,
  type Negotiated,
  startHandshake,
} from '../../src/nbd/client-handshake.ts';
import {
  createReplyParser,
  encodeRequest,
  freshReply,
  type Reply,
  type Request,
} from '../../src/nbd/client-protocol.ts';
import { CHUNK, COMMAND, INFO, OPTION, OPTION_REPLY } from '../../src/nbd/wire.ts';
import { bytes, chunk, type Part, simple } from './client-fake.ts';

const test = suite('nbd: the client protocol');

/** Runs something that must fail as a broken or refusing server, not as a bug. */
function fails(work: () => unknown, says: RegExp, what: string): void {
  try {
    work();
  } catch (error) {
    assert.instance(error, KageError, `${what}: ${error}`);
    assert.match((error as KageError).message, says, what);
    return;
  }
  assert.unreachable(`${what}: no error`);
}

function* cutsOf(all: Uint8Array): Generator<Uint8Array[]> {
  yield [all];
  yield Array.from(all, (_, i) => all.subarray(i, i + 1));
  for (let at = 1; at < all.length; at++) yield [all.subarray(0, at), all.subarray(at)];
}

// Handshake

const WISH: HandshakeWish = { server: 'S', exportName: 'disk', tls: false, allocation: true };
const HELLO = bytes('NBDMAGIC', 'IHAVEOPT', [2, 3]);

function option(number: number, type: number, ...parts: readonly Part[]): Buffer {
  const data = bytes(...parts);
  return bytes([8, 0x3e889045565a9n], [4, number], [4, type], [4, data.length], data);
}

const ACK = OPTION_REPLY.ack;
const EXPORT = option(OPTION.go, OPTION_REPLY.info, [2, INFO.export], [8, 1_000_000], [2, 0x65]);
const BLOCKS = (minimum: number, preferred: number, maximum: number) =>
  option(OPTION.go, OPTION_REPLY.info, [2, 3], [4, minimum], [4, preferred], [4, maximum]);
const CONTEXT = option(OPTION.setMetaContext, 4, [4, 9], 'base:allocation');

/** Says `all` to the client; what the client said, as the numbers of its options. */
function shake(pieces: readonly Uint8Array[], wish = WISH) {
  const sent: Uint8Array[] = [];
  let result: Negotiated | undefined;
  let tls = 0;
  const driver = startHandshake(wish, {
    send: (b) => sent.push(b.slice()),
    startTls: () => tls++,
    done(negotiated) {
      assert.is(result, undefined, 'done once');
      result = negotiated;
    },
  });
  for (const piece of pieces) driver.push(piece);
  return { result, sent: Buffer.concat(sent), driver, tls: () => tls };
}

test('handshake: every cut agrees on the same', () => {
  const all = bytes(
    HELLO,
    option(OPTION.structuredReply, ACK),
    CONTEXT,
    option(OPTION.setMetaContext, ACK),
    option(OPTION.go, OPTION_REPLY.info, [2, INFO.description], 'a disk'),
    BLOCKS(512, 4096, 1_000_000),
    EXPORT,
    option(OPTION.go, ACK),
  );
  const said = bytes(
    [4, 3],
    'IHAVEOPT',
    [4, 8],
    [4, 0],
    'IHAVEOPT',
    [4, 10],
    [4, 4 + 4 + 4 + 4 + 15],
    [4, 4],
    'disk',
    [4, 1],
    [4, 15],
    'base:allocation',
    'IHAVEOPT',
    [4, 7],
    [4, 4 + 4 + 2 + 2],
    [4, 4],
    'disk',
    [2, 1],
    [2, 3],
  );
  for (const pieces of cutsOf(all)) {
    const { result, sent } = shake(pieces);
    const maximum = 1_000_000 - (1_000_000 % 512);
    const sizes = { size: 1_000_000, minimum: 512, maximum };
    assert.equal(result, { ...sizes, flags: 0x65, structured: true, allocationId: 9 });
    assert.is(sent.toString('hex'), said.toString('hex'));
  }
});

test('handshake: a server that knows EXPORT_NAME only, with and without the zeroes', () => {
  for (const flags of [1, 3]) {
    const unknown = (number: number) => option(number, OPTION_REPLY.unsupported, 'what?');
    const zeroes = Buffer.alloc(flags === 1 ? 124 : 0);
    const all = bytes(
      bytes('NBDMAGIC', 'IHAVEOPT', [2, flags]),
      unknown(OPTION.structuredReply),
      unknown(OPTION.go),
      bytes([8, 4096], [2, 5], zeroes),
    );
    for (const pieces of cutsOf(all)) {
      const { result, sent } = shake(pieces);
      assert.equal(result, {
        size: 4096,
        flags: 5,
        structured: false,
        allocationId: undefined,
        minimum: 1,
        maximum: 32 * 1024 * 1024,
      });
      assert.is(sent.subarray(0, 4).readUInt32BE(), flags, 'no flag that was not offered');
      assert.is(sent.subarray(-20).toString('latin1'), 'IHAVEOPT\0\0\0\x01\0\0\0\x04disk');
    }
  }
});

test('handshake: TLS comes first, and nothing is taken from before it', () => {
  const wish = { ...WISH, tls: true };
  const first = bytes(HELLO, option(OPTION.startTls, ACK));
  const { driver, sent, tls } = shake([first], wish);
  assert.is(tls(), 1);
  assert.is(sent.toString('latin1'), '\0\0\0\x03IHAVEOPT\0\0\0\x05\0\0\0\0');
  fails(() => driver.push(Uint8Array.of(0)), /out of turn/, 'before TLS is on');
  const injected = bytes(first, option(OPTION.structuredReply, ACK));
  fails(() => shake([injected], wish), /out of turn/, 'in the same packet');
  fails(
    () => shake([bytes(HELLO, option(OPTION.startTls, OPTION_REPLY.unsupported))], wish),
    /server has no TLS/,
    'never on without it',
  );
});

test('handshake: contexts are one, none, or a breach', () => {
  const upTo = bytes(HELLO, option(OPTION.structuredReply, ACK));
  const rest = bytes(EXPORT, option(OPTION.go, ACK));
  const id = (...middle: Buffer[]) => shake([bytes(upTo, ...middle, rest)]).result?.allocationId;
  const done = option(OPTION.setMetaContext, ACK);
  assert.is(id(CONTEXT, done), 9);
  assert.is(id(done), undefined);
  assert.is(id(option(OPTION.setMetaContext, OPTION_REPLY.policy, 'no')), undefined);
  fails(() => id(CONTEXT, CONTEXT, done), /broke/, 'the same twice');
  const other = option(OPTION.setMetaContext, 4, [4, 9], 'qemu:allocation-depth');
  fails(() => id(other, done), /broke/, 'another');
  const { result } = shake([bytes(upTo, rest)], { ...WISH, allocation: false });
  assert.is(result?.allocationId, undefined);
});

test('handshake: a server that refuses or breaks the protocol is an error with a reason', () => {
  const plain = bytes(
    HELLO,
    option(OPTION.structuredReply, ACK),
    option(OPTION.setMetaContext, ACK),
  );
  const go = (type: number, ...parts: readonly Part[]) =>
    bytes(plain, option(OPTION.go, type, ...parts));
  const sized = (size: bigint) =>
    bytes(plain, option(OPTION.go, 3, [2, 0], [8, size], [2, 1]), option(OPTION.go, ACK));
  const blocks = (...b: [number, number, number]) =>
    bytes(plain, BLOCKS(...b), EXPORT, option(OPTION.go, ACK));
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['a web server', bytes('HTTP/1.1 400 Bad Request\r\n'), /no NBD server/],
    ['oldstyle', bytes('NBDMAGIC', [8, 0x420281861253n], [2, 0]), /old form/],
    ['not fixed', bytes('NBDMAGIC', 'IHAVEOPT', [2, 0]), /old form/],
    ['wrong style', bytes('NBDMAGIC', 'IHAVEOPX', [2, 3]), /broke.*magic/],
    ['reply magic', bytes(HELLO, [8, 1n], [4, 8], [4, 1], [4, 0]), /broke.*magic/],
    ['another option', bytes(HELLO, option(OPTION.go, ACK)), /another option/],
    ['ack with data', bytes(HELLO, option(8, ACK, 'x')), /with data/],
    ['info to option 8', bytes(HELLO, option(8, 3, 'x')), /reply 3 to option 8/],
    ['too long', bytes(HELLO, [8, 0x3e889045565a9n], [4, 8], [4, 1], [4, 2 ** 31]), /bytes/],
    ['no size', go(ACK), /without the size/],
    ['short size', go(3, [2, 0], [4, 0]), /reply 3/],
    ['short blocks', go(3, [2, 3], [4, 0]), /reply 3/],
    ['TLS wanted', bytes(HELLO, option(8, OPTION_REPLY.tlsRequired)), /wants TLS/],
    ['TLS for the export', go(OPTION_REPLY.tlsRequired), /wants TLS/],
    ['unknown', go(OPTION_REPLY.unknown, 'not here'), /no export disk \(not here\)/],
    ['policy', go(OPTION_REPLY.policy, '\x1b[2Jno\n\nway'), /refuses the export \( ?\[2Jno way\)/],
    ['shutdown', go(OPTION_REPLY.shutdown), /stopping/],
    ['5 PiB', sized(5n * 2n ** 50n), /4 PiB/],
    ['2^64 - 1', sized(2n ** 64n - 1n), /4 PiB/],
    ['minimum 0', blocks(0, 512, 4096), /minimum/],
    ['minimum 3', blocks(3, 512, 4096), /minimum/],
    ['minimum 128 KiB', blocks(131_072, 131_072, 262_144), /minimum/],
    ['minimum 2^31', blocks(2 ** 31, 2 ** 31, 2 ** 31), /minimum/],
    ['maximum below', blocks(4096, 4096, 512), /maximum/],
    ['bytes after', bytes(plain, EXPORT, option(OPTION.go, ACK), 'x'), /out of turn/],
  ];
  for (const [what, all, says] of cases) {
    fails(() => shake([all]), says, what);
    fails(() => shake(Array.from(all, (_, i) => all.subarray(i, i + 1))), says, `${what}, cut`);
  }
  const endless = Array.from({ length: 1000 }, () =>
    option(OPTION.go, OPTION_REPLY.info, [2, INFO.description], 'again'),
  );
  fails(() => shake([plain, ...endless]), /without an end/, 'endless');
});

test('handshake: whatever a server says, it is an agreement, a wait or a KageError', () => {
  const part = fc.oneof(
    fc.constantFrom<Buffer>(
      option(OPTION.structuredReply, ACK),
      option(OPTION.setMetaContext, ACK),
      option(OPTION.go, ACK),
      option(OPTION.go, OPTION_REPLY.unsupported),
      CONTEXT,
      EXPORT,
      BLOCKS(1, 512, 512),
    ),
    fc.uint8Array({ maxLength: 40 }),
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 9 }), (parts) => {
      try {
        shake([HELLO, ...parts]);
      } catch (error) {
        assert.instance(error, KageError);
      }
    }),
    { numRuns: 500 },
  );
});

// Requests

test('requests are 28 bytes without flags, with 64-bit numbers', () => {
  const request = { command: COMMAND.write, offset: 2 ** 40 + 5, length: 512, reply: freshReply() };
  assert.is(
    Buffer.from(encodeRequest(2 ** 33 + 1, request)).toString('hex'),
    '25609513' + '0000' + '0001' + '0000000200000001' + '0000010000000005' + '00000200',
  );
});

// Replies

const C = 5n;
const OFFSET = 2 ** 33;

type Told = { reply: Reply; data: Uint8Array } | undefined;

/** Hears replies to one request in flight with the cookie 5; what came of it. */
function hear(
  pieces: readonly Uint8Array[],
  command: number,
  { structured = true, length = 8 } = {},
): Told {
  const data = new Uint8Array(length).fill(0xee);
  const request: Request = { command, offset: OFFSET, length, data, reply: freshReply() };
  let told: Told;
  const push = createReplyParser({
    server: 'S',
    structured,
    allocationId: 7,
    find: (cookie) => (cookie === 5 && told === undefined ? request : undefined),
    done: (cookie, done) => {
      assert.is(cookie, 5);
      told = { reply: done.reply, data };
    },
  });
  for (const piece of pieces) push(piece);
  return told;
}

const data = (at: number, text: string, last = false) =>
  chunk(C, CHUNK.offsetData, last, bytes([8, OFFSET + at], text));
const hole = (at: number, length: number, last = false) =>
  chunk(C, CHUNK.offsetHole, last, bytes([8, OFFSET + at], [4, length]));
const none = chunk(C, CHUNK.none, true, bytes());
const error = (errno: number, text = '', last = true) =>
  chunk(C, CHUNK.error, last, bytes([4, errno], [2, text.length], text));
const status = (last: boolean, ...extents: readonly (readonly [number, number])[]) =>
  chunk(C, CHUNK.blockStatus, last, bytes([4, 7], ...extents.flatMap(fours)));
const fours = ([length, flags]: readonly [number, number]) =>
  [[4, length] as const, [4, flags] as const] as const;

test('reads are put together from every order of chunks, at every cut', () => {
  const wholes: readonly (readonly [Uint8Array, string])[] = [
    [data(0, 'abcdefgh', true), 'abcdefgh'],
    [bytes(data(0, 'abcdefgh'), none), 'abcdefgh'],
    [bytes(data(4, 'efgh'), data(0, 'abcd', true)), 'abcdefgh'],
    [bytes(hole(2, 4), data(0, 'ab'), data(6, 'gh', true)), 'ab\0\0\0\0gh'],
    [
      bytes(
        data(7, 'h'),
        data(1, 'b'),
        hole(3, 1),
        data(0, 'a'),
        data(2, 'c'),
        data(4, 'efg', true),
      ),
      'abc\0efgh',
    ],
    [hole(0, 8, true), '\0\0\0\0\0\0\0\0'],
  ];
  for (const [all, text] of wholes) {
    for (const pieces of cutsOf(all)) {
      const told = hear(pieces, COMMAND.read);
      assert.is(told?.reply.errno, 0);
      assert.is(Buffer.from(told!.data).toString('latin1'), text);
    }
  }
  for (const pieces of cutsOf(bytes(simple(C, 0), 'abcdefgh'))) {
    const told = hear(pieces, COMMAND.read, { structured: false });
    assert.is(Buffer.from(told!.data).toString('latin1'), 'abcdefgh');
  }
});

test('errors come with their number and their words, at every cut', () => {
  const offset = chunk(C, CHUNK.errorOffset, true, bytes([4, 28], [2, 2], 'no', [8, OFFSET]));
  const unknown = chunk(C, 2 ** 15 + 77, true, bytes([4, 28], [2, 2], 'no', 'more of it'));
  const wholes: readonly (readonly [Uint8Array, number, string])[] = [
    [error(5), 5, ''],
    [error(5, 'bad\x07 sector\r\n'), 5, 'bad sector'],
    [offset, 28, 'no'],
    [unknown, 28, 'no'],
    [
      bytes(data(0, 'abcd'), error(5, 'first', false), error(22, 'second', false), none),
      5,
      'first',
    ],
    [error(4000), 4000, ''],
  ];
  for (const [all, errno, text] of wholes) {
    for (const pieces of cutsOf(all)) {
      const told = hear(pieces, COMMAND.read);
      assert.is(told?.reply.errno, errno);
      assert.is(told?.reply.text, text);
    }
  }
  assert.is(hear([error(5, 'x'.repeat(4096))], COMMAND.write)?.reply.text.length, 200);
  assert.is(hear([simple(C, 28)], COMMAND.write)?.reply.errno, 28);
  assert.is(hear([simple(C, 5)], COMMAND.read, { structured: false })?.reply.errno, 5);
  assert.is(hear([simple(C, 22)], COMMAND.blockStatus)?.reply.errno, 22);
});

test('writes, zeroes and flushes are answered simply or in a chunk', () => {
  for (const command of [COMMAND.write, COMMAND.writeZeroes, COMMAND.flush]) {
    for (const all of [simple(C, 0), none]) {
      for (const pieces of cutsOf(all)) assert.is(hear(pieces, command)?.reply.errno, 0);
    }
  }
});

test('block status: neighbours are joined, the last may reach further', () => {
  const all = status(true, [2, 0], [1, 3], [1, 3], [100, 0]);
  for (const pieces of cutsOf(all)) {
    const told = hear(pieces, COMMAND.blockStatus);
    assert.equal(told?.reply.extents, [
      { length: 2, flags: 0 },
      { length: 2, flags: 3 },
      { length: 100, flags: 0 },
    ]);
  }
  const two = bytes(status(false, [1, 1]), none);
  assert.equal(hear([two], COMMAND.blockStatus)?.reply.extents, [{ length: 1, flags: 1 }]);
});

test('block status: of very many extents the first are kept, and none is made up', () => {
  const length = 2 ** 18;
  const payload = bytes([4, 7], Buffer.alloc(8 * length));
  for (let i = 0; i < length; i++) payload[4 + 8 * i + 3] = 1;
  // The one that is dropped differs from the one before it, the ones after it do not.
  for (let i = 0; i <= 2 ** 16; i++) payload[4 + 8 * i + 7] = i % 2;
  for (let i = 2 ** 16 + 1; i < length; i++) payload[4 + 8 * i + 7] = 1;
  const told = hear([chunk(C, CHUNK.blockStatus, true, payload)], COMMAND.blockStatus, { length });
  const { extents } = told!.reply;
  assert.is(extents.length, 2 ** 16);
  assert.ok(extents.every(({ length: l, flags }, i) => l === 1 && flags === i % 2));
});

test('whatever breaks the protocol is an error, at once', () => {
  const { read, write, blockStatus } = COMMAND;
  const raw = (flags: number, type: number, length: number, cookie = C) =>
    bytes([4, 0x668e33ef], [2, flags], [2, type], [8, cookie], [4, length]);
  const cases: readonly (readonly [string, number, Uint8Array, RegExp])[] = [
    ['magic', read, bytes([8, 1n], [8, 1n]), /magic/],
    ['cookie', read, raw(1, 0, 0, 6n), /nothing that was asked/],
    ['64-bit cookie', read, raw(1, 0, 0, C + 2n ** 32n), /nothing that was asked/],
    ['huge cookie', read, raw(1, 0, 0, C + 2n ** 63n), /nothing that was asked/],
    ['answered before', write, bytes(none, none), /nothing that was asked/],
    ['simple read', read, simple(C, 0), /simple reply to a read/],
    ['simple error of a read', read, simple(C, 5), /simple reply to a read/],
    ['simple status', blockStatus, simple(C, 0), /without extents/],
    ['flags', read, raw(3, 0, 0), /flags 3/],
    ['none with data', write, raw(1, 0, 1), /empty chunk/],
    ['none, not last', write, raw(0, 0, 0), /empty chunk/],
    ['type', read, raw(1, 3, 0), /type 3/],
    ['extended status', blockStatus, raw(1, 6, 20), /type 6/],
    ['data to a write', write, data(0, 'abcdefgh', true), /type 1/],
    ['hole to a write', write, hole(0, 8, true), /type 2/],
    ['status to a read', read, status(true, [8, 0]), /type 5/],
    ['no data', read, raw(1, 1, 8), /type 1/],
    ['short data', read, raw(1, 1, 7), /type 1/],
    ['long hole', read, raw(1, 2, 13), /type 2/],
    ['empty hole', read, hole(0, 0, true), /outside/],
    ['before', read, data(-1, 'x'), /outside/],
    ['at the end', read, data(8, 'x'), /outside/],
    ['over the end', read, data(7, 'xy'), /outside/],
    ['hole over the end', read, hole(1, 8), /outside/],
    ['4 GiB', read, raw(1, 1, 2 ** 32 - 1), /./],
    ['twice', read, bytes(data(0, 'abcd'), data(3, 'x')), /overlaps/],
    ['hole twice', read, bytes(data(0, 'abcd'), hole(0, 8)), /overlaps/],
    ['missing', read, data(0, 'abcdefg', true), /not whole/],
    ['missing between', read, bytes(data(0, 'abc'), data(4, 'efgh', true)), /not whole/],
    ['nothing', read, none, /not whole/],
    ['error 0', read, error(0), /without a number/],
    ['short error', read, raw(1, CHUNK.error, 5), /length of an error/],
    ['long error', read, raw(1, CHUNK.error, 5000), /length of an error/],
    ['error text', read, chunk(C, CHUNK.error, true, bytes([4, 5], [2, 9], 'x')), /length of an/],
    ['error rest', read, chunk(C, CHUNK.error, true, bytes([4, 5], [2, 0], 'x')), /length of an/],
    ['error offset', read, chunk(C, CHUNK.errorOffset, true, bytes([4, 5], [2, 0])), /length of/],
    ['context', blockStatus, chunk(C, 5, true, bytes([4, 8], [4, 8], [4, 0])), /context/],
    ['status twice', blockStatus, bytes(status(false, [8, 0]), status(true, [8, 0])), /twice/],
    ['no extents', blockStatus, raw(1, 5, 4), /length of a block status/],
    ['odd extents', blockStatus, raw(1, 5, 16), /length of a block status/],
    ['4 GiB of extents', blockStatus, raw(1, 5, 2 ** 32 - 4), /length of a block status/],
    ['empty extent', blockStatus, status(true, [0, 0]), /extent too many/],
    ['extent after the end', blockStatus, status(true, [8, 0], [1, 1]), /extent too many/],
    ['no status', blockStatus, none, /without extents/],
  ];
  for (const [what, command, all, says] of cases) {
    const padded = bytes(all, Buffer.alloc(16));
    fails(() => hear([padded], command), says, what);
    fails(
      () =>
        hear(
          Array.from(padded, (_, i) => padded.subarray(i, i + 1)),
          command,
        ),
      says,
      what,
    );
  }
  fails(() => hear([none], write, { structured: false }), /magic/, 'chunks not agreed on');
});

test('a read in ever more parts is not followed for ever', () => {
  const length = 1_000_000;
  const parts = Array.from({ length: 5000 }, (_, i) => data(2 * i, 'x'));
  fails(() => hear(parts, COMMAND.read, { length }), /too many parts/, 'islands');
  // In order, or backwards, they are one part.
  const backwards = Array.from({ length: 5000 }, (_, i) => data(length - 1 - i, 'x'));
  assert.is(hear([...parts.slice(0, 1), ...backwards], COMMAND.read, { length }), undefined);
});

test('nothing but the asked range is ever touched, whatever comes', () => {
  const { read, write, blockStatus, flush } = COMMAND;
  const small = fc.integer({ min: -2, max: 10 });
  const part = fc.oneof(
    fc.tuple(small, fc.string({ maxLength: 9 }), fc.boolean()).map((a) => data(...a)),
    fc.tuple(small, fc.nat(9), fc.boolean()).map((a) => hole(...a)),
    fc.tuple(fc.nat(30), fc.string({ maxLength: 9 }), fc.boolean()).map((a) => error(...a)),
    fc.tuple(fc.nat(9), fc.nat(3)).map((extent) => status(true, extent)),
    fc.constantFrom(none, simple(C, 0), simple(C, 5)),
    fc.uint8Array({ maxLength: 30 }),
  );
  const flipped = fc.record({ part, at: fc.nat(40), bit: fc.nat(7), flip: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(flipped, { maxLength: 6 }),
      fc.constantFrom(read, write, blockStatus, flush),
      fc.boolean(),
      fc.integer({ min: 1, max: 64 }),
      (parts, command, structured, cut) => {
        const all = Buffer.concat(
          parts.map(({ part: p, at, bit, flip }) => {
            const copy = Buffer.from(p);
            if (flip && at < copy.length) copy[at] ^= 1 << bit;
            return copy;
          }),
        );
        const around = new Uint8Array(24).fill(0xcc);
        const request: Request = {
          command,
          offset: OFFSET,
          length: 8,
          data: around.subarray(8, 16),
          reply: freshReply(),
        };
        let over = false;
        const push = createReplyParser({
          server: 'S',
          structured,
          allocationId: 7,
          find: (cookie) => (cookie === 5 && !over ? request : undefined),
          done: () => {
            assert.not.ok(over);
            over = true;
          },
        });
        try {
          for (let at = 0; at < all.length; at += cut) push(all.subarray(at, at + cut));
        } catch (thrown) {
          assert.instance(thrown, KageError);
        }
        assert.ok(around.subarray(0, 8).every((byte) => byte === 0xcc));
        assert.ok(around.subarray(16).every((byte) => byte === 0xcc));
        if (command !== read) assert.ok(around.every((byte) => byte === 0xcc));
      },
    ),
    { numRuns: 1500 },
  );
});

test.run();
