/** How much a connection may have in flight, what happens beyond, and what remains of a lost client. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { SLAB_BYTES } from '../../src/nbd/slabs.ts';
import { COMMAND, COMMAND_FLAG, ERRNO } from '../../src/nbd/wire.ts';
import { bytes, Client, MIB, read, request, settled, TestExport, write } from './server-support.ts';

const test = suite('nbd: server window');

async function connected(target = new TestExport()): Promise<[Client, TestExport]> {
  const client = new Client({ targets: [target] });
  await client.go({ structured: true });
  return [client, target];
}

const reads = (count: number, length: number) =>
  Buffer.concat([...Array(count)].map((_, i) => read(0, length, { cookie: BigInt(i) })));

test('no more than 64 requests are taken up; then reading stops until some have left', async () => {
  const [client, target] = await connected();
  target.held.add('read');
  await client.say(reads(70, 10));
  assert.is(target.calls.length, 64);
  assert.not.ok(client.wanted);
  target.release();
  await settled();
  assert.is(target.calls.length, 65);
  assert.not.ok(client.wanted);
  while (target.release() > 0) await settled();
  await settled();
  assert.is(client.replies().length, 70);
  assert.ok(client.wanted);
});

test('a client that takes no replies is not read any further', async () => {
  const [client, target] = await connected();
  client.stuck = true;
  await client.say(reads(200, 10));
  assert.is(target.calls.length, 64);
  assert.not.ok(client.wanted);
  assert.ok(client.connection.busy);
  for (let i = 0; i < 10; i++) {
    client.take();
    await settled();
  }
  assert.is(client.replies().length, 200);
  assert.ok(client.wanted);
  assert.not.ok(client.connection.busy);
});

test('no more than 64 MiB are in flight, counting replies that were not taken', async () => {
  const target = new TestExport(32 * MIB);
  const [client] = await connected(target);
  client.stuck = true;
  await client.say(reads(8, 20 * MIB));
  assert.is(target.calls.length, 3);
  client.take();
  await settled();
  assert.is(target.calls.length, 6);
  client.take();
  await settled();
  client.take();
  await settled();
  assert.is(target.calls.length, 8);
});

test('writes that the export has not finished count as well', async () => {
  const target = new TestExport(32 * MIB);
  const [client] = await connected(target);
  target.held.add('write');
  const one = write(Buffer.alloc(20 * MIB), 0);
  await client.say(bytes(one, one, one, one, one), 65_536);
  assert.is(target.calls.length, 3);
  assert.not.ok(client.wanted);
  target.release();
  await settled();
  assert.is(target.calls.length, 4);
  while (target.release() > 0) await settled();
  await settled();
  assert.is(client.replies().length, 5);
  assert.ok(client.wanted);
});

test('the largest request always finds room in an empty window', async () => {
  const target = new TestExport(32 * MIB);
  const [client] = await connected(target);
  const replies = await client.exchange(reads(3, 32 * MIB));
  assert.equal(
    replies.map((r) => r.data.length),
    [32 * MIB + 8, 32 * MIB + 8, 32 * MIB + 8],
  );
});

test('a claim costs nothing: memory grows with what has arrived', async () => {
  const taken: number[] = [];
  const [client, target] = await connected(new TestExport(32 * MIB));
  const take = client.store.take.bind(client.store);
  client.store.take = (length) => {
    taken.push(length);
    return take(length);
  };
  const piece = Buffer.alloc(65_536, 1);
  await client.say(request({ command: COMMAND.write, length: 32 * MIB }));
  assert.equal(taken, []);
  await client.say(piece);
  assert.equal(taken, [MIB]);
  for (let i = 1; i < 512; i++) await client.say(piece);
  assert.equal(
    taken.filter((n) => n >= MIB),
    [MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 32 * MIB],
  );
  assert.ok(target.content.every((byte) => byte === 1));
  assert.is(client.replies()[0].error, 0);
});

test('buffers come back: the same ones serve over and over, an idle connection holds none', async () => {
  const [client, target] = await connected(new TestExport(4 * MIB));
  let made = 0;
  const take = client.store.take.bind(client.store);
  client.store.take = (length) => {
    const before = client.store.freeBytes;
    const slab = take(length);
    if (client.store.freeBytes === before) made++;
    return slab;
  };
  const round = async () => {
    await client.say(reads(40, 10_000));
    await client.say(bytes(write(Buffer.alloc(MIB), 5), read(1, MIB + 7)), 65_536);
    target.held.add('read').add('write');
    await client.say(reads(20, 30_000));
    await client.say(write(Buffer.alloc(2 * MIB), 5), 65_536);
    // Some leave alone, some together.
    while (target.release() > 0) if (target.waiting % 5 === 0) await settled();
    target.held.clear();
    await settled();
    assert.is(client.heard().length > 0, true);
    assert.not.ok(client.connection.busy);
  };
  for (let i = 0; i < 3; i++) await round();
  const { freeBytes } = client.store;
  made = 0;
  for (let i = 0; i < 5; i++) await round();
  assert.is(made, 0, 'no new buffer');
  assert.is(client.store.freeBytes, freeBytes, 'none was lost');
});

/** Buffers that are out of the store, from now on. */
function buffersHeld(client: Client): () => number {
  let held = 0;
  const take = client.store.take.bind(client.store);
  const give = client.store.give.bind(client.store);
  client.store.take = (length) => {
    held++;
    return take(length);
  };
  client.store.give = (slab) => {
    held--;
    give(slab);
  };
  return () => held;
}

test('an idle connection holds no buffer', async () => {
  const [client, target] = await connected();
  const held = buffersHeld(client);
  await client.exchange(reads(20, 1000));
  assert.is(held(), 0);
  target.held.add('read');
  await client.say(reads(3, 1000));
  assert.is(held(), 1);
  while (target.release() > 0);
  await settled();
  assert.is(held(), 0);
});

test('answers that nobody will hear hold no buffer', async () => {
  const [client, target] = await connected();
  target.held.add('write');
  await client.say(Buffer.concat([...Array(20)].map(() => write(bytes(1), 0))));
  client.connection.gone();
  const held = buffersHeld(client);
  while (target.release() > 0);
  await settled();
  assert.is(held(), 0);
  assert.not.ok(client.connection.busy);
});

test('reads that fail and clients that go give buffers back too', async () => {
  const [client, target] = await connected();
  target.held.add('read');
  target.failing.set('read', new Error('no'));
  await client.say(reads(30, 20_000));
  while (target.release() > 0) await settled();
  await settled();
  assert.is(client.replies().length, 30);
  await client.say(reads(1, 10));
  target.release();
  await settled();
  assert.not.ok(client.connection.busy);
  assert.ok(client.store.freeBytes >= SLAB_BYTES);
});

test('what was taken up is carried out when the client is gone, then the export is closed', async () => {
  const [client, target] = await connected();
  target.held.add('write').add('flush').add('read');
  await client.say(
    bytes(
      write(bytes(1), 100, { flags: COMMAND_FLAG.fua }),
      read(0, 10),
      request({ command: COMMAND.writeZeroes, offset: 0, length: 50 }),
    ),
  );
  client.heard();
  client.connection.gone();
  const closed = client.closedExports;
  assert.ok(client.connection.busy);
  target.release('write');
  await settled();
  assert.is(target.content[100], 1);
  assert.is(client.closedExports, closed, 'the flush of FUA is still to come');
  target.release('flush');
  target.release('read');
  await settled();
  assert.is(client.closedExports, closed + 1);
  assert.not.ok(client.connection.busy);
  assert.is(client.heard().length, 0, 'nothing is sent');
});

test('half a write is no write', async () => {
  const [client, target] = await connected();
  await client.say(write(Buffer.alloc(1000, 1), 0).subarray(0, 900));
  client.connection.inputEnded();
  await settled();
  assert.equal(client.events, ['end']);
  client.connection.gone();
  assert.is(target.calls.length, 0);
});

test('a transport that is closed while replies are stuck frees the connection', async () => {
  const [client] = await connected();
  client.stuck = true;
  await client.say(reads(100, 4096));
  assert.ok(client.connection.busy);
  client.connection.gone();
  assert.not.ok(client.connection.busy);
  await settled();
  assert.is(client.openedExports, client.closedExports);
  // A transport may still report what it sent.
  client.take();
  await settled();
  assert.not.ok(client.connection.busy);
});

test('a stopping server refuses new requests and finishes those in flight', async () => {
  const [client, target] = await connected();
  target.held.add('write');
  await client.say(write(bytes(7), 0, { cookie: 1n }));
  client.connection.stop();
  const refused = await client.exchange(
    write(bytes(8, 9), 4, { cookie: 2n }),
    read(0, 8, { cookie: 3n }),
    request({ command: COMMAND.flush, cookie: 4n }),
  );
  assert.equal(
    refused.map((r) => [r.cookie, r.error]),
    [
      [2n, ERRNO.ESHUTDOWN],
      [3n, ERRNO.ESHUTDOWN],
      [4n, ERRNO.ESHUTDOWN],
    ],
  );
  assert.ok(client.connection.busy);
  target.release();
  await settled();
  assert.equal([client.replies()[0].error, target.content[0], target.content[4]], [0, 7, 0]);
  assert.not.ok(client.connection.busy);
  client.connection.end();
  assert.equal(client.events, ['end']);
});

test('zeroing 4 GiB leaves others their turn, also on the same connection', async () => {
  const target = new TestExport();
  const big = Object.assign(Object.create(target), { size: 2 ** 33, zero: () => {} }) as TestExport;
  const [client] = await connected(big);
  const all = request({ command: COMMAND.trim, length: 2 ** 32 - 1, cookie: 1n });
  client.connection.receive(bytes(all, read(0, 8, { cookie: 2n })));
  for (let i = 0; i < 1000 && client.connection.busy; i++) await settled();
  assert.equal(
    client.replies().map((r) => r.cookie),
    [2n, 1n],
  );
});

test.run();
