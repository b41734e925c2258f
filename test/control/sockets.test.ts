/** The control socket itself: who may connect, dead and foreign servers, clients that vanish. */

import fs from 'node:fs';
import net from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { KageError } from '../../src/base/errors.ts';
import { openServed } from '../../src/control/client.ts';
import { type ControlServer, listenControl } from '../../src/control/server.ts';
import type { RunOptions } from '../../src/engine/api.ts';
import { inWorld, until, type World } from '../support/world.ts';
import { type FakeClass, fakeClass, served } from './rounds.ts';

const test = suite('control socket');

/** A server of one fake class in the home of a world. */
async function listen(w: World, fake: FakeClass): Promise<ControlServer> {
  fs.mkdirSync(w.home, { recursive: true });
  const { classes } = served([fake]);
  return await listenControl(w.path('home', 'control.sock'), {
    classes,
    ready: Promise.resolve(),
    answer: ({ path }) => ({ status: path === '/there' ? 200 : 404, body: `${path}\n` }),
  });
}

/** What the server says to these words, until it ends the connection. */
async function saidTo(w: World, ...words: readonly (string | Uint8Array)[]): Promise<string> {
  const socket = net.connect(w.path('home', 'control.sock'));
  let said = '';
  socket.on('data', (bytes) => {
    said += bytes;
  });
  const ended = new Promise<void>((resolve) => {
    socket.on('end', resolve).on('error', () => resolve());
  });
  for (const word of words) {
    socket.write(word);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await ended;
  socket.destroy();
  return said;
}

const HELLO = '{"kage":"hello","protocol":2}\n';
const GREETING = '{"kage":"control","protocol":2}\n';

/** Something else that listens on the control socket, and what it says. */
async function impostor(w: World, says: string): Promise<net.Server> {
  fs.mkdirSync(w.home, { recursive: true });
  const server = net.createServer((socket) => {
    socket
      .on('error', () => {})
      .resume()
      .write(says);
  });
  await new Promise<void>((resolve) => server.listen(w.path('home', 'control.sock'), resolve));
  return server;
}

async function errorOf(work: Promise<unknown>): Promise<KageError> {
  try {
    await work;
  } catch (error) {
    return error as KageError;
  }
  throw new Error('nothing was thrown');
}

test('without a server, or with a dead one, there is none', () =>
  inWorld(async (w) => {
    assert.is(await openServed('default', { home: w.home }), undefined);
    const path = w.path('home', 'control.sock');
    const server = await impostor(w, '');
    fs.linkSync(path, `${path}.kept`);
    await new Promise((resolve) => server.close(resolve));
    fs.renameSync(`${path}.kept`, path);
    assert.ok(fs.lstatSync(path).isSocket(), 'what a killed server leaves');
    assert.is(await openServed('default', { home: w.home }), undefined);
    fs.rmSync(path);
    fs.writeFileSync(path, 'no socket');
    assert.is(await openServed('default', { home: w.home }), undefined);
  }));

test('the socket is for its owner alone, and goes with its server', () =>
  inWorld(async (w) => {
    const fake = fakeClass('default');
    const server = await listen(w, fake);
    const path = w.path('home', 'control.sock');
    assert.is(fs.lstatSync(path).mode & 0o777, 0o600);
    const diskClass = (await openServed('default', { home: w.home }))!;
    assert.is((await diskClass.part(['p'])) as unknown, 'part');
    await diskClass.close();
    assert.is(fake.closed, false, 'closing only ends the connection');
    await server.stop();
    assert.not.ok(fs.existsSync(path));
  }));

test('another program, or another version, is named as such', () =>
  inWorld(async (w) => {
    for (const [says, expected] of [
      ['HTTP/1.1 400 Bad Request\n', /talks nonsense/],
      ['{"kage":"control","protocol":99}\n', /is of another version/],
      // Greets by itself, as the first version did.
      ['{"kage":"control","protocol":1}\n', /is of another version/],
      ['{"hello":1}\n', /is none of ours/],
    ] as const) {
      const server = await impostor(w, says);
      const error = await errorOf(openServed('default', { home: w.home }));
      assert.is(error.code, 'failed');
      assert.match(error.message, expected);
      await new Promise((resolve) => server.close(resolve));
    }
  }));

test('a server that ends stops what is waited for, and answers it', () =>
  inWorld(async (w) => {
    let begun = false;
    const join = (_m: string, _p: string, { signal }: RunOptions) =>
      new Promise((resolve) => {
        begun = true;
        signal!.addEventListener('abort', () => resolve('stopped'));
      });
    const server = await listen(w, fakeClass('default', { join }));
    const diskClass = (await openServed('default', { home: w.home }))!;
    const work = diskClass.join('m', 'p');
    await until('the join has begun', () => begun);
    const idle = net.connect(w.path('home', 'control.sock')).on('error', () => {});
    await server.stop();
    assert.is((await work) as unknown, 'stopped');
    assert.is((await errorOf(diskClass.info())).code, 'failed');
    await diskClass.close();
    idle.destroy();
  }));

test('a client that vanishes stops what it waited for', () =>
  inWorld(async (w) => {
    let begun = false;
    let stopped = false;
    const join = (_m: string, _p: string, { signal }: RunOptions) =>
      new Promise((resolve) => {
        begun = true;
        signal!.addEventListener('abort', () => {
          stopped = true;
          resolve('stopped');
        });
      });
    const server = await listen(w, fakeClass('default', { join }));
    const socket = net.connect(w.path('home', 'control.sock'));
    socket.write(`${HELLO}{"id":1,"open":"default","create":false}\n`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.write('{"id":2,"class":"default","method":"join","args":["m","p",{}]}\n');
    await until('the join has begun', () => begun);
    socket.destroy();
    await until('it was stopped', () => stopped);
    await server.stop();
  }));

test('there is a limit on clients', () =>
  inWorld(async (w) => {
    const server = await listen(w, fakeClass('default'));
    const sockets: net.Socket[] = [];
    let greeted = 0;
    let closed = 0;
    for (let i = 0; i < 66; i++) {
      const socket = net.connect(w.path('home', 'control.sock')).on('error', () => {});
      socket.write(HELLO);
      socket.once('data', () => greeted++);
      socket.once('close', () => closed++);
      sockets.push(socket);
    }
    await until('all are answered', () => greeted + closed === 66);
    assert.equal([greeted, closed], [64, 2]);
    assert.match(await saidTo(w, 'GET /there HTTP/1.1\r\n\r\n'), / 200 OK\r\n/, 'who watches');
    for (const socket of sockets) socket.destroy();
    await server.stop();
  }));

test('a client of another version is greeted, and that is the end', () =>
  inWorld(async (w) => {
    const server = await listen(w, fakeClass('default'));
    assert.is(await saidTo(w, '{"kage":"hello","protocol":1}\n'), GREETING);
    assert.is(await saidTo(w, '{"kage":"hello",', '"protocol":3}\n'), GREETING);
    assert.is(await saidTo(w, '{"id":1,"open":"default","create":false}\n'), '', 'no hello');
    await server.stop();
  }));

test('who says nothing, or half of it, is not waited for', () =>
  inWorld(async (w) => {
    const server = await listen(w, fakeClass('default'));
    const [silent, half, slow] = await Promise.all([
      // The first version waits for a greeting for ten seconds.
      saidTo(w),
      saidTo(w, '{"kage"'),
      saidTo(w, 'GET /there HTTP/1.1\r\n', 'Host: kage\r\n'),
    ]);
    assert.is(silent, GREETING);
    assert.is(half, '');
    assert.match(slow, /^HTTP\/1\.1 408 /);
    await server.stop();
  }));

test('HTTP on the same socket: one answer each, whatever comes', () =>
  inWorld(async (w) => {
    const server = await listen(w, fakeClass('default'));
    const rows: readonly (readonly [string | Uint8Array, RegExp])[] = [
      ['GET /there HTTP/1.1\r\nHost: kage\r\n\r\n', /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\/there\n$/],
      [
        'HEAD /there HTTP/1.1\r\n\r\n',
        /^HTTP\/1\.1 200 OK\r\n[\s\S]*Content-Length: 7\r\n[\s\S]*\r\n$/,
      ],
      ['GET /nothing HTTP/1.0\n\n', /^HTTP\/1\.1 404 /],
      [
        'POST /there HTTP/1.1\r\nContent-Length: 2\r\n\r\nab',
        /^HTTP\/1\.1 405 [\s\S]*Allow: GET, HEAD/,
      ],
      ['hello\n', /^HTTP\/1\.1 400 /],
      [Buffer.from([0x16, 3, 1, 2, 0, 10]), /^HTTP\/1\.1 4/],
      [`GET /there HTTP/1.1\r\nX: ${'x'.repeat(9000)}`, /^HTTP\/1\.1 431 /],
      [`GET /there HTTP/1.1\r\n\r\n${'x'.repeat(3_000_000)}`, /^HTTP\/1\.1 200 /],
    ];
    for (const [words, expected] of rows) {
      assert.match(await saidTo(w, words), expected, `${words.slice(0, 30)}`);
    }
    assert.match(await saidTo(w, 'GET /the', 're HTTP/1.1\r\n\r', '\n'), / 200 OK/, 'in pieces');
    await server.stop();
  }));

test.run();
