/** Requests and replies: every command, flag and error of the wire, FUA and flush, slices, zeros. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { CHUNK, COMMAND, COMMAND_FLAG, ERRNO } from '../../src/nbd/wire.ts';
import {
  be16,
  be32,
  be64,
  bytes,
  Client,
  extentsIn,
  MIB,
  type Reply,
  read,
  request,
  settled,
  TestExport,
  write,
} from './server-support.ts';

const test = suite('nbd: transmission');
const BASE = 'base:allocation';
const DIRTY = 'qemu:dirty-bitmap:increment';
const { fua, noHole, df, reqOne, fastZero } = COMMAND_FLAG;

async function connected(target = new TestExport(), how: Parameters<Client['go']>[0] = {}) {
  const client = new Client({ targets: [target] });
  await client.go(how);
  return { client, target };
}

/** The only reply to one request. */
async function one(client: Client, ...requests: Uint8Array[]): Promise<Reply> {
  const replies = await client.exchange(...requests);
  assert.is(replies.length, 1, 'one reply');
  return replies[0];
}

const trim = (offset: number | bigint, length: number, flags = 0) =>
  request({ command: COMMAND.trim, offset, length, flags });
const zeroes = (offset: number | bigint, length: number, flags = 0) =>
  request({ command: COMMAND.writeZeroes, offset, length, flags });
const status = (offset: number | bigint, length: number, flags = 0) =>
  request({ command: COMMAND.blockStatus, offset, length, flags });
const cache = (offset: number | bigint, length: number, flags = 0) =>
  request({ command: COMMAND.cache, offset, length, flags });
const flush = (more = {}) => request({ command: COMMAND.flush, ...more });

test('a read gives what was written, as a chunk with its offset', async () => {
  const { client, target } = await connected();
  const data = Buffer.from('some bytes at an odd place');
  const written = await one(client, write(data, 12_345, { cookie: 0xfedc_ba98_7654_3210n }));
  assert.equal([written.simple, written.error, written.cookie], [true, 0, 0xfedc_ba98_7654_3210n]);
  assert.equal(target.content.subarray(12_345, 12_345 + data.length), data);
  const reply = await one(client, read(12_340, 30, { cookie: 0xffff_ffff_ffff_ffffn }));
  assert.is(reply.type, CHUNK.offsetData);
  assert.is(reply.flags, 1);
  assert.is(reply.cookie, 0xffff_ffff_ffff_ffffn);
  assert.equal(reply.data, bytes(be64(12_340n), target.content.subarray(12_340, 12_370)));
});

test('without structured replies a read is a header and its data', async () => {
  const { client, target } = await connected(new TestExport(), { structured: false });
  target.content.fill(7);
  client.expectRead(5n, 1000);
  const reply = await one(client, read(1, 1000, { cookie: 5n }));
  assert.ok(reply.simple);
  assert.equal(reply.data, Buffer.alloc(1000, 7));
});

test('nothing is read or written where the length is 0', async () => {
  for (const structured of [true, false]) {
    const { client, target } = await connected(new TestExport(), { structured });
    const empty = await one(client, read(MIB, 0));
    assert.equal([empty.simple, empty.type, empty.flags], [!structured, CHUNK.none, 1]);
    assert.is(empty.data.length, 0);
    for (const ask of [write(Buffer.alloc(0), 0), trim(0, 0), zeroes(MIB, 0), cache(0, 0)]) {
      assert.is((await one(client, ask)).error, 0);
    }
    assert.is(target.named('zero').length + target.named('read').length, 0);
  }
});

test('ranges: past the end ENOSPC for writes and zeroes, EINVAL for the others', async () => {
  const target = new TestExport(1000);
  const { client } = await connected(target, { contexts: [BASE] });
  const huge = 2n ** 64n - 1n;
  const cases: [Buffer, number][] = [];
  for (const [offset, length] of [
    [1000, 1],
    [999, 2],
    [1001, 0],
    [0, 1001],
    [huge, 1],
    [huge - 10n, 20],
    [2n ** 63n, 1],
    [2n ** 53n + 1n, 1],
  ] as const) {
    for (const make of [read, trim, cache]) cases.push([make(offset, length), ERRNO.EINVAL]);
    if (length > 0) cases.push([status(offset, length), ERRNO.EINVAL]);
    cases.push([zeroes(offset, length), ERRNO.ENOSPC]);
    cases.push([write(Buffer.alloc(length), offset), ERRNO.ENOSPC]);
  }
  for (const [ask, errno] of cases) {
    const reply = await one(client, ask);
    assert.is(reply.error, errno, ask.subarray(0, 28).toString('hex'));
    assert.is(reply.type, CHUNK.error);
    assert.is(reply.flags, 1);
    assert.match(reply.text, /beyond the end/);
  }
  assert.is(target.calls.length, 0);
  for (const ask of [read(999, 1), write(bytes(1), 999), zeroes(0, 1000), trim(0, 1000)]) {
    assert.is((await one(client, ask)).error, 0);
  }
});

test('the payload of a refused write is consumed, in any cut', async () => {
  for (const size of [1, 27, 28, 29, 4096, 65_536]) {
    const { client } = await connected(new TestExport(1000));
    // A payload that looks like requests, if it is taken for some.
    const payload = Buffer.concat(Array.from({ length: 40 }, () => read(0, 1, { cookie: 66n })));
    await client.say(bytes(write(payload, 990, { cookie: 8n }), read(0, 4, { cookie: 9n })), size);
    const replies = client.replies();
    assert.equal(
      replies.map((r) => [r.cookie, r.error]),
      [
        [8n, ERRNO.ENOSPC],
        [9n, 0],
      ],
    );
  }
});

test('payloads above 32 MiB: refused, and dropped when beyond all reason', async () => {
  const { client } = await connected(new TestExport(80 * MIB));
  const over = 32 * MIB + 1;
  assert.is((await one(client, read(0, over))).error, ERRNO.EINVAL);
  assert.is((await one(client, read(0, 2 ** 32 - 1))).error, ERRNO.EINVAL);
  const reply = await one(
    client,
    request({ command: COMMAND.write, length: over }),
    Buffer.alloc(over),
  );
  assert.is(reply.error, ERRNO.EINVAL);
  assert.equal((await one(client, read(0, 32 * MIB))).data.length, 32 * MIB + 8);
  await client.say(request({ command: COMMAND.write, length: 64 * MIB + 1 }));
  assert.equal(client.events, ['drop']);
});

test('commands without payload take up to 4 GiB - 1', async () => {
  const target = new TestExport(1000);
  const size = 2 ** 33 + 512;
  const zeroed: [number, number, boolean][] = [];
  const big = Object.assign(Object.create(target), {
    size,
    zero: (offset: number, length: number, punch: boolean) =>
      void zeroed.push([offset, length, punch]),
    status: (_: string, offset: number) => [{ length: size - offset, flags: 0 }],
  }) as TestExport;
  const { client } = await connected(big, { contexts: [BASE] });
  const length = 2 ** 32 - 1;
  for (const ask of [trim(4097, length), zeroes(4097, length)]) {
    await client.say(ask);
    for (let i = 0; i < 1000 && client.connection.busy; i++) await settled();
    assert.is(client.replies()[0].error, 0);
    assert.is(zeroed[0][0], 4097);
    assert.ok(
      zeroed.every(([, n]) => n <= 32 * MIB),
      'in slices',
    );
    assert.ok(zeroed.every(([at], i) => i === 0 || at === zeroed[i - 1][0] + zeroed[i - 1][1]));
    assert.is(
      zeroed.reduce((sum, [, n]) => sum + n, 0),
      length,
    );
    zeroed.length = 0;
  }
  assert.ok(client.turns > 100, 'others had their turn');
  assert.is((await one(client, cache(4097, length))).error, 0);
  await client.say(status(4097, length));
  for (let i = 0; i < 100 && client.connection.busy; i++) await settled();
  assert.equal(extentsIn(client.replies()[0]).extents, [[length, 0]]);
});

test('trim and zeroes make exactly their range read as zeros', async () => {
  const { client, target } = await connected();
  target.content.fill(0xff);
  assert.is((await one(client, trim(1023, 1026))).error, 0);
  assert.is((await one(client, zeroes(5001, 3))).error, 0);
  assert.is((await one(client, zeroes(6000, 1, noHole))).error, 0);
  const expected = Buffer.alloc(MIB, 0xff)
    .fill(0, 1023, 2049)
    .fill(0, 5001, 5004)
    .fill(0, 6000, 6001);
  assert.equal(target.content, expected);
  assert.equal(
    target.calls.map((c) => c.punch),
    [true, true, false],
  );
});

test('flags: FUA on all commands, every other one only where it belongs', async () => {
  const { client } = await connected(new TestExport(), { contexts: [BASE] });
  const make: [string, (flags: number) => Uint8Array, number][] = [
    ['read', (flags) => read(0, 8, { flags }), fua | df],
    ['write', (flags) => write(Buffer.alloc(8), 0, { flags }), fua],
    ['flush', (flags) => flush({ flags }), fua],
    ['trim', (flags) => trim(0, 8, flags), fua],
    ['cache', (flags) => cache(0, 8, flags), fua],
    ['zeroes', (flags) => zeroes(0, 8, flags), fua | noHole],
    ['status', (flags) => status(0, 8, flags), fua | reqOne],
  ];
  for (const [name, ask, allowed] of make) {
    for (let bit = 0; bit < 16; bit++) {
      const { error } = await one(client, ask(1 << bit));
      assert.is(error, allowed & (1 << bit) ? 0 : ERRNO.EINVAL, `${name} with flag ${bit}`);
    }
    assert.is((await one(client, ask(allowed))).error, 0, `${name} with all its flags`);
  }
  assert.is((await one(client, zeroes(0, 8, fastZero | noHole))).error, ERRNO.EINVAL);
});

test('DF without structured replies is refused', async () => {
  const { client } = await connected(new TestExport(), { structured: false });
  assert.is((await one(client, read(0, 8, { flags: df }))).error, ERRNO.EINVAL);
});

test('unknown commands are refused', async () => {
  const { client } = await connected();
  for (const command of [8, 9, 99, 65535]) {
    const reply = await one(client, request({ command, length: 4096, offset: 1 }));
    assert.is(reply.error, ERRNO.EINVAL);
  }
});

test('read-only: nothing is changed, the payload is consumed', async () => {
  const target = new TestExport();
  target.readOnly = true;
  const { client } = await connected(target);
  for (const ask of [write(bytes(1, 2, 3), 0), trim(0, 8), zeroes(0, 8)]) {
    assert.is((await one(client, ask)).error, ERRNO.EPERM);
  }
  for (const ask of [read(0, 8), flush(), cache(0, 8)]) {
    assert.is((await one(client, ask)).error, 0);
  }
  assert.equal(
    target.calls.map((c) => c.name),
    ['read', 'flush'],
  );
});

test('a flush is answered after the export has flushed, and does not wait for running writes', async () => {
  const { client, target } = await connected();
  target.held.add('write').add('flush');
  await client.say(bytes(write(bytes(1), 0, { cookie: 1n }), flush({ cookie: 2n })));
  assert.is(client.replies().length, 0);
  target.release('flush');
  await settled();
  assert.equal(
    client.replies().map((r) => r.cookie),
    [2n],
  );
  target.release('write');
  await settled();
  assert.equal(
    client.replies().map((r) => r.cookie),
    [1n],
  );
});

test('FUA: the change, then a flush, then the answer', async () => {
  for (const ask of [
    write(bytes(1, 2), 0, { flags: fua }),
    trim(0, 8, fua),
    zeroes(0, 8, fua),
    write(bytes(), 0, { flags: fua }),
    zeroes(0, 20 * MIB, fua),
  ]) {
    const { client, target } = await connected(new TestExport(20 * MIB));
    target.held.add('flush');
    await client.say(ask);
    await settled();
    assert.is(client.replies().length, 0, 'not before the flush');
    const { calls } = target;
    assert.is(calls.at(-1)!.name, 'flush');
    assert.is(calls.filter((c) => c.name === 'flush').length, 1);
    target.release();
    await settled();
    assert.is(client.replies()[0].error, 0);
  }
});

test('FUA: a flush that fails is the error of the write', async () => {
  const { client, target } = await connected();
  target.failing.set('flush', new KageError('io-error', 'vm.img: sync failed: EIO'));
  const reply = await one(client, write(bytes(1), 0, { flags: fua }));
  assert.is(reply.error, ERRNO.EIO);
  assert.match(reply.text, /sync failed/);
  assert.is((await one(client, flush())).error, ERRNO.EIO);
});

test('errors of the export keep their kind, thrown or rejected', async () => {
  const coded = (code: string) => Object.assign(new Error('x'), { code });
  const cases: [unknown, number, RegExp][] = [
    [new KageError('io-error', 'vm.img: reading failed'), ERRNO.EIO, /^vm.img: reading failed$/],
    [new KageError('disk-full', 'no room'), ERRNO.ENOSPC, /^no room$/],
    [new KageError('image-readonly', 'no'), ERRNO.EPERM, /^no$/],
    [new KageError('not-permitted', 'no'), ERRNO.EPERM, /^no$/],
    [new KageError('interrupted', 'stopped'), ERRNO.ESHUTDOWN, /^stopped$/],
    [new KageError('in-use', 'busy'), ERRNO.EIO, /^busy$/],
    [new KageError('io-error', 'ü'.repeat(4000)), ERRNO.EIO, /^ü{400}$/],
    [coded('ENOSPC'), ERRNO.ENOSPC, /^$/],
    [coded('EDQUOT'), ERRNO.ENOSPC, /^$/],
    [coded('EFBIG'), ERRNO.ENOSPC, /^$/],
    [coded('EROFS'), ERRNO.EPERM, /^$/],
    [coded('ENOMEM'), ERRNO.ENOMEM, /^$/],
    [coded('ENXIO'), ERRNO.EIO, /^$/],
    [coded('toString'), ERRNO.EIO, /^$/],
    [new RangeError('a bug'), ERRNO.EIO, /^$/],
    ['a string', ERRNO.EIO, /^$/],
    [undefined, ERRNO.EIO, /^$/],
  ];
  for (const structured of [true, false]) {
    const { client, target } = await connected(new TestExport(), {
      structured,
      ...(structured ? { contexts: [BASE] } : {}),
    });
    const asks: [string, Uint8Array][] = [
      ['read', read(0, 512)],
      ['write', write(bytes(1), 0)],
      ['zero', trim(0, 512)],
      ['zero', zeroes(0, 512)],
      ['flush', flush()],
    ];
    if (structured) asks.push(['status', status(0, 512)]);
    for (const [error, errno, text] of cases) {
      for (const [name, ask] of asks) {
        for (const held of [false, true]) {
          target.failing.set(name, error);
          if (held) target.held.add(name);
          await client.say(ask);
          if (held) target.release();
          await settled();
          const replies = client.replies();
          assert.is(replies.length, 1);
          assert.is(replies[0].error, errno, `${name} ${String(error)}`);
          assert.is(replies[0].simple, !structured);
          if (structured) {
            assert.match(replies[0].text, text);
            assert.is(replies[0].type, CHUNK.error);
            assert.is(replies[0].data.length, 6 + Buffer.byteLength(replies[0].text));
          }
          target.failing.clear();
          target.held.clear();
        }
      }
    }
    client.expectRead(1n, 512);
    assert.is((await one(client, read(0, 512))).error, 0, 'goes on afterwards');
  }
});

test('requests run side by side: a late one holds nobody back', async () => {
  const { client, target } = await connected();
  target.content.fill(3);
  target.held.add('read');
  await client.say(read(0, 100, { cookie: 1n }));
  target.held.clear();
  const replies = await client.exchange(
    read(100, 100, { cookie: 2n }),
    write(bytes(9), 0, { cookie: 3n }),
    read(200, 100, { cookie: 4n }),
  );
  assert.equal(
    replies.map((r) => r.cookie),
    [2n, 3n, 4n],
  );
  target.release();
  await settled();
  const late = client.replies();
  assert.equal([late.length, late[0].cookie, late[0].data.length], [1, 1n, 108]);
  assert.equal(late[0].data.subarray(8, 11), bytes(9, 3, 3));
});

test('reads that end in any order carry their own data', async () => {
  const { client, target } = await connected();
  for (let i = 0; i < MIB; i += 4) target.content.writeUInt32BE(i, i);
  target.held.add('read');
  const lengths = [100, 4096, 7, 65_536, 1, 200_000, 512, 300_000, 33];
  const asks = lengths.map((length, i) => read(i * 4096, length, { cookie: BigInt(i) }));
  await client.say(Buffer.concat(asks));
  assert.is(target.waiting, lengths.length);
  // The newest first, then in pairs.
  const order = [8, 7, 0, 1, 4, 3, 2, 1, 0];
  const seen = new Map<bigint, Buffer>();
  let left = lengths.map((_, i) => i);
  for (const [step, at] of order.entries()) {
    const which = left[Math.min(at, left.length - 1)];
    left = left.filter((i) => i !== which);
    releaseRead(target, which);
    if (step % 2 === 1) await settled();
  }
  await settled();
  for (const reply of client.replies()) seen.set(reply.cookie, reply.data);
  for (const [i, length] of lengths.entries()) {
    const expected = bytes(
      be64(BigInt(i * 4096)),
      target.content.subarray(i * 4096, i * 4096 + length),
    );
    assert.ok(seen.get(BigInt(i))?.equals(expected), `read ${i}`);
  }
  assert.not.ok(client.connection.busy);
});

/** Lets the read at `which * 4096` go on, whatever its place in the queue. */
function releaseRead(target: TestExport, which: number): void {
  target.releaseWhere((offset) => offset === which * 4096);
}

test('a read that fails between others leaves them whole', async () => {
  const { client, target } = await connected();
  target.content.fill(5);
  const fails = target.read.bind(target);
  let count = 0;
  target.read = (into, offset) => {
    if (count++ === 1) throw new KageError('io-error', 'bad sector');
    return fails(into, offset);
  };
  const replies = await client.exchange(
    read(0, 50, { cookie: 1n }),
    read(50, 60, { cookie: 2n }),
    read(110, 70, { cookie: 3n }),
  );
  assert.equal(
    replies.map((r) => [r.cookie, r.error, r.data.length]),
    [
      [1n, 0, 58],
      [2n, ERRNO.EIO, 6 + 'bad sector'.length],
      [3n, 0, 78],
    ],
  );
});

test('block status: one chunk for each context, the last one ends it', async () => {
  const { client, target } = await connected(new TestExport(), { contexts: [DIRTY, BASE] });
  target.extents = (context, offset) =>
    context === BASE
      ? [
          { length: 4096, flags: 3 },
          { length: 4096, flags: 3 },
          { length: MIB - offset - 8192, flags: 0 },
        ]
      : [
          { length: 65_536, flags: 1 },
          { length: MIB - offset - 65_536, flags: 0 },
        ];
  const replies = await client.exchange(status(0, MIB, 0));
  assert.equal(
    replies.map((r) => r.flags),
    [0, 1],
  );
  assert.equal(replies.map(extentsIn), [
    {
      id: 0,
      extents: [
        [8192, 3],
        [MIB - 8192, 0],
      ],
    },
    {
      id: 1,
      extents: [
        [65_536, 1],
        [MIB - 65_536, 0],
      ],
    },
  ]);
});

test('block status: REQ_ONE gives one extent, no longer than asked', async () => {
  const { client, target } = await connected(new TestExport(), { contexts: [BASE] });
  target.extents = (_context, offset) => [
    { length: 1000, flags: 0 },
    { length: MIB - offset - 1000, flags: 3 },
  ];
  assert.equal(extentsIn(await one(client, status(7, 5000, reqOne))).extents, [[1000, 0]]);
  assert.equal(extentsIn(await one(client, status(7, 400, reqOne))).extents, [[400, 0]]);
});

test('block status: nothing empty, nothing beyond the range, equal neighbours are one', async () => {
  const { client, target } = await connected(new TestExport(), { contexts: [BASE] });
  target.extents = () => [
    { length: 0, flags: 3 },
    { length: 10, flags: 0 },
    { length: 20, flags: 0 },
    { length: 0, flags: 3 },
    { length: 30, flags: 3 },
    { length: 5000, flags: 0 },
  ];
  assert.equal(extentsIn(await one(client, status(0, 100))).extents, [
    [30, 0],
    [30, 3],
    [40, 0],
  ]);
});

test('block status: a hole that does not read as zeros is told as data', async () => {
  const { client, target } = await connected(new TestExport(), { contexts: [BASE, DIRTY] });
  target.extents = () => [{ length: 4096, flags: 1 }];
  const replies = await client.exchange(status(0, 4096));
  assert.equal(extentsIn(replies[0]).extents, [[4096, 0]]);
  assert.equal(extentsIn(replies[1]).extents, [[4096, 1]]);
});

test('block status: an export that answers short is asked on, at once or later', async () => {
  for (const held of [false, true]) {
    const { client, target } = await connected(new TestExport(), { contexts: [BASE] });
    if (held) target.held.add('status');
    target.extents = (_context, offset) => [{ length: 1000, flags: (offset / 1000) % 2 ? 3 : 0 }];
    await client.say(status(0, 3500));
    for (let i = 0; i < 10; i++) {
      target.release();
      await settled();
    }
    assert.equal(extentsIn(client.replies()[0]).extents, [
      [1000, 0],
      [1000, 3],
      [1000, 0],
      [500, 3],
    ]);
  }
});

test('block status: an export that knows nothing is an error, one that stops is a short answer', async () => {
  const { client, target } = await connected(new TestExport(), { contexts: [BASE] });
  target.extents = () => [];
  assert.is((await one(client, status(0, 4096))).error, ERRNO.EIO);
  target.extents = (_context, offset) => (offset < 1000 ? [{ length: 1000, flags: 0 }] : []);
  assert.equal(extentsIn(await one(client, status(0, 4096))).extents, [[1000, 0]]);
});

test('block status: an answer has an end', async () => {
  const { client, target } = await connected(new TestExport(), { contexts: [BASE] });
  target.extents = (_context, offset, length) =>
    Array.from({ length }, (_, i) => ({ length: 1, flags: (offset + i) % 2 ? 3 : 0 }));
  const [reply] = await client.exchange(status(0, MIB));
  const { extents } = extentsIn(reply);
  assert.is(extents.length, 65_536);
  assert.equal(extents[65_535], [1, 3]);
});

test('block status: what an export tells in small parts is enough after 32 MiB', async () => {
  const target = new TestExport(64 * MIB);
  const { client } = await connected(target, { contexts: [BASE] });
  target.extents = (_context, offset) => [{ length: MIB, flags: (offset / MIB) % 2 ? 2 : 0 }];
  await client.say(status(0, 64 * MIB));
  for (let i = 0; i < 32; i++) await settled();
  assert.is(extentsIn(client.replies()[0]).extents.length, 32);
  assert.is(target.named('status').length, 32);
});

test('block status: not of nothing, not without a context', async () => {
  const none = await connected();
  assert.is((await one(none.client, status(0, 4096))).error, ERRNO.EINVAL);
  const { client } = await connected(new TestExport(), { contexts: [BASE] });
  assert.is((await one(client, status(0, 0))).error, ERRNO.EINVAL);
});

test('a request without its magic closes the connection', async () => {
  const { client } = await connected();
  await client.say(read(0, 8, { magic: 0x25609514 }));
  assert.equal(client.events, ['drop']);
  assert.is(client.closedExports, client.openedExports - 1);
  client.connection.gone();
  assert.is(client.closedExports, client.openedExports);
});

test('DISC: what is in flight is answered, then the line ends, whatever its fields say', async () => {
  const { client, target } = await connected();
  target.held.add('write');
  await client.say(
    bytes(
      write(bytes(1, 2), 0, { cookie: 3n }),
      request({ command: COMMAND.disconnect, flags: 0xffff, offset: 2n ** 64n - 1n, length: 77 }),
      'what comes behind it counts for nothing',
    ),
  );
  assert.equal(client.events, []);
  target.release();
  await settled();
  assert.equal(client.events, ['end']);
  assert.is(client.replies()[0].cookie, 3n);
  client.connection.gone();
  assert.is(client.closedExports, client.openedExports);
});

test('a client that closes its direction still gets its answers', async () => {
  const { client, target } = await connected();
  target.held.add('read');
  await client.say(read(0, 10));
  client.connection.inputEnded();
  await settled();
  assert.equal(client.events, []);
  target.release();
  await settled();
  assert.is(client.replies().length, 1);
  assert.equal(client.events, ['end']);
});

test('any cut of a stream of requests gives the same answers', async () => {
  const payload = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251));
  const stream = bytes(
    write(payload, 3),
    read(0, 5010, { cookie: 2n }),
    write(payload, 2 ** 20, { cookie: 3n }),
    status(0, 4096),
    zeroes(100, 100, noHole),
    flush({ cookie: 4n }),
    write(bytes(1), 0, { cookie: 5n, flags: fua }),
    read(0, 200, { cookie: 6n, flags: df }),
    request({ command: COMMAND.disconnect }),
  );
  // Once flushed, the order of replies is the order of the stream, as the export is quick.
  const sorted = (replies: Reply[]) =>
    replies.map((r) => `${r.cookie} ${r.error} ${r.data.toString('hex')}`).sort();
  let expected: string[] | undefined;
  for (const size of [stream.length, 1, 2, 3, 7, 27, 28, 29, 1000, 4096]) {
    const { client, target } = await connected(new TestExport(), { contexts: [BASE] });
    await client.say(stream, size);
    const replies = sorted(client.replies());
    assert.is(replies.length, 8);
    expected ??= replies;
    assert.equal(replies, expected, `in pieces of ${size}`);
    assert.equal(client.events, ['end']);
    assert.ok(target.content.subarray(203, 5003).equals(payload.subarray(200)));
  }
});

test('a write that arrived in one piece is handed on as it lies there', async () => {
  const { client, target } = await connected();
  const piece = bytes(write(bytes(1, 2, 3, 4), 0), write(bytes(5, 6), 9));
  const seen: Uint8Array[] = [];
  target.write = (from) => void seen.push(from);
  client.connection.receive(piece);
  assert.equal(
    seen.map((s) => [s.buffer === piece.buffer, s.byteOffset - piece.byteOffset, s.byteLength]),
    [
      [true, 28, 4],
      [true, 60, 2],
    ],
  );
});

test('what is done at once is answered within the same turn, all in one write', async () => {
  const { client } = await connected();
  const before = client.sends;
  client.connection.receive(
    Buffer.concat([...Array(10)].map((_, i) => (i % 2 ? read(0, 4096) : write(bytes(1), 0)))),
  );
  assert.is(client.sends, before + 1);
  assert.is(client.replies().length, 10);
});

test('what ends later in one turn goes out in one write', async () => {
  const { client, target } = await connected();
  target.held.add('read');
  await client.say(Buffer.concat([...Array(10)].map((_, i) => read(i, 100))));
  const before = client.sends;
  while (target.release() > 0);
  await settled();
  assert.is(client.sends, before + 1);
  assert.is(client.replies().length, 10);
});

test('requests, bytes, errors and times are counted', async () => {
  const { client, target } = await connected();
  target.failing.set('write', new KageError('io-error', 'no'));
  await client.exchange(
    read(0, 1000),
    read(0, 24),
    read(2 ** 40, 8),
    write(bytes(1, 2), 0),
    flush(),
  );
  target.failing.clear();
  await client.exchange(write(bytes(1, 2, 3), 0));
  const { metrics } = client;
  assert.equal(
    [metrics.requests('read'), metrics.errors('read'), metrics.bytes('read')],
    [3, 1, 1024],
  );
  assert.equal(
    [metrics.requests('write'), metrics.errors('write'), metrics.bytes('write')],
    [2, 1, 3],
  );
  assert.is(metrics.requests('flush'), 1);
  assert.is(metrics.latency('read').total, 3);
  assert.ok(metrics.latency('read').quantile(0.5) >= 1);
});

test('a short request waits for its rest', async () => {
  const { client } = await connected();
  const ask = bytes(be32(0x25609513), be16(0), be16(0), be64(7n), be64(0n), be32(4));
  await client.say(ask.subarray(0, 27));
  assert.is(client.replies().length, 0);
  await client.say(ask.subarray(27));
  assert.is(client.replies().length, 1);
});

test.run();
