/**
 * The proxy lies behind an NBD server that logs every write and flush, and both it and ours are killed. What
 * the remote machine may have after a power cut is built from the log: everything before its last flush, and
 * of the later writes some, perhaps torn. With our own state as it was at that moment nothing that differs
 * may be believed equal, and a snapshot must be that of one moment.
 */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { seededRandom } from '../../src/device/memory-host.ts';
import { serve } from '../e2e/serve-support.ts';
import { cases, MIB } from '../interop/support.ts';
import { History } from '../support/history.ts';
import { seedOf, sleep, until, type World } from '../support/world.ts';
import { BLOCK, Counter, connect, versionOf, Writer } from './numbered.ts';

const test = suite('crash: what a remote proxy had not synced');
const here = cases(test, 'crash');
const random = seededRandom(seedOf('crash: what a remote proxy had not synced'));
const SIZE = 16 * MIB;
const BLOCKS = SIZE / BLOCK;
const SECTOR = 512;
/** States of the remote disk that are tried after each kill. */
const STATES = 4;

type Entry = { readonly offset: number; readonly data: Uint8Array } | 'flush';

/** The log of QEMU's `blklogwrites`: a header of one sector, then entries, each with its data behind it. */
function entriesOf(log: Buffer): Entry[] {
  // The header is written anew at each flush; killed in the middle of that it may be empty.
  const size = SECTOR;
  const entries: Entry[] = [];
  for (let at = size; at + 32 <= log.length; ) {
    const [sector, sectors, flags, length] = [0, 8, 16, 24].map((field) =>
      Number(log.readBigUInt64LE(at + field)),
    );
    if (sectors === 0 && flags === 0) break;
    const data = log.subarray(at + size, at + size + (flags & 4 ? 0 : sectors * size));
    // The last one may not have come to its end.
    if (at + size + data.length > log.length) break;
    if (sectors > 0) entries.push({ offset: sector * size, data });
    if ((flags & 1) !== 0) entries.push('flush');
    assert.ok(length >= 0);
    at += size + data.length;
  }
  return entries;
}

/** A state that the disk may be in when its machine comes back. */
function stateAfterCut(entries: readonly Entry[]): Buffer {
  const image = Buffer.alloc(SIZE);
  const last = entries.lastIndexOf('flush');
  for (const [i, entry] of entries.entries()) {
    if (entry === 'flush') continue;
    if (i < last) image.set(entry.data, entry.offset);
    else if (random() < 0.5) {
      const sectors = Math.ceil(random() * (entry.data.length / SECTOR));
      const torn = random() < 0.3 ? sectors * SECTOR : entry.data.length;
      image.set(entry.data.subarray(0, torn), entry.offset);
    }
  }
  return image;
}

/** qemu-nbd over the remote image; with a log if one is named. */
async function remote(w: World, log?: string): Promise<() => Promise<void>> {
  const socket = w.path('remote.sock');
  fs.rmSync(socket, { force: true });
  const file = `file.driver=file,file.filename=${w.path('remote.img')}`;
  const what =
    log === undefined
      ? ['-f', 'raw', w.path('remote.img')]
      : ['--image-opts', `driver=blklogwrites,${file},log.driver=file,log.filename=${log}`];
  const child = spawn('qemu-nbd', ['-k', socket, '-t', '-x', 'disk', ...what], { stdio: 'ignore' });
  w.atEnd(() => child.kill('SIGKILL'));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await until('qemu-nbd listens', () => fs.existsSync(socket));
  return async () => {
    child.kill('SIGKILL');
    await ended;
  };
}

/** Joined to the remote disk, with writers at work; then the verb, and the end of both servers. */
async function killBoth(w: World, verb: readonly string[]) {
  for (const name of ['m.img', 'remote.img', 'log']) {
    fs.writeFileSync(w.path(name), '');
    if (name !== 'log') fs.truncateSync(w.path(name), SIZE);
  }
  const killRemote = await remote(w, w.path('log'));
  await w.ok(['add', '--exclusive', w.path('m.img')]);
  await w.ok(['add', '--exclusive', `nbd+unix:///disk?socket=${w.path('remote.sock')}=p`]);
  await w.ok(['join', 'm', 'p']);
  const server = await serve(w);
  const history = new History(Array(BLOCKS).fill(0));
  const counter = new Counter();
  const device = await connect(server.uri('default/m'));
  const pick = (chance: number) => Math.floor(chance ** 2 * BLOCKS);
  const writer = new Writer({ device, history, counter, random, pick });
  const verbs: { from: number; to: number } = { from: 0, to: 0 };
  if (verb.length > 0) {
    await w.ok(['part', 'p']);
    await sleep(200);
    verbs.from = counter.next();
    await w.ok(verb);
    verbs.to = counter.next();
  }
  await sleep(100 + random() * 300);
  await Promise.all([server.kill(), killRemote()]);
  await writer.end();
  return { history, verbs };
}

const UPDATE = ['update', 'p', '--instant'];

// The copy goes on until the kill, or has just ended.
for (const verb of [[], [...UPDATE, '--rate', '8M'], UPDATE]) {
  here(['qemu-nbd'], verb.length === 0 ? 'joined' : verb.join(' '), async (w) => {
    const { history, verbs } = await killBoth(w, verb);
    const entries = entriesOf(w.read('log'));
    assert.ok(entries.includes('flush'));
    fs.cpSync(w.home, w.path('home.before'), { recursive: true, filter: isNoSocket });
    for (let i = 0; i < STATES; i++) {
      fs.rmSync(w.home, { recursive: true });
      fs.cpSync(w.path('home.before'), w.home, { recursive: true });
      fs.writeFileSync(w.path('remote.img'), stateAfterCut(entries), { flag: 'r+' });
      const end = await remote(w);
      await w.engine(async (disks) => {
        const { pairs } = await disks.verify(['p']);
        assert.is(pairs[0].unexpected, 0, 'regions are believed equal, and are not');
        assert.is((await disks.info()).pairs[0].doubt, null, 'the maps are believed');
        if (verb.length === 0) return;
        const bytes = await disks.read('p', 0, SIZE);
        const content = Array.from({ length: BLOCKS }, (_, b) =>
          versionOf(bytes.subarray(b * BLOCK, (b + 1) * BLOCK), b),
        );
        history.requireOneMoment([content], verbs.from, verbs.to, 'the snapshot');
      });
      await end();
    }
  });
}

function isNoSocket(file: string): boolean {
  return !fs.statSync(file).isSocket();
}

test.run();
