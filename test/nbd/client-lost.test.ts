/**
 * The NBD client when the server is lost, silent, or comes back: what goes on, and what must not.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TICK_MS } from '../../src/nbd/client-ticks.ts';
import { COMMAND, TRANSMISSION } from '../../src/nbd/wire.ts';
import { same } from '../conformance/device.ts';
import { randomBytes } from '../support/world.ts';
import { type Asked, simple } from './client-fake.ts';
import { KIB, rejects, SIZE, withServer } from './client-world.ts';

const test = suite('nbd: lost servers');

test('a server that says nothing at all is given up in time', () =>
  withServer(async ({ server, clock, open }) => {
    server.greeting = Buffer.from('NBDMAGIC');
    const opening = open({ connectMs: 3000 });
    await rejects(clock.until(opening), 'io-error', /no answer within 3 s/);
    assert.ok(clock.now >= 3000 && clock.now < 4000, `${clock.now}`);
  }));

test('a read goes on over a lost connection, and over a server started anew', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open({ pieceBytes: 16 * KIB, window: 3 });
    let count = 0;
    server.trick = () => (++count === 5 ? 'drop' : undefined);
    const into = new Uint8Array(SIZE);
    await clock.until(device.read(into, 0));
    same(into, server.content, 'over a lost connection');
    assert.is(device.generation, 1);
    await server.stop();
    await clock.advance(500);
    into.fill(0);
    const reading = device.read(into, 0);
    await clock.advance(2000);
    await server.start();
    await clock.until(reading);
    same(into, server.content, 'over a new server');
    assert.is(device.generation, 2);
    assert.is(device.faulted, undefined);
    await device.flush();
  }));

test('a reply cut in the middle leaves nothing half', () =>
  withServer(async ({ server, clock, open }) => {
    server.structured = false;
    const device = await open();
    const half = Buffer.alloc(20_000, 0xbb);
    server.trick = ({ connection, cookie }: Asked) => {
      if (connection > 1) return undefined;
      setTimeout(() => server.drop(), 5);
      return Buffer.concat([simple(cookie, 0), half]);
    };
    const into = new Uint8Array(SIZE);
    await clock.until(device.read(into, 0));
    same(into, server.content, 'read');
    assert.is(device.generation, 1);
  }));

test('writes that were not answered are sent again, and become durable', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open({ pieceBytes: 16 * KIB });
    server.trick = ({ connection }) => (connection === 1 ? 'drop' : undefined);
    const data = randomBytes(100_000, 9);
    await clock.until(device.write(data, 1234));
    await clock.until(device.zero(200_000, 1000));
    await clock.until(device.flush());
    same(server.durable.subarray(1234, 101_234), data, 'durable');
    assert.ok(server.durable.subarray(200_000, 201_000).every((byte) => byte === 0));
    assert.is(device.generation, 1);
    assert.is(device.faulted, undefined);
  }));

test('answered writes that were not flushed are never passed over in silence', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    await device.write(randomBytes(1000, 2), 0);
    await device.flush();
    await device.write(randomBytes(1000, 3), 5000);
    await server.stop(true);
    await clock.advance(100);
    await server.start();
    const says = /server was lost with writes it had not flushed/;
    const first = await rejects(clock.until(device.flush()), 'io-error', says);
    assert.is(await rejects(clock.until(device.flush()), 'io-error', says), first, 'it stays');
    assert.is(device.faulted, first);
    // The old content would be a lie: the write has returned.
    await rejects(clock.until(device.read(new Uint8Array(1000), 5000)), 'io-error', says);
    await rejects(clock.until(device.write(new Uint8Array(1), 5000)), 'io-error', says);
    await rejects(clock.until(device.blockStatus(0, 512)), 'io-error', says);
    assert.is(server.connections, 1, 'it does not come back');
  }));

test('a flush covers what was answered before it was sent, and nothing later', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    let release = () => {};
    await device.write(Uint8Array.of(1), 0);
    server.trick = ({ command, cookie }) => {
      if (command !== COMMAND.flush) return undefined;
      release = () => server.say(simple(cookie, 0));
      return 'ignore';
    };
    const flushing = device.flush();
    await clock.advance(100);
    await device.write(Uint8Array.of(2), 1);
    release();
    await flushing;
    assert.is(device.faulted, undefined);
    server.drop();
    await clock.advance(100);
    await rejects(clock.until(device.flush()), 'io-error', /had not flushed/);
  }));

test('a flush during which the server is lost fails if it had something to flush', () =>
  withServer(async ({ server, clock, open }) => {
    const clean = await open();
    server.trick = ({ connection }) => (connection === 1 ? 'drop' : undefined);
    await clock.until(clean.flush());
    assert.is(clean.generation, 1);
    await clean.write(Uint8Array.of(1), 0);
    server.trick = ({ command }) => (command === COMMAND.flush ? 'drop' : undefined);
    await rejects(clock.until(clean.flush()), 'io-error', /had not flushed/);
  }));

test('flushed writes are safe from a power cut, and the device goes on', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    const data = randomBytes(5000, 4);
    await device.write(data, 100);
    await device.flush();
    await server.stop(true);
    await server.start();
    const into = new Uint8Array(5000);
    await clock.until(device.read(into, 100));
    same(into, data, 'read');
    await device.write(Uint8Array.of(7), 0);
    await device.flush();
    assert.is(server.durable[0], 7);
  }));

test('a silent server: reads go on elsewhere, writes may still come and are a fault', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open({ answerMs: 5000 });
    server.trick = ({ connection }) => (connection === 1 ? 'ignore' : undefined);
    const into = new Uint8Array(5000);
    await clock.until(device.read(into, 0));
    same(into, server.content.subarray(0, 5000), 'read');
    assert.ok(clock.now >= 5000 && clock.now < 6000, `${clock.now}`);
    assert.is(device.generation, 1);
    server.trick = ({ connection }) => (connection === 2 ? 'ignore' : undefined);
    const writing = device.write(Uint8Array.of(1), 0);
    await rejects(clock.until(writing), 'io-error', /nobody knows/);
    await rejects(clock.until(device.flush()), 'io-error', /nobody knows/);
    assert.is(server.connections, 2);
  }));

test('a flush may take longer than a read', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open({ answerMs: 1000, flushMs: 20_000 });
    await device.write(Uint8Array.of(1), 0);
    server.trick = ({ command, cookie }) => {
      if (command !== COMMAND.flush) return undefined;
      void clock.sleep(15_000).then(() => server.say(simple(cookie, 0)));
      return 'ignore';
    };
    await clock.until(device.flush());
    await device.write(Uint8Array.of(1), 0);
    server.trick = () => 'ignore';
    const before = clock.now;
    await rejects(clock.until(device.flush()), 'io-error', /had not flushed/);
    assert.ok(clock.now - before >= 19_700 && clock.now - before < 21_000);
  }));

test('data on the way is an answer, however slow', () =>
  withServer(async ({ server, clock, open }) => {
    server.structured = false;
    const device = await open({ answerMs: 1000 });
    server.trick = ({ cookie }) => {
      void (async () => {
        for (let at = 0; at < 4096; at += 512) {
          await clock.sleep(600);
          server.say(server.content.subarray(at, at + 512));
        }
      })();
      return simple(cookie, 0);
    };
    const into = new Uint8Array(4096);
    await clock.until(device.read(into, 0));
    same(into, server.content.subarray(0, 4096), 'read');
    assert.is(device.generation, 0);
    assert.ok(clock.now > 4500);
  }));

test('a server that comes back as another is a fault', () =>
  withServer(async ({ server, clock, open }) => {
    const changes: readonly (readonly [RegExp, () => void])[] = [
      [/another size, 512 bytes instead of/, () => void (server.lie = 512)],
      [/another set of abilities/, () => void (server.flags |= TRANSMISSION.rotational)],
      [/another block size/, () => void (server.blocks = [512, 512, 2 ** 20])],
      [/another set of contexts/, () => void (server.contexts = false)],
    ];
    for (const [says, change] of changes) {
      const device = await open();
      const before = { lie: server.lie, flags: server.flags, blocks: server.blocks };
      change();
      server.drop();
      await clock.advance(100);
      const reading = device.read(new Uint8Array(512), 0);
      await rejects(clock.until(reading), 'image-changed', says);
      await rejects(clock.until(device.flush()), 'image-changed', says);
      Object.assign(server, { ...before, contexts: true });
    }
  }));

test('an idle device lets a lost connection be, until it is needed', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    server.drop();
    await clock.advance(60_000);
    assert.is(server.connections, 1);
    await clock.until(device.read(new Uint8Array(1), 0));
    assert.is(server.connections, 2);
    server.drop();
    await clock.advance(100);
    await clock.until(device.close());
    assert.is(server.connections, 2);
  }));

test('attempts to come back wait longer and longer, and end', () =>
  withServer(async ({ server, clock, open }) => {
    const reconnect = { attempts: 6, firstMs: 150, longestMs: 1000 };
    const device = await open({ reconnect });
    await server.stop();
    await clock.advance(500);
    clock.slept.length = 0;
    const reading = device.read(new Uint8Array(1), 0);
    const says = /could not be reached again in 6 attempts/;
    await rejects(clock.until(reading), 'io-error', says);
    const waits = clock.slept.filter((ms) => ms !== TICK_MS);
    assert.equal(waits, [150, 300, 600, 1000, 1000, 1000]);
    await server.start();
    await rejects(clock.until(device.flush()), 'io-error', says);
    assert.is(device.faulted?.code, 'io-error');
  }));

test('without attempts a lost connection is the end', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open({ reconnect: { attempts: 0 } });
    server.drop();
    await clock.advance(100);
    await rejects(clock.until(device.flush()), 'io-error', /closed the connection/);
    assert.is(server.connections, 1);
  }));

test('a request upon which the server always dies is given up', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    server.trick = ({ offset }) => (offset === 512 ? 'drop' : undefined);
    const reading = device.read(new Uint8Array(1), 512);
    await rejects(clock.until(reading), 'io-error', /lost 5 times upon the same request/);
    assert.is(server.connections, 5);
  }));

test('a server that stops says so, and its successor does the work', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    server.trick = ({ connection }) => (connection === 1 ? { errno: 108 } : undefined);
    const into = new Uint8Array(5000);
    await clock.until(device.read(into, 0));
    same(into, server.content.subarray(0, 5000), 'read');
    assert.is(device.generation, 1);
  }));

test('a server that stops may finish what it has begun', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    let begun = 0n;
    server.trick = ({ connection, offset, cookie }) => {
      if (connection > 1) return undefined;
      if (offset !== 0) return { errno: 108 };
      begun = cookie;
      return 'ignore';
    };
    const first = device.write(new Uint8Array(512).fill(1), 0);
    const second = device.read(new Uint8Array(512), 4096);
    await clock.advance(1000);
    assert.is(server.connections, 1, 'it waits for the answer to the write');
    server.say(simple(begun, 0));
    await clock.until(first);
    await rejects(clock.until(second), 'io-error', /had not flushed/);
  }));

test('a server that always stops is given up', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    server.trick = () => ({ errno: 108 });
    const reading = device.read(new Uint8Array(512), 0);
    await rejects(clock.until(reading), 'io-error', /lost 5 times upon the same request/);
  }));

test('a server that breaks the protocol is dropped for good', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    server.trick = ({ cookie }) => simple(cookie + 1n, 0);
    const says = /broke the NBD protocol/;
    await rejects(clock.until(device.read(new Uint8Array(9), 0)), 'io-error', says);
    server.trick = () => undefined;
    await rejects(clock.until(device.read(new Uint8Array(9), 0)), 'io-error', says);
    await rejects(clock.until(device.flush()), 'io-error', says);
    assert.is(server.connections, 1);
  }));

test.run();
