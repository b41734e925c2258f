/** The NBD client as a block device, on servers of every ability. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { NbdDevice } from '../../src/nbd/client-device.ts';
import { ALLOCATION, COMMAND, TRANSMISSION } from '../../src/nbd/wire.ts';
import { deviceConformance, same } from '../conformance/device.ts';
import { randomBytes } from '../support/world.ts';
import { FakeClock, type FakeServer, simple, WRITABLE } from './client-fake.ts';
import { KIB, rejects, SIZE, subject, withServer } from './client-world.ts';

deviceConformance('nbd: client device', (content) => subject(content)).run();

const variants: readonly (readonly [string, (server: FakeServer) => void])[] = [
  ['blocks of 4096', (s) => void (s.blocks = [4096, 4096, 8192])],
  ['blocks of 512, payloads of 1 KiB', (s) => void (s.blocks = [512, 512, 1024])],
  ['payloads of 700 bytes', (s) => void (s.blocks = [1, 512, 700])],
  [
    'simple replies, no zeroes',
    (s) => {
      s.structured = false;
      s.flags = TRANSMISSION.hasFlags | TRANSMISSION.sendFlush;
    },
  ],
  [
    'EXPORT_NAME only',
    (s) => {
      s.structured = s.go = s.noZeroes = false;
    },
  ],
];
for (const [name, prepare] of variants) {
  deviceConformance(`nbd: client device, ${name}`, (content) => subject(content, prepare)).run();
}

const test = suite('nbd: client device, requests');

test('what cannot be opened says why', () =>
  withServer(async ({ server, open }) => {
    server.flags = WRITABLE & ~TRANSMISSION.sendFlush;
    await rejects(open(), 'not-permitted', /server has no flush/);
    server.flags = WRITABLE | TRANSMISSION.readOnly;
    await rejects(open(), 'image-readonly', /read-only/);
    server.flags = WRITABLE;
    const clock = new FakeClock();
    const other = server.uri.replace('disk', 'else');
    const error = await rejects(NbdDevice.connect(other, { clock }), 'image-missing', /no export/);
    assert.not.ok(error.message.includes('\x1b'), 'nothing that moves a cursor');
    await rejects(NbdDevice.connect('nbd:/x', { clock }), 'usage', /no NBD URI/);
    server.greeting = Buffer.from('SSH-2.0-OpenSSH_9.2p1\r\n');
    await rejects(open(), 'io-error', /no NBD server/);
    await server.stop();
    await rejects(open(), 'io-error', /no server listens there/);
    await server.start();
  }));

test('a server without flush can be read', () =>
  withServer(async ({ server, open }) => {
    server.flags = TRANSMISSION.hasFlags | TRANSMISSION.readOnly;
    const device = await open({ readOnly: true });
    const into = new Uint8Array(SIZE);
    await device.read(into, 0);
    same(into, server.content, 'read');
    await device.flush();
    assert.equal(new Set(server.asked.map(({ command }) => command)), new Set([COMMAND.read]));
  }));

test('closing says good-bye, after what is under way', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open({ pieceBytes: 4096, window: 2 });
    const into = new Uint8Array(SIZE);
    const reading = device.read(into, 0);
    await clock.until(device.close());
    await clock.until(reading);
    same(into, server.content, 'read');
    assert.is(server.goodbyes, 1);
    assert.is(server.connections, 1);
  }));

test('closing does not wait for a server that does not answer it', () =>
  withServer(async ({ server, clock, open }) => {
    const device = await open();
    server.lingers = true;
    const before = clock.now;
    await clock.until(device.close());
    assert.ok(clock.now - before >= 1900 && clock.now - before <= 2200, `${clock.now - before}`);
    assert.is(server.goodbyes, 1);
  }));

test('no more than the window is in flight, in pieces that lie well', () =>
  withServer(async ({ server, open, clock }) => {
    const device = await open({ pieceBytes: 16 * KIB, window: 4 });
    server.trick = () => 'ignore';
    const into = new Uint8Array(SIZE - 5);
    const reading = device.read(into, 5);
    const other = device.read(new Uint8Array(SIZE), 0);
    await clock.advance(1000);
    assert.equal(server.log(), [
      `read 5+${16 * KIB - 5}`,
      `read ${16 * KIB}+${16 * KIB}`,
      `read ${32 * KIB}+${16 * KIB}`,
      `read ${48 * KIB}+${16 * KIB}`,
    ]);
    server.trick = () => undefined;
    server.drop();
    await clock.until(reading);
    await clock.until(other);
    same(into, server.content.subarray(5), 'read');
  }));

test('no request has flags, and what was not offered is not sent', () =>
  withServer(async ({ server, open }) => {
    server.flags = TRANSMISSION.hasFlags | TRANSMISSION.sendFlush;
    server.contexts = false;
    const device = await open();
    await device.zero(0, 100 * KIB);
    await device.write(randomBytes(1000, 3), 77);
    await device.read(new Uint8Array(1000), 77);
    await device.flush();
    assert.equal(await device.blockStatus(0, SIZE), [{ length: SIZE, flags: 0 }]);
    const { write, read, flush } = COMMAND;
    assert.equal(
      new Set(server.asked.map(({ command }) => command)),
      new Set([write, read, flush]),
    );
    assert.ok(server.asked.every(({ flags }) => flags === 0));
    assert.ok(server.content.subarray(2000, 100 * KIB).every((byte) => byte === 0));
  }));

test('zeroes go out as one request each 32 MiB', () =>
  withServer(
    async ({ server, open }) => {
      const device = await open();
      await device.zero(0, 33 * KIB * KIB);
      assert.equal(server.log(), [
        `writeZeroes 0+${32 * KIB * KIB}`,
        `writeZeroes ${32 * KIB * KIB}+${KIB * KIB}`,
      ]);
    },
    new Uint8Array(33 * KIB * KIB),
  ));

test('errors of the server are errors of the call, with its words', () =>
  withServer(async ({ server, open }) => {
    const device = await open();
    const tricks: Record<number, { errno: number; text?: string }> = {
      [COMMAND.read]: { errno: 5, text: 'bad sector' },
      [COMMAND.write]: { errno: 28 },
      [COMMAND.writeZeroes]: { errno: 1 },
      [COMMAND.blockStatus]: { errno: 4000 },
    };
    server.trick = ({ command }) => tricks[command];
    const bytes = new Uint8Array(512);
    await rejects(device.read(bytes, 512), 'io-error', /reading at byte 512 failed: EIO \(bad sec/);
    await rejects(device.write(bytes, 512), 'disk-full', /no room left/);
    await rejects(device.zero(512, 512), 'io-error', /zeroing at byte 512 failed: EPERM/);
    await rejects(
      device.blockStatus(0, 512),
      'io-error',
      /block status at byte 0 failed: error 4000/,
    );
    await device.flush();
    assert.is(device.faulted, undefined);
    server.trick = () => undefined;
    await device.read(bytes, 512);
    same(bytes, server.content.subarray(512, 1024), 'afterwards');
  }));

test('after a failed piece no other follows', () =>
  withServer(async ({ server, open }) => {
    const device = await open({ pieceBytes: 4096, window: 2 });
    server.trick = ({ offset }) => (offset === 8192 ? { errno: 5 } : undefined);
    const into = new Uint8Array(SIZE);
    await rejects(device.read(into, 0), 'io-error', /byte 8192/);
    assert.ok(server.asked.length <= 5, `${server.asked.length}`);
  }));

test('a transfer that fails does so when nobody uses its memory any more', () =>
  withServer(async ({ server, clock, open }) => {
    server.structured = false;
    const device = await open({ pieceBytes: 4096, window: 2 });
    let late = 0n;
    server.trick = ({ offset, cookie }) => {
      if (offset === 0) return { errno: 5 };
      late = cookie;
      return 'ignore';
    };
    const into = new Uint8Array(8192);
    let settled = false;
    const reading = Promise.resolve(device.read(into, 0)).finally(() => {
      settled = true;
    });
    reading.catch(() => {});
    await clock.advance(1000);
    assert.not.ok(settled, 'the second piece may still come');
    server.say(Buffer.concat([simple(late, 0), server.content.subarray(4096, 8192)]));
    await rejects(clock.until(reading), 'io-error', /byte 0/);
    same(into.subarray(4096), server.content.subarray(4096, 8192), 'the second piece');
  }));

test('a failed flush is never called good again', () =>
  withServer(async ({ server, open }) => {
    const device = await open();
    await device.write(Uint8Array.of(1), 0);
    server.trick = ({ command }) => (command === COMMAND.flush ? { errno: 5 } : undefined);
    const first = await rejects(device.flush(), 'io-error', /sync failed: EIO/);
    server.trick = () => undefined;
    assert.is(await rejects(device.flush(), 'io-error', /sync failed: EIO/), first);
    assert.is(device.faulted, first);
    assert.is(await rejects(device.read(new Uint8Array(1), 0), 'io-error', /sync/), first);
  }));

test('blocks: what is asked lies on blocks, whatever the caller asks', () =>
  withServer(async ({ server, open }) => {
    server.blocks = [4096, 4096, 8192];
    const device = await open();
    const model = Buffer.from(server.content);
    const data = randomBytes(20_000, 5);
    await device.write(data, 5000);
    model.set(data, 5000);
    await device.write(data.subarray(0, 10), 100);
    model.set(data.subarray(0, 10), 100);
    await device.zero(30_000, 10_000);
    model.fill(0, 30_000, 40_000);
    const into = new Uint8Array(50_000);
    await device.read(into, 1);
    same(into, model.subarray(1, 50_001), 'read');
    same(server.content, model, 'content');
    await device.blockStatus(5000, 100);
    for (const { offset, length } of server.asked) {
      assert.is(offset % 4096, 0);
      assert.is(length % 4096, 0);
      assert.ok(length <= 40_960);
    }
  }));

test('blocks: changes beside each other in one block lose nothing', () =>
  withServer(async ({ server, open }) => {
    server.blocks = [4096, 4096, 8192];
    const device = await open();
    const model = Buffer.from(server.content);
    const work: Promise<void>[] = [];
    for (let i = 0; i < 200; i++) {
      const [offset, length] = [i * 100, i % 7 === 0 ? 100 : 99];
      if (i % 3 === 0) {
        work.push(device.zero(offset, length) as Promise<void>);
        model.fill(0, offset, offset + length);
      } else {
        work.push(device.write(Buffer.alloc(length, i), offset) as Promise<void>);
        model.fill(i, offset, offset + length);
      }
    }
    await Promise.all(work);
    same(server.content, model, 'content');
  }));

test('block status tells holes and data, in the asked range only', () =>
  withServer(async ({ server, open }) => {
    const device = await open();
    assert.ok(device.hasAllocation);
    const zero = ALLOCATION.hole | ALLOCATION.zero;
    await device.zero(1024, 1024);
    const extents = await device.blockStatus(1000, 3000);
    assert.equal(extents[0], { length: 24 + 488, flags: 0 }, 'runs of 512 from 1000 on');
    const sum = extents.reduce((total, { length }) => total + length, 0);
    assert.is(sum, 3000);
    const aligned = await device.blockStatus(512, 2048);
    assert.equal(aligned, [
      { length: 512, flags: 0 },
      { length: 1024, flags: zero },
      { length: 512, flags: 0 },
    ]);
    server.blocks = [4096, 4096, 8192];
    const blocky = await open();
    const within = await blocky.blockStatus(1500, 100);
    assert.equal(within, [{ length: 100, flags: zero }]);
  }));

test.run();
