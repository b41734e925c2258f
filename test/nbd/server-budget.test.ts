/**
 * Memory that all connections share: never more than the budget and the allowances, room in the order in
 * which it was asked for, small requests at once, and everything given back whatever becomes of a client.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ALLOWANCE_BYTES, Budget } from '../../src/nbd/budget.ts';
import { COMMAND, ERRNO } from '../../src/nbd/wire.ts';
import { bytes, Client, MIB, read, request, settled, TestExport, write } from './server-support.ts';

const test = suite('nbd: server budget');
const BUDGET = 16 * MIB;

/** Clients of one server with a budget, each with an export of its own. */
async function clients(count: number): Promise<{ budget: Budget; all: Client[] }> {
  const budget = new Budget(BUDGET);
  const all: Client[] = [];
  for (let i = 0; i < count; i++) {
    const client = new Client({ targets: [new TestExport(32 * MIB)], budget });
    await client.go({ structured: true });
    all.push(client);
  }
  return { budget, all };
}

const calls = (client: Client) => client.targets[0].calls.length;

test('clients that take no replies hold no more together than the budget and their allowances', async () => {
  const { budget, all } = await clients(8);
  for (const client of all) {
    client.stuck = true;
    await client.say(bytes(read(0, 4 * MIB), read(0, 4 * MIB), read(0, 4 * MIB)));
  }
  const held = all.reduce((sum, client) => sum + calls(client) * 4 * MIB, 0);
  assert.ok(held <= BUDGET + 8 * ALLOWANCE_BYTES, `${held / MIB} MiB`);
  assert.ok(held > BUDGET / 2, `${held / MIB} MiB`);
  assert.ok(budget.isShort);
  for (let i = 0; i < 20; i++) {
    for (const client of all) client.take();
    await settled();
  }
  assert.equal(all.map(calls), Array(8).fill(3), 'everybody is served in the end');
  assert.is(budget.free, BUDGET);
  assert.not.ok(budget.isShort);
});

test('small requests are served at once, however short memory is', async () => {
  const { budget, all } = await clients(3);
  const [hog, waiting, good] = all;
  hog.stuck = true;
  await hog.say(read(0, 16 * MIB));
  await waiting.say(read(0, 8 * MIB));
  assert.ok(budget.isShort);
  assert.equal(all.map(calls), [1, 0, 0]);
  const replies = await good.exchange(read(0, 4096), read(4096, MIB - 8192));
  assert.is(replies.length, 2);
  hog.take();
  await settled();
  assert.is(calls(waiting), 1);
});

test('room is given in the order in which it was asked for', async () => {
  const { all } = await clients(4);
  const [hog, first, second, third] = all;
  hog.stuck = true;
  await hog.say(bytes(read(0, 8 * MIB), read(0, 8 * MIB)));
  for (const client of [first, second, third]) client.stuck = true;
  await first.say(read(0, 17 * MIB));
  // There would be room for this one.
  await second.say(read(0, 2 * MIB));
  await third.say(read(0, 2 * MIB));
  assert.equal(all.map(calls), [2, 0, 0, 0]);
  hog.take();
  await settled();
  assert.equal(all.map(calls), [2, 1, 0, 0], 'all of it');
  first.take();
  await settled();
  assert.equal(all.map(calls), [2, 1, 1, 1]);
});

test('a claim whose data stop in the middle keeps its room until the client is gone', async () => {
  const { budget, all } = await clients(2);
  const [half, other] = all;
  await half.say(request({ command: COMMAND.write, length: 16 * MIB }));
  await half.say(Buffer.alloc(3 * MIB), 65_536);
  assert.is(budget.free, BUDGET - 15 * MIB);
  await other.say(write(Buffer.alloc(8 * MIB), 0), 65_536);
  assert.is(calls(other), 0);
  half.connection.gone();
  await settled();
  assert.is(calls(other), 1);
  assert.is(calls(half), 0, 'half a write is no write');
  assert.is(budget.free, BUDGET);
});

test('who goes while it waits is not waited for', async () => {
  const { budget, all } = await clients(3);
  const [hog, gone, last] = all;
  hog.stuck = true;
  await hog.say(read(0, 16 * MIB));
  await gone.say(read(0, 8 * MIB));
  await last.say(read(0, 8 * MIB));
  gone.connection.gone();
  hog.take();
  await settled();
  assert.equal(all.map(calls), [1, 0, 1]);
  assert.is(budget.free, BUDGET);
});

test('what runs for a client that is gone counts until it has ended', async () => {
  const { budget, all } = await clients(1);
  const [client] = all;
  client.targets[0].held.add('write');
  await client.say(write(Buffer.alloc(8 * MIB), 0), 65_536);
  client.connection.drop();
  client.connection.gone();
  await settled();
  assert.is(budget.free, BUDGET - 7 * MIB);
  client.targets[0].release();
  await settled();
  assert.is(budget.free, BUDGET);
});

test('a stopping server refuses who waits, and lets the next one through', async () => {
  const { all } = await clients(3);
  const [hog, stopped, last] = all;
  hog.stuck = true;
  await hog.say(read(0, 16 * MIB));
  await stopped.say(read(0, 8 * MIB));
  await last.say(read(0, 8 * MIB));
  stopped.connection.stop();
  hog.take();
  await settled();
  assert.is(stopped.replies()[0].error, ERRNO.ESHUTDOWN);
  assert.is(calls(last), 1);
});

test('a client stalls when it takes no replies or sends no data, not when its export is slow', async () => {
  const { all } = await clients(3);
  const [stuck, half, slow] = all;
  stuck.stuck = true;
  await stuck.say(read(0, 4 * MIB));
  await half.say(request({ command: COMMAND.write, length: 4 * MIB }));
  slow.targets[0].held.add('read').add('write');
  await slow.say(read(0, 4 * MIB));
  for (const client of all) client.now = 100_000;
  const stalled = () => all.map(({ connection }) => connection.stalledMs(100_000) > 99_000);
  assert.equal(stalled(), [true, true, false]);
  slow.targets[0].release();
  await settled();
  await half.say(Buffer.alloc(4 * MIB), 65_536);
  stuck.take();
  await settled();
  assert.equal(stalled(), [false, false, false]);
  await stuck.say(read(0, 4096));
  for (const client of all) client.now = 200_000;
  assert.is(stuck.connection.stalledMs(200_000), 0, 'it holds nothing that others wait for');
  await stuck.say(read(0, 4 * MIB));
  for (const client of all) client.now = 300_000;
  await stuck.say(write(bytes(1), 0));
  assert.ok(stuck.connection.stalledMs(300_000) > 99_000, 'sending more is no progress');
});

test.run();
