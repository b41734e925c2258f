/**
 * Disks that fail under clients of a real server: syncs that the kernel refuses, remote proxies that
 * err, hang and go away, disks and state folders that are full.
 */

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import type { NbdDevice } from '../../src/nbd/client-device.ts';
import { connect } from '../crash/numbered.ts';
import { cases, leaveOut, MIB } from '../interop/support.ts';
import { NODE, sleep, until, type World } from '../support/world.ts';
import { type Server, serve } from './serve-support.ts';

const test = suite('e2e: faults under clients');
const here = cases(test, 'e2e');
const SIZE = 16 * MIB;
const canMount = process.getuid?.() === 0;

const bytes = (value: number, length = 4096) => new Uint8Array(length).fill(value);

async function outcome(work: void | Promise<void>): Promise<string> {
  try {
    await work;
    return 'done';
  } catch (error) {
    assert.instance(error, KageError);
    return (error as KageError).code;
  }
}

async function holds(device: NbdDevice, value: number, offset: number): Promise<boolean> {
  const into = new Uint8Array(4096);
  await device.read(into, offset);
  return into.every((byte) => byte === value);
}

function image(w: World, name: string): string {
  fs.truncateSync(w.image(name, 1), SIZE);
  return w.path(name);
}

/** Nobody knows of a difference, and there is none after the next copy. */
async function becomeEqual(w: World, server: Server): Promise<void> {
  assert.is((await w.ok(['verify', 'p'])).pairs[0].unexpected, 0);
  const { state, joined } = await w.pair('p');
  if (state !== 'joined') {
    const { pairs } = await w.ok(joined ? ['join', 'm', 'p'] : ['rejoin', 'p']);
    assert.is(pairs[0].copy.method, 'differential', pairs[0].copy.reason);
  }
  assert.is((await w.ok(['verify', 'p'])).pairs[0].differing, 0);
  await stop(server);
}

/** In order; what has failed is in its log. */
async function stop(server: Server): Promise<void> {
  server.process.child.kill('SIGTERM');
  const { status, stderr } = await server.process.ended;
  assert.is(status, 0, stderr);
  assert.not.match(stderr, /internal/);
}

// Syncs

/** A server for which the n-th sync of a file fails, once: the kernel says so only once, too. */
async function withFailingSync(w: World, file: string, n: number): Promise<Server> {
  const rule = `inject=fdatasync:error=EIO:when=${n}`;
  const strace = ['strace', '-f', '-qq', '-o', '/dev/null', '-P', file, '-e', rule];
  // One thread for system calls, because strace counts them by thread.
  const once = ['env', 'UV_THREADPOOL_SIZE=1', ...strace, '-e', 'trace=fdatasync', ...NODE];
  const server = await serve(w, [], once);
  w.atEnd(() => killBelow(server.process.child.pid!));
  return server;
}

/** strace leaves its child alive. */
function killBelow(pid: number): void {
  const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)]);
  for (const child of stdout.toString().split('\n').map(Number)) {
    if (child > 0) process.kill(child, 'SIGKILL');
  }
}

here(
  ['strace', 'ps'],
  'a master whose sync fails: no flush is good any more, snapshots hold',
  async (w) => {
    const [m, p, q] = ['m.img', 'p.img', 'q.img'].map((name) => w.path(name));
    image(w, 'm.img');
    await w.ok(['join', m, p]);
    await w.ok(['join', m, q]);
    await w.ok(['part', 'q']);
    const doomed = await withFailingSync(w, m, 4);
    const client = await connect(doomed.uri('default/m'));
    let flushed = 0;
    for (let i = 1; i < 50; i++) {
      await client.write(bytes(i), i * 65_536);
      if ((await outcome(client.flush())) !== 'done') break;
      flushed = i;
    }
    assert.ok(flushed > 0 && flushed < 49, `${flushed} flushes`);
    for (let i = 0; i < 5; i++) {
      // To a client of ours one such flush is enough: another one asks again.
      const other = await connect(doomed.uri('default/m'));
      assert.ok(await holds(other, flushed, flushed * 65_536));
      assert.is(await outcome(other.write(bytes(7), 0)), 'done');
      assert.is(await outcome(other.flush()), 'io-error', 'never again');
      await other.close();
    }
    const part = await w.run(['part', 'p', '--json']);
    assert.is(part.status, 20, part.stdout);
    const snapshot = await connect(doomed.uri('default/q'));
    assert.ok(await holds(snapshot, 0, flushed * 65_536));
    killBelow(doomed.process.child.pid!);
    await doomed.process.ended;
    const server = await serve(w);
    const again = await connect(server.uri('default/m'));
    for (let i = 1; i <= flushed; i++) assert.ok(await holds(again, i, i * 65_536), `block ${i}`);
    assert.is(await outcome(again.flush()), 'done');
    await again.close();
    await becomeEqual(w, server);
  },
);

here(
  ['strace', 'ps'],
  'a proxy whose sync fails: the master goes on, the log says it',
  async (w) => {
    const [m, p] = ['m.img', 'p.img'].map((name) => w.path(name));
    image(w, 'm.img');
    await w.ok(['join', m, p]);
    const doomed = await withFailingSync(w, p, 3);
    const client = await connect(doomed.uri('default/m'));
    for (let i = 1; i < 30; i++) {
      await client.write(bytes(i), i * 65_536);
      assert.is(await outcome(client.flush()), 'done');
    }
    assert.is((await w.pair('p')).state, 'invalid');
    assert.match(doomed.process.stderr, /FAILED: p is INVALID: .*sync failed: EIO/);
    killBelow(doomed.process.child.pid!);
    await doomed.process.ended;
    await becomeEqual(w, await serve(w));
  },
);

// Remote proxies

/** nbdkit over a file of the world. */
async function nbdkit(
  w: World,
  ...words: string[]
): Promise<{ uri: string; kill(): Promise<void> }> {
  const socket = w.path('remote.sock');
  fs.rmSync(socket, { force: true });
  const filters = words.filter((word) => word.startsWith('--'));
  const settings = words.filter((word) => !word.startsWith('--'));
  const file = w.path('remote.img');
  if (!fs.existsSync(file)) image(w, 'remote.img');
  const all = ['-f', '-U', socket, ...filters, 'file', file, ...settings];
  const child = spawn('nbdkit', all, { stdio: 'ignore' });
  w.atEnd(() => child.kill('SIGKILL'));
  await until('nbdkit listens', () => fs.existsSync(socket));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return {
    uri: `nbd+unix:///?socket=${socket}`,
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function joinedTo(w: World, uri: string): Promise<{ server: Server; client: NbdDevice }> {
  await w.ok(['add', image(w, 'm.img')]);
  await w.ok(['add', '--exclusive', `${uri}=p`]);
  await w.ok(['join', 'm', 'p']);
  const server = await serve(w);
  return { server, client: await connect(server.uri('default/m')) };
}

here(
  ['nbdkit'],
  'a remote proxy that errs: the master goes on, the rejoin brings what was missed',
  async (w) => {
    const trigger = w.path('errors');
    const error = [`error-file=${trigger}`, 'error-pwrite=EIO', 'error-pwrite-rate=100%'];
    const remote = await nbdkit(w, '--filter=error', '--filter=delay', ...error, 'wdelay=2ms');
    const { server, client } = await joinedTo(w, remote.uri);
    await client.write(bytes(1), 0);
    await client.flush();
    fs.writeFileSync(trigger, '');
    for (let i = 1; i < 20; i++)
      assert.is(await outcome(client.write(bytes(2), i * 70_000)), 'done');
    assert.is(await outcome(client.flush()), 'done');
    const { state, changedRegions } = await w.pair('p');
    assert.is(state, 'invalid');
    assert.ok(changedRegions > 0);
    fs.rmSync(trigger);
    await client.close();
    await becomeEqual(w, server);
  },
);

here(['nbdkit'], 'a remote proxy that goes away, and comes back', async (w) => {
  const remote = await nbdkit(w);
  const { server, client } = await joinedTo(w, remote.uri);
  await client.write(bytes(1), 0);
  await client.flush();
  // Not durable over there when it is killed.
  await client.write(bytes(2), 5 * MIB);
  await remote.kill();
  for (let i = 1; i < 20; i++) assert.is(await outcome(client.write(bytes(3), i * 70_000)), 'done');
  assert.is(await outcome(client.flush()), 'done');
  assert.is((await w.pair('p')).state, 'invalid');
  // A machine that lost what it had not synced.
  w.scribble('remote.img', 5 * MIB, bytes(0));
  const gone = await w.run(['rejoin', 'p', '--json']);
  assert.is(gone.status, 20, gone.stdout);
  assert.is(await outcome(client.write(bytes(4), MIB)), 'done');
  await nbdkit(w);
  await client.close();
  await becomeEqual(w, server);
  assert.is(w.hash('remote.img'), w.hash('m.img'));
});

here(
  ['nbdkit'],
  'a remote proxy that hangs: other volumes do not notice, and then it goes on',
  async (w) => {
    const control = w.path('pause.sock');
    const remote = await nbdkit(w, '--filter=pause', `pause-control=${control}`);
    const { server, client } = await joinedTo(w, remote.uri);
    await w.ok(['add', image(w, 'other.img')]);
    const other = await connect(server.uri('default/other'));
    const tell = (word: string) =>
      new Promise<void>((resolve, reject) => {
        const socket = net.connect(control, () => socket.write(word));
        socket.once('data', () => {
          socket.destroy();
          resolve();
        });
        socket.once('error', reject);
      });
    await tell('p');
    let written = false;
    const writing = Promise.resolve(client.write(bytes(9), 0)).then(() => {
      written = true;
    });
    for (let i = 0; i < 20; i++) {
      await other.write(bytes(i), i * 4096);
      await other.flush();
    }
    await sleep(300);
    assert.not.ok(written);
    await tell('r');
    await writing;
    await client.flush();
    assert.is((await w.pair('p')).state, 'joined');
    await Promise.all([client.close(), other.close()]);
    await becomeEqual(w, server);
    assert.is(w.hash('remote.img'), w.hash('m.img'));
  },
);

// Full disks

/** A small file system of its own; the answer gives it another size. */
function mountSmall(w: World, size: string): (size: string) => void {
  fs.mkdirSync(w.path('small'));
  const run = (...words: string[]) =>
    assert.is(spawnSync(words[0], words.slice(1)).status, 0, words.join(' '));
  run('mount', '-t', 'tmpfs', '-o', `size=${size}`, 'none', w.path('small'));
  w.atEnd(() => spawnSync('umount', ['-l', w.path('small')]));
  return (next) => run('mount', '-o', `remount,size=${next}`, w.path('small'));
}

function mounted(name: string, work: (w: World) => Promise<void>): void {
  if (canMount) here(['mount'], name, work);
  else leaveOut(test, name, name, 'needs root');
}

mounted(
  'a master on a full disk: its client is told, and goes on when there is room',
  async (w) => {
    const resize = mountSmall(w, '2m');
    await w.ok(['add', '--exclusive', image(w, 'small/m.img'), image(w, 'p.img')]);
    await w.ok(['join', 'm', 'p']);
    const server = await serve(w);
    const client = await connect(server.uri('default/m'));
    assert.is(await outcome(client.write(bytes(1), 0)), 'done');
    const outcomes = new Set<string>();
    for (let i = 1; i < 12; i++) outcomes.add(await outcome(client.write(bytes(2, MIB), i * MIB)));
    assert.equal([...outcomes], ['done', 'disk-full']);
    assert.is(await outcome(client.write(bytes(3), 0)), 'done');
    resize('64m');
    assert.is(await outcome(client.write(bytes(4, MIB), 11 * MIB)), 'done');
    assert.is(await outcome(client.flush()), 'done');
    await client.close();
    await becomeEqual(w, server);
  },
);

mounted('a proxy on a full disk: the master goes on', async (w) => {
  const resize = mountSmall(w, '2m');
  await w.ok(['add', '--exclusive', image(w, 'm.img'), image(w, 'small/p.img')]);
  await w.ok(['join', 'm', 'p']);
  const server = await serve(w);
  const client = await connect(server.uri('default/m'));
  for (let i = 0; i < 12; i++)
    assert.is(await outcome(client.write(bytes(2, MIB), i * MIB)), 'done');
  assert.is(await outcome(client.flush()), 'done');
  const { volumes } = await w.info();
  assert.match(volumes.find((v) => v.name === 'p')?.problem ?? '', /no room left on the disk/);
  resize('64m');
  await client.close();
  await becomeEqual(w, server);
});

mounted(
  'a full state folder: what needs no room there goes on, the rest when there is some',
  async (w) => {
    mountSmall(w, '1m');
    const env = { env: { KAGE_HOME: w.path('small/home') } };
    await w.ok(['join', image(w, 'm.img'), w.path('p.img')], env);
    const server = await serve(w, [
      '--home',
      w.path('small/home'),
      '--nbd',
      `unix:${w.path('nbd.sock')}`,
    ]);
    const client = await connect(`nbd+unix:///default/m?socket=${w.path('nbd.sock')}`);
    await client.write(bytes(1), 0);
    await client.flush();
    fill(w.path('small/stuff'));
    assert.is(await outcome(client.write(bytes(2), 0)), 'done', 'a hot extent');
    assert.is(await outcome(client.flush()), 'done');
    const part = await w.run(['part', 'p', '--json'], env);
    assert.is(part.status, 20, part.stdout);
    assert.is(JSON.parse(part.stdout).error.code, 'disk-full');
    // Beyond a heartbeat.
    await sleep(6000);
    assert.is(await outcome(client.write(bytes(3), 0)), 'done');
    assert.is(await outcome(client.flush()), 'done');
    fs.rmSync(w.path('small/stuff'));
    await w.ok(['part', 'p'], env);
    assert.ok(w.read('p.img').subarray(0, 4096).equals(bytes(3)));
    await client.close();
    await stop(server);
  },
);

/** Until nothing more goes in. */
function fill(file: string): void {
  const fd = fs.openSync(file, 'w');
  try {
    for (;;) fs.writeSync(fd, Buffer.alloc(4096));
  } catch {
    // Full, as it should be.
  } finally {
    fs.closeSync(fd);
  }
}

test.run();
