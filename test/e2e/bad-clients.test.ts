/**
 * Clients of a real server that stall, lie, talk nonsense or come in crowds, with a good one beside them:
 * that one goes on with the right data, and the server's memory stays within its bound.
 */

import fs from 'node:fs';
import net from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { NbdDevice } from '../../src/nbd/client-device.ts';
import { COMMAND, OPTION } from '../../src/nbd/wire.ts';
import { be32, bytes, option, read, request } from '../nbd/server-support.ts';
import { inWorld, randomBytes, sleep, until, type World } from '../support/world.ts';
import { type Server, serve } from './serve-support.ts';

const test = suite('e2e: bad clients');
const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
const LARGEST = 32 * MIB;
const CONNECTIONS_MAX = 100;
/** What all requests of all clients may take, and what the process takes without any; both with much room. */
const MEMORY_MAX = (512 + CONNECTIONS_MAX + 400) * MIB;

/** A socket that says what it is told and reads only when told so. */
class Raw {
  readonly socket: net.Socket;
  heard = 0;
  closed = false;

  constructor(w: World) {
    this.socket = net.connect(w.path('home/nbd.sock'));
    this.socket.on('data', (data) => {
      this.heard += data.length;
    });
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.closed = true;
    });
    w.atEnd(() => this.socket.destroy());
  }

  /** To the transmission phase; false: it was not let in. */
  async enter(): Promise<boolean> {
    this.socket.write(bytes(be32(3), option(OPTION.exportName, Buffer.from('default/m'))));
    await until('an export', () => this.closed || this.heard >= 18 + 10);
    return !this.closed;
  }
}

/** Writes, flushes and reads back; ends with what it has done. */
class Good {
  readonly #device: NbdDevice;
  rounds = 0;
  #ended = false;
  #work: Promise<void>;

  private constructor(device: NbdDevice) {
    this.#device = device;
    this.#work = this.#run();
    this.#work.catch(() => {});
  }

  static async connect(server: Server): Promise<Good> {
    const clock = { sleep };
    return new Good(await NbdDevice.connect(server.uri('default/m'), { clock }));
  }

  async #run(): Promise<void> {
    while (!this.#ended) {
      const data = randomBytes(8192, ++this.rounds);
      const offset = (this.rounds % 1000) * 8192;
      await this.#device.write(data, offset);
      if (this.rounds % 10 === 0) await this.#device.flush();
      const back = new Uint8Array(data.length);
      await this.#device.read(back, offset);
      assert.is(Buffer.compare(back, data), 0);
    }
  }

  /** It must get on while others misbehave. */
  async goesOn(): Promise<void> {
    const before = this.rounds;
    await until('the good client goes on', () => this.rounds >= before + 20);
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.#work;
    await this.#device.close();
  }
}

async function withServer(
  work: (w: World, server: Server, good: Good) => Promise<void>,
): Promise<void> {
  await inWorld(async (w) => {
    fs.truncateSync(w.image('m.img', 1), SIZE);
    await w.ok(['add', w.path('m.img')]);
    const server = await serve(w);
    const good = await Good.connect(server);
    await work(w, server, good);
    await good.goesOn();
    await good.end();
    await server.stop();
  });
}

/** Most memory that the process has had, bytes. */
function peakOf(server: Server): number {
  const status = fs.readFileSync(`/proc/${server.process.child.pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

test('a crowd: what is too much is closed at once, and room that comes free is given', () =>
  withServer(async (w, _, good) => {
    const crowd = Array.from({ length: 150 }, () => new Raw(w));
    const entered = await Promise.all(crowd.map((raw) => raw.enter()));
    assert.is(entered.filter(Boolean).length, CONNECTIONS_MAX - 1, 'and the good one');
    await good.goesOn();
    for (const raw of crowd) raw.socket.destroy();
    await until('there is room again', () => crowd.every((raw) => raw.closed));
    await sleep(100);
    assert.ok(await new Raw(w).enter());
  }));

test('nonsense, at every stage', () =>
  withServer(async (w, _, good) => {
    for (let i = 0; i < 20; i++) {
      const early = new Raw(w);
      early.socket.write(randomBytes(100 + i * 50, i));
      const late = new Raw(w);
      assert.ok(await late.enter());
      late.socket.write(randomBytes(28 + i, 100 + i));
      await until('both are closed', () => early.closed && late.closed);
    }
    await good.goesOn();
  }));

test('half a request, and then nothing: others do not notice, and the server ends in time', () =>
  withServer(async (w, _, good) => {
    for (const length of [1, 27, 28, 28 + 100]) {
      const raw = new Raw(w);
      assert.ok(await raw.enter());
      const whole = bytes(request({ command: COMMAND.write, length: 4096 }), Buffer.alloc(4096));
      raw.socket.write(whole.subarray(0, length));
    }
    await good.goesOn();
  }));

test('claims that stop in the middle, and replies that nobody reads: memory stays within its bound', () =>
  withServer(async (w, server, good) => {
    const raws: Raw[] = [];
    for (let i = 0; i < CONNECTIONS_MAX - 1; i++) {
      const raw = new Raw(w);
      assert.ok(await raw.enter());
      raw.socket.pause();
      raws.push(raw);
    }
    const half = Buffer.alloc(LARGEST / 2, 1);
    for (const [i, raw] of raws.entries()) {
      if (i % 2 === 0) {
        raw.socket.write(request({ command: COMMAND.write, length: LARGEST }));
        raw.socket.write(half);
      } else {
        for (let n = 0; n < 64; n++) raw.socket.write(read(0, LARGEST));
      }
    }
    for (let i = 0; i < 20; i++) {
      await good.goesOn();
      await sleep(100);
    }
    const peak = peakOf(server);
    assert.ok(peak < MEMORY_MAX, `${Math.round(peak / MIB)} MiB`);
    for (const raw of raws) raw.socket.destroy();
  }));

test.run();
