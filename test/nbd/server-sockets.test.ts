/** The server on real sockets: places, stale sockets, limits, clients that vanish, the orderly end. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { fixedExports } from '../../src/nbd/device-export.ts';
import { type NbdServer, type NbdServerOptions, startNbdServer } from '../../src/nbd/server.ts';
import { parsePskFile } from '../../src/nbd/tls.ts';
import { ERRNO, OPTION, OPTION_REPLY } from '../../src/nbd/wire.ts';
import { inWorld, sleep, until, type World } from '../support/world.ts';
import {
  be32,
  bytes,
  infoData,
  option,
  optionReplies,
  read,
  repliesIn,
  TestExport,
  write,
} from './server-support.ts';

const test = suite('nbd: server on sockets');

/** A limit that no test waits for: one that does has failed. */
const HOURS = 2 ** 30;

type Setting = { world: World; server: NbdServer; at: string; target: TestExport };

async function serving(
  options: Partial<NbdServerOptions>,
  work: (setting: Setting) => Promise<void>,
): Promise<void> {
  await inWorld(async (world) => {
    const target = new TestExport();
    const at = world.path('nbd.sock');
    const server = await startNbdServer([{ kind: 'unix', path: at }], {
      exports: fixedExports([target]),
      clock: () => performance.now(),
      ...options,
    });
    try {
      await work({ world, server, at, target });
    } finally {
      await server.stop(0);
    }
  });
}

/** A plain socket that keeps what it hears. */
class Peer {
  readonly socket: net.Socket;
  heard = Buffer.alloc(0);
  /** Bytes that came; with `counting` nothing else is kept of them. */
  total = 0;
  counting = false;
  closed = false;

  constructor(where: string | { port: number; host: string }) {
    this.socket = typeof where === 'string' ? net.connect(where) : net.connect(where);
    this.socket.on('data', (data) => {
      this.total += data.length;
      if (!this.counting) this.heard = Buffer.concat([this.heard, data]);
    });
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.closed = true;
    });
  }

  async hears(length: number): Promise<Buffer> {
    await until(`${length} bytes`, () => this.heard.length >= length);
    const first = this.heard.subarray(0, length);
    this.heard = this.heard.subarray(length);
    return first;
  }

  /** To the transmission phase. */
  async enter(name = 'disk'): Promise<void> {
    await this.hears(18);
    this.socket.write(bytes(be32(3), option(OPTION.exportName, Buffer.from(name))));
    await this.hears(10);
  }
}

async function refusal(work: Promise<unknown>, code: string, says: RegExp): Promise<void> {
  try {
    await work;
  } catch (error) {
    assert.instance(error, KageError);
    assert.is((error as KageError).code, code, (error as Error).message);
    assert.match((error as Error).message, says);
    return;
  }
  assert.unreachable('it was not refused');
}

const options = (target = new TestExport()): NbdServerOptions => ({
  exports: fixedExports([target]),
  clock: () => performance.now(),
});

test('a unix socket is its owner’s alone, and gone after stop, with nothing beside it', () =>
  serving({}, async ({ world, server, at }) => {
    const { mode } = fs.statSync(at);
    assert.is(mode & 0o777, 0o600);
    assert.equal(fs.readdirSync(world.folder), ['nbd.sock']);
    assert.ok(await server.stop(1000));
    assert.equal(fs.readdirSync(world.folder), []);
  }));

test('a living server is not replaced, a dead one is, another file never', () =>
  serving({}, async ({ world, server, at, target }) => {
    const place = { kind: 'unix', path: at } as const;
    await refusal(
      startNbdServer([place], options()),
      'in-use',
      /nbd\.sock: another server listens/,
    );
    const peer = new Peer(at);
    await peer.hears(18);
    peer.socket.destroy();
    await server.stop(1000);
    makeDeadSocket(at);
    const second = await startNbdServer([place], options(target));
    assert.is(fs.statSync(at).mode & 0o777, 0o600);
    const again = new Peer(at);
    await again.enter();
    again.socket.destroy();
    await second.stop(1000);
    assert.not.ok(fs.existsSync(at));
    fs.writeFileSync(at, 'precious');
    await refusal(startNbdServer([place], options()), 'not-permitted', /no socket/);
    assert.is(fs.readFileSync(at, 'utf8'), 'precious');
    assert.equal(fs.readdirSync(world.folder), ['nbd.sock']);
  }));

/** A socket whose server has died without cleaning up. */
function makeDeadSocket(at: string): void {
  const code = `require('net').createServer().listen(${JSON.stringify(at)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', code]);
  assert.ok(fs.statSync(at).isSocket());
}

test('a place that cannot be is said, and no place is left listening', () =>
  inWorld(async (world) => {
    const first = { kind: 'unix', path: world.path('first.sock') } as const;
    const nowhere = { kind: 'unix', path: world.path('nowhere', 'nbd.sock') } as const;
    await refusal(startNbdServer([first, nowhere], options()), 'not-permitted', /nowhere/);
    const long = { kind: 'unix', path: world.path('x'.repeat(100)) } as const;
    await refusal(startNbdServer([first, long], options()), 'usage', /too long/);
    assert.equal(fs.readdirSync(world.folder), []);
    const taken = net.createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as net.AddressInfo;
    const tcp = { kind: 'tcp', host: '127.0.0.1', port } as const;
    await refusal(startNbdServer([first, tcp], options()), 'in-use', /127\.0\.0\.1:/);
    assert.equal(fs.readdirSync(world.folder), []);
    taken.close();
  }));

test('TCP serves this machine; others only with TLS required, or when it is said', async () => {
  for (const host of ['0.0.0.0', '::', '[::]', '192.0.2.1', 'example.org', '127.example.org']) {
    const place = { kind: 'tcp', host, port: 0 } as const;
    await refusal(startNbdServer([place], options()), 'not-permitted', /without TLS/);
    const certificate = { cert: '/nonexistent', key: '/nonexistent' };
    const optional = { ...options(), tls: { mode: 'optional', certificate } as const };
    await refusal(startNbdServer([place], optional), 'not-permitted', /without TLS/);
    const required = { ...options(), tls: { mode: 'required', certificate } as const };
    await refusal(startNbdServer([place], required), 'usage', /nonexistent/);
  }
  for (const host of ['127.0.0.1', 'localhost', '::1', '[::1]']) {
    const server = await startNbdServer([{ kind: 'tcp', host, port: 0 }], options());
    const [place] = server.places;
    assert.ok(place.kind === 'tcp' && place.port > 0);
    const peer = new Peer({ host: place.host, port: place.port });
    await peer.enter();
    peer.socket.write(read(0, 16));
    assert.is((await peer.hears(32)).readUInt32BE(4), 0);
    peer.socket.destroy();
    await server.stop(1000);
  }
  const insecure = { ...options(), insecure: true };
  const server = await startNbdServer([{ kind: 'tcp', host: '0.0.0.0', port: 0 }], insecure);
  await server.stop(0);
});

test('the clients of one export are cut off, once what they asked for is done', async () => {
  const others = new TestExport();
  others.name = 'other';
  const target = new TestExport();
  await serving({ exports: fixedExports([target, others]) }, async ({ server, at }) => {
    const [one, other] = [new Peer(at), new Peer(at)];
    await one.enter();
    await other.enter('other');
    target.held.add('write');
    one.socket.write(write(Buffer.from('taken up'), 0));
    await until('the write runs', () => target.waiting === 1);
    assert.is(await server.cut('disk', 50), false, 'the write takes its time');
    await until('it is closed', () => one.closed);
    target.release();
    assert.is(await server.cut('disk', HOURS), true);
    assert.is(target.content.subarray(0, 8).toString(), 'taken up');
    assert.is(other.closed, false);
    other.socket.write(read(0, 16));
    await other.hears(32);
    const again = new Peer(at);
    await again.enter();
    for (const peer of [other, again]) peer.socket.destroy();
  });
});

test('more clients than allowed are closed at once, and let in again later', () =>
  serving({ connectionsMax: 2 }, async ({ server, at }) => {
    const [one, two] = [new Peer(at), new Peer(at)];
    await one.enter();
    await two.hears(18);
    const three = new Peer(at);
    await until('the third is closed', () => three.closed);
    assert.is(three.heard.length, 0);
    assert.equal([server.metrics.connections, server.metrics.refused], [2, 1]);
    two.socket.destroy();
    await until('the second is gone', () => server.metrics.connections === 1);
    const four = new Peer(at);
    await four.enter();
    assert.is(server.metrics.accepted, 3);
  }));

test('who takes too long in the handshake is closed, who has ended it may idle', () =>
  serving({ handshakeMs: 150 }, async ({ at }) => {
    const [mute, slow, quick] = [new Peer(at), new Peer(at), new Peer(at)];
    await quick.enter();
    await slow.hears(18);
    slow.socket.write(be32(3));
    await until('both are closed', () => mute.closed && slow.closed);
    await sleep(100);
    quick.socket.write(read(0, 4));
    await quick.hears(20);
    assert.not.ok(quick.closed);
  }));

test('who comes before the server is ready waits, and is then served; too many do not', async () => {
  let open = () => {};
  const ready = new Promise<void>((resolve) => {
    open = resolve;
  });
  await serving({ ready, connectionsMax: 2 }, async ({ server, at }) => {
    const [early, gone, one] = [new Peer(at), new Peer(at), new Peer(at)];
    await until('one too many is closed', () => one.closed);
    gone.socket.destroy();
    await sleep(20);
    assert.equal([server.metrics.refused, server.metrics.accepted, early.total], [1, 0, 0]);
    open();
    await early.enter();
    const late = new Peer(at);
    await late.enter();
  });
  // One that never gets ready is stopped all the same.
  await serving({ ready: new Promise(() => {}) }, async ({ server, at }) => {
    const early = new Peer(at);
    await sleep(20);
    assert.ok(await server.stop(HOURS));
    await until('it is closed', () => early.closed);
  });
});

test('a client that vanishes in the middle of everything leaves the server alone', () =>
  serving({}, async ({ server, at, target }) => {
    target.held.add('read').add('write');
    for (const end of ['destroy', 'resetAndDestroy', 'end'] as const) {
      const peer = new Peer(at);
      await peer.enter();
      peer.socket.write(bytes(write(bytes(end.length), 7), read(0, 65_536), read(0, 65_536)));
      await until('the export is asked', () => target.waiting === 3);
      if (end === 'resetAndDestroy') peer.socket.destroy();
      else peer.socket[end]();
      await sleep(20);
      while (target.release() > 0);
      await until('it is gone', () => server.metrics.connections === 0);
      assert.is(target.content[7], end.length, 'the write was carried out');
    }
    const abort = new Peer(at);
    await abort.hears(18);
    abort.socket.write(bytes(be32(3), option(OPTION.list), option(OPTION.abort)));
    abort.socket.destroy();
    await until('it is gone', () => server.metrics.connections === 0);
  }));

test('a client that takes no replies keeps nobody else waiting, and costs a bounded amount', () =>
  serving({}, async ({ at, target }) => {
    const stuck = new Peer(at);
    await stuck.enter();
    stuck.socket.pause();
    stuck.counting = true;
    const before = stuck.total;
    const asks = Buffer.concat(Array.from({ length: 100 }, () => read(0, 1024 * 1024)));
    stuck.socket.write(asks);
    await until('its window is full', () => target.calls.length >= 63);
    await sleep(50);
    assert.ok(target.calls.length <= 64, `${target.calls.length}`);
    const other = new Peer(at);
    await other.enter();
    other.socket.write(read(0, 8));
    await other.hears(24);
    stuck.socket.resume();
    const all = 100 * (1024 * 1024 + 16);
    await until('it has everything', () => stuck.total - before === all);
  }));

test('stop: what is in flight is answered, what comes is refused, then all is closed', () =>
  serving({}, async ({ server, at, target }) => {
    const [working, idle, haggling] = [new Peer(at), new Peer(at), new Peer(at)];
    await working.enter();
    await idle.enter();
    await haggling.hears(18);
    haggling.socket.write(be32(3));
    target.held.add('write');
    working.socket.write(write(bytes(42), 1000, { cookie: 5n }));
    await until('the write has begun', () => target.waiting === 1);
    const stopped = server.stop(HOURS);
    haggling.socket.write(option(OPTION.go, infoData('disk')));
    await until('the haggler is told', () => haggling.heard.length > 0);
    assert.is(optionReplies(haggling.heard)[0].type, OPTION_REPLY.shutdown);
    idle.socket.write(read(0, 8, { cookie: 6n }));
    assert.is(repliesIn(await idle.hears(16))[0].error, ERRNO.ESHUTDOWN);
    assert.not.ok(fs.existsSync(at), 'nobody new');
    assert.not.ok(idle.closed);
    target.release();
    assert.is(repliesIn(await working.hears(16))[0].error, 0);
    assert.ok(await stopped);
    await until('all are closed', () => working.closed && idle.closed && haggling.closed);
    assert.is(target.content[1000], 42);
    assert.is(server.metrics.connections, 0);
  }));

test('stop: who is about to ask for an export is told, though nothing is in flight', () =>
  serving({}, async ({ server, at }) => {
    const peer = new Peer(at);
    await peer.hears(18);
    const stopped = server.stop(HOURS);
    peer.socket.write(bytes(be32(3), option(OPTION.go, infoData('disk'))));
    await until('it is told', () => peer.heard.length > 0);
    assert.is(optionReplies(peer.heard)[0].type, OPTION_REPLY.shutdown);
    assert.ok(await stopped);
    await until('it is closed', () => peer.closed);
  }));

test('stop: with nobody there, and with idle clients, it takes no time', () =>
  serving({}, async ({ server, at }) => {
    const idle = new Peer(at);
    await idle.enter();
    const before = performance.now();
    assert.ok(await server.stop(HOURS));
    assert.ok(performance.now() - before < 5000);
    assert.ok(await server.stop(HOURS), 'a second time');
  }));

test('stop: one that is in a hurry does not disturb one that waits', () =>
  serving({}, async ({ server, at, target }) => {
    const peer = new Peer(at);
    await peer.enter();
    target.held.add('write');
    peer.socket.write(write(bytes(1), 0));
    await until('the write has begun', () => target.waiting === 1);
    const patient = server.stop(HOURS);
    assert.not.ok(await server.stop(50));
    await until('it is closed', () => peer.closed);
    target.release();
    assert.ok(await patient, 'nothing is left to wait for');
  }));

test('stop: after the time limit clients are cut off', () =>
  serving({}, async ({ server, at, target }) => {
    const peer = new Peer(at);
    await peer.enter();
    target.held.add('flush').add('write');
    peer.socket.write(write(bytes(1), 0));
    await until('the write has begun', () => target.waiting === 1);
    assert.not.ok(await server.stop(50));
    await until('it is closed', () => peer.closed);
    target.release();
    await until('the write is carried out all the same', () => target.content[0] === 1);
  }));

test('keys: what is no key is named by its line', async () => {
  const hex = 'ab'.repeat(16);
  const keys = parsePskFile(`# comment\n\nalice:${hex}\nbob b:${hex}AB\r\n`, 'keys.psk');
  assert.equal([...keys.keys()], ['alice', 'bob b']);
  assert.is(keys.get('alice')!.length, 16);
  for (const bad of ['alice', 'alice:', 'alice:xyz', `:${hex}`, 'alice:abc', 'alice:abcd', '']) {
    assert.throws(
      () => parsePskFile(`${bad}\n`, 'keys.psk'),
      (error: KageError) => error.code === 'usage' && /keys\.psk: /.test(error.message),
    );
  }
});

test('TLS without anything to prove who one is, is refused', async () => {
  const place = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const;
  await refusal(
    startNbdServer([place], { ...options(), tls: { mode: 'required' } }),
    'usage',
    /certificate/,
  );
});

test('a client that keeps memory which others wait for is cut off, and only then', () =>
  serving({ budgetBytes: 32 * 2 ** 20, stallMs: 300 }, async ({ server, at, target }) => {
    Object.defineProperty(target, 'size', { value: 2 ** 30 });
    target.read = () => {};
    const transmitting = async () => {
      const peer = new Peer(at);
      await peer.enter();
      return peer;
    };
    const hog = await transmitting();
    hog.socket.pause();
    hog.socket.write(read(0, 32 * 2 ** 20));
    await until('the hog is served', () => server.metrics.requests('read') === 1);
    await sleep(700);
    assert.not.ok(hog.closed, 'nobody waits');
    const other = await transmitting();
    other.counting = true;
    const small = await transmitting();
    other.socket.write(read(0, 32 * 2 ** 20));
    small.socket.write(read(0, 16));
    await small.hears(16 + 16);
    await until('the other one is served', () => other.total >= 32 * 2 ** 20);
    assert.is(server.metrics.cutOff, 1);
    hog.socket.resume();
    await until('the hog is cut off', () => hog.closed);
  }));

test.run();
