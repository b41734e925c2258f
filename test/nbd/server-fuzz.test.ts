/**
 * Garbage and valid streams with damage in them, in any cut: the core never throws, never holds more
 * than its window, and always answers, waits for more, or closes.
 */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { COMMAND, OPTION } from '../../src/nbd/wire.ts';
import {
  be32,
  bytes,
  Client,
  infoData,
  metaData,
  option,
  optionReplies,
  read,
  repliesIn,
  request,
  settled,
  TestExport,
  write,
} from './server-support.ts';

const test = suite('nbd: server fuzz');
const SIZE = 100_000;
/** Far below the payloads that the streams claim: a few slabs. */
const MEMORY_MAX = 4 * 1024 * 1024;

/** As `fc.assert`, with the first failure's own message. */
async function check<T>(property: fc.IAsyncProperty<T>, runs: fc.Parameters<T>): Promise<void> {
  try {
    await fc.assert(property, runs);
  } catch (error) {
    const { message, cause } = error as Error;
    throw new Error(`${message}\n${(cause as Error)?.stack}`);
  }
}

/** A client whose buffers are counted. */
function counted(target: TestExport): { client: Client; most: () => number } {
  const client = new Client({ targets: [target], tls: 'optional' });
  const take = client.store.take.bind(client.store);
  const give = client.store.give.bind(client.store);
  let now = 0;
  let most = 0;
  client.store.take = (length) => {
    const slab = take(length);
    now += slab.bytes.byteLength;
    most = Math.max(most, now);
    return slab;
  };
  client.store.give = (slab) => {
    now -= slab.bytes.byteLength;
    give(slab);
  };
  return { client, most: () => most };
}

/** Sends everything, then goes away; what was opened is closed at the end. */
async function survive(client: Client, stream: Uint8Array, cuts: readonly number[]): Promise<void> {
  const sizes = cuts.length > 0 ? cuts : [stream.length + 1];
  let at = 0;
  for (let i = 0; at < stream.length && client.events.length === 0; i++) {
    const end = Math.min(stream.length, at + sizes[i % sizes.length]);
    client.connection.receive(Buffer.from(stream.subarray(at, end)));
    at = end;
    // A transport that was told to wait, waits.
    for (let turn = 0; !client.wanted && turn < 50 && client.events.length === 0; turn++) {
      await settled();
    }
  }
  await settled();
  client.connection.inputEnded();
  for (let i = 0; i < 50 && client.connection.busy; i++) await settled();
  assert.ok(client.events.length > 0, 'it has closed');
  client.connection.gone();
  await settled();
  assert.not.ok(client.connection.busy);
  assert.is(client.openedExports, client.closedExports);
}

const cuts = fc.array(fc.integer({ min: 1, max: 70 }), { maxLength: 5 });
const name = fc.oneof(fc.constantFrom('disk', '', 'nothing'), fc.string({ maxLength: 20 }));

const anyOption = fc.oneof(
  fc.constantFrom(
    option(OPTION.structuredReply),
    option(OPTION.list),
    option(OPTION.info, infoData('disk', 0, 1, 2, 3)),
    option(OPTION.setMetaContext, metaData('disk', 'base:allocation')),
  ),
  name.map((n) => option(OPTION.info, infoData(n, 3))),
  fc
    .tuple(name, fc.array(name, { maxLength: 3 }))
    .map(([n, q]) => option(OPTION.listMetaContext, metaData(n, ...q))),
  fc
    .tuple(fc.integer({ min: 0, max: 20 }), fc.uint8Array({ maxLength: 60 }))
    .map(([number, data]) => option(number, data)),
);

const number64 = fc.oneof(
  fc.integer({ min: 0, max: SIZE + 10 }).map(BigInt),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const length = fc.oneof(
  fc.integer({ min: 0, max: 5000 }),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
);

const anyRequest = fc.oneof(
  fc.tuple(number64, fc.integer({ min: 0, max: 5000 })).map(([offset, n]) => read(offset, n)),
  fc
    .tuple(number64, fc.uint8Array({ maxLength: 300 }))
    .map(([offset, data]) => write(data, offset)),
  fc
    .tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 31 }), number64, length)
    .filter(([command]) => command !== COMMAND.disconnect)
    .map(([command, flags, offset, n]) => {
      const data = command === COMMAND.write ? Buffer.alloc(n % 300) : undefined;
      return request({ command, flags, offset, ...(data ? { data } : { length: n }) });
    }),
);

/** Some bytes of a stream exchanged, cut out, or doubled. */
const damage = fc.array(
  fc.tuple(
    fc.nat(),
    fc.constantFrom('flip', 'cut', 'double', 'zero', 'ones'),
    fc.nat({ max: 255 }),
  ),
  { maxLength: 6 },
);

function damaged(stream: Buffer, how: readonly [number, string, number][]): Buffer {
  let result = stream;
  for (const [where, kind, value] of how) {
    if (result.length === 0) return result;
    const at = where % result.length;
    if (kind === 'cut') {
      result = bytes(result.subarray(0, at), result.subarray(at + (value % 40)));
    } else if (kind === 'double') {
      result = bytes(result.subarray(0, at + (value % 40)), result.subarray(at));
    } else {
      result = Buffer.from(result);
      if (kind === 'flip') result[at] ^= value | 1;
      else
        result.fill(kind === 'zero' ? 0 : 0xff, at, Math.min(result.length, at + 1 + (value % 8)));
    }
  }
  return result;
}

const enter = bytes(
  be32(3),
  option(OPTION.structuredReply),
  option(OPTION.setMetaContext, metaData('disk', 'base:allocation')),
  option(OPTION.go, infoData('disk')),
);

test('garbage from the first byte on', () =>
  check(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 300 }),
      fc.boolean(),
      cuts,
      async (junk, flags, by) => {
        const { client, most } = counted(new TestExport(SIZE));
        await survive(client, flags ? bytes(be32(3), junk) : junk, by);
        assert.ok(most() < MEMORY_MAX);
      },
    ),
    { numRuns: 1000 },
  ));

test('options with damage', () =>
  check(
    fc.asyncProperty(fc.array(anyOption, { maxLength: 8 }), damage, cuts, async (list, how, by) => {
      const { client, most } = counted(new TestExport(SIZE));
      await survive(client, damaged(bytes(be32(3), ...list), how), by);
      assert.ok(most() < MEMORY_MAX);
      // Whatever it answered, it answered in whole replies.
      const heard = client.heard();
      if (!client.transmitted) optionReplies(heard.subarray(18));
    }),
    { numRuns: 1000 },
  ));

test('requests with damage', () =>
  check(
    fc.asyncProperty(
      fc.array(anyRequest, { maxLength: 12 }),
      damage,
      cuts,
      async (list, how, by) => {
        const { client, most } = counted(new TestExport(SIZE));
        await client.say(enter);
        client.heard();
        await survive(client, damaged(bytes(...list), how), by);
        assert.ok(most() < MEMORY_MAX, `${most()}`);
        repliesIn(client.heard());
      },
    ),
    { numRuns: 1500 },
  ));

test('valid streams: every request has one answer, whatever the cut and the export', () =>
  check(
    fc.asyncProperty(
      fc.array(anyRequest, { maxLength: 30 }),
      cuts,
      fc.subarray(['read', 'write', 'zero', 'flush', 'status']),
      async (list, by, slow) => {
        const target = new TestExport(SIZE);
        const { client } = counted(target);
        await client.say(enter);
        client.heard();
        for (const call of slow) target.held.add(call);
        const stream = Buffer.concat(
          list.map((ask, i) => {
            const own = Buffer.from(ask);
            own.writeBigUInt64BE(BigInt(i), 8);
            return own;
          }),
        );
        await client.say(stream, ...(by.length > 0 ? by : [stream.length + 1]));
        while (target.waiting > 0) {
          target.release();
          await settled();
        }
        for (let i = 0; i < 50 && client.connection.busy; i++) await settled();
        const ends = client
          .replies()
          .filter((r) => r.simple || (r.flags & 1) !== 0)
          .map((r) => Number(r.cookie))
          .sort((a, b) => a - b);
        assert.equal(ends, [...list.keys()]);
        assert.equal(client.events, []);
      },
    ),
    { numRuns: 300 },
  ));

test.run();
