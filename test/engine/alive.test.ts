/**
 * After a session that served clients was killed: its own last writes are told from those of others. The
 * killed session is a copy of its state folder, opened while the session itself goes on.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { setFaultHook } from '../../src/base/faults.ts';
import type { AttachedVolume, DiskClass } from '../../src/engine/api.ts';
import { openClass, readClass } from '../../src/engine/open.ts';

const test = suite('engine: alive');
const SIZE = 1024 * 1024;
const REGION = 4096;

type World = { dir: string; home: string; disks: DiskClass; master: AttachedVolume };

async function within(work: (world: World) => Promise<void>): Promise<void> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kage-alive-'));
  try {
    const image = path.join(dir, 'm.img');
    fs.writeFileSync(image, Buffer.alloc(SIZE, 1));
    const home = path.join(dir, 'home');
    const disks = await openClass('default', { home, create: true, live: true });
    await disks.join(image, path.join(dir, 'p.img'), { regionSize: REGION });
    const master = await disks.attach('m');
    await work({ dir, home, disks, master });
    await master.close();
    await disks.close();
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

/** What a kill -9 now would leave: the state, without the lock of the living. */
function killed(world: World): string {
  const home = path.join(world.dir, `killed-${Math.random()}`);
  fs.cpSync(path.join(world.home, 'classes'), path.join(home, 'classes'), {
    recursive: true,
    filter: (name) => !/\/lock/.test(name),
  });
  return home;
}

const pairOf = async (home: string) => (await readClass('default', { home })).pairs[0];
const settle = () => new Promise((resolve) => setTimeout(resolve, 400));

test('what the session wrote last is its own: the pair stays tracked', async () => {
  await within(async (world) => {
    await world.disks.part(['p']);
    await world.master.write(new Uint8Array(REGION).fill(7), 0);
    const home = killed(world);
    await settle();
    assert.is((await pairOf(home)).doubt, null);
    const disks = await openClass('default', { home });
    assert.is((await disks.info()).pairs[0].doubt, null);
    const report = await disks.rejoin(['p']);
    assert.is(report.pairs[0].copy!.method, 'differential');
    await disks.close();
  });
});

test('what was written after its end is not', async () => {
  await within(async (world) => {
    await world.disks.part(['p']);
    await world.master.write(new Uint8Array(REGION).fill(7), 0);
    const home = killed(world);
    await settle();
    const fd = fs.openSync(path.join(world.dir, 'm.img'), 'r+');
    fs.writeSync(fd, Buffer.alloc(10, 9), 0, 10, SIZE / 2);
    fs.closeSync(fd);
    assert.match((await pairOf(home)).doubt ?? '', /written by another program/);
  });
});

test('a snapshot that was being kept when the session was killed is still it', async () => {
  await within(async (world) => {
    const stopped = new AbortController();
    await world.disks.part(['p']);
    await world.master.write(new Uint8Array(SIZE).fill(3), 0);
    stopped.abort();
    // The copy does not begin: all of the snapshot is still on the master.
    await world.disks.update(['p'], { instant: true, signal: stopped.signal }).catch(() => {});
    await world.master.write(new Uint8Array(REGION).fill(8), 5 * REGION);
    const home = killed(world);
    await settle();
    const disks = await openClass('default', { home, live: true });
    const [pair] = (await disks.info()).pairs;
    assert.is(pair.state, 'copying');
    const proxy = await disks.attach('p', { readOnly: true });
    const into = new Uint8Array(SIZE);
    await proxy.read(into, 0);
    assert.ok(into.every((byte) => byte === 3));
    await proxy.close();
    await disks.close();
  });
});

test('what a second session believed outlives its own end', async () => {
  await within(async (world) => {
    await world.disks.part(['p']);
    await world.master.write(new Uint8Array(REGION).fill(7), 0);
    const home = killed(world);
    await settle();
    await (await openClass('default', { home, live: true })).close();
    assert.is((await pairOf(home)).doubt, null);
  });
});

test('and the end that comes in the middle of its recovery', async () => {
  await within(async (world) => {
    await world.disks.part(['p']);
    await world.master.write(new Uint8Array(REGION).fill(7), 0);
    const home = killed(world);
    await settle();
    let again: string | undefined;
    setFaultHook((step) => {
      if (step === 'recovery:pended') again = killed({ ...world, home });
    });
    try {
      await (await openClass('default', { home, live: true })).close();
    } finally {
      setFaultHook();
    }
    assert.is((await pairOf(again!)).doubt, null);
  });
});

test('a note of another session says nothing', async () => {
  await within(async (world) => {
    await world.disks.part(['p']);
    await world.master.write(new Uint8Array(REGION).fill(7), 0);
    const home = killed(world);
    await settle();
    const note = path.join(home, 'classes/default/alive');
    const [epoch, time] = fs.readFileSync(note, 'utf8').trim().split(' ').map(Number);
    fs.writeFileSync(note, `${epoch + 1} ${time}`.padEnd(64));
    assert.match((await pairOf(home)).doubt ?? '', /written by another program/);
    fs.writeFileSync(note, 'nonsense');
    assert.match((await pairOf(home)).doubt ?? '', /written by another program/);
  });
});

test.run();
