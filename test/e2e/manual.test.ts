/**
 * The manual's procedures (online backup by synchronization, instant restore, moving data to another
 * disk) with its own commands, on volumes cut from single disks.
 */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { inWorld, type World } from '../support/world.ts';

const test = suite('e2e: the commands of the manual');
const BLOCKS = 20_000;
const BYTES = BLOCKS * 512;

/** Runs one `sdx…` line and expects it to succeed; its standard output. */
async function sdx(w: World, line: string, status = 0): Promise<string> {
  const ended = await w.run(line.split(' '));
  assert.is(ended.status, status, `${line}\n${ended.stdout}${ended.stderr}`);
  assert.not.match(ended.stdout + ended.stderr, /\n {4}at /);
  return ended.stdout;
}

async function slices(w: World, volume: string): Promise<string> {
  const table = await sdx(w, `sdxinfo -S -c Class1 -o ${volume}`);
  return table.trim().split('\n').at(-1)!.split(/\s+/).at(-1)!;
}

/** Two volumes in the middle of two larger images. */
async function candidates(w: World): Promise<void> {
  w.image('disk1.img', 3 * BYTES, 1);
  w.image('disk2.img', 3 * BYTES, 2);
  await sdx(
    w,
    `sdxdisk -M -c Class1 -d ${w.path('disk1.img')}=Disk1:single,${w.path('disk2.img')}=Disk2:single`,
  );
  await sdx(w, `sdxvolume -M -c Class1 -d Disk1 -v First -s 2048`);
  await sdx(w, `sdxvolume -M -c Class1 -d Disk1 -v Volume1 -s ${BLOCKS}`);
  await sdx(w, `sdxvolume -M -c Class1 -d Disk2 -v Volume2 -s ${BLOCKS}`);
}

const master = (w: World) => w.read('disk1.img').subarray(2048 * 512, 2048 * 512 + BYTES);
const proxy = (w: World) => w.read('disk2.img').subarray(0, BYTES);
const rest = (w: World) => [
  w.read('disk1.img').subarray(0, 2048 * 512),
  w.read('disk1.img').subarray(2048 * 512 + BYTES),
  w.read('disk2.img').subarray(BYTES),
];

test('online backup by synchronization, then the instant restore', () =>
  inWorld(async (w) => {
    await candidates(w);
    const around = Buffer.concat(rest(w));
    await sdx(w, 'sdxproxy Join -c Class1 -m Volume1 -p Volume2', 13); // Volume2 is not stopped.
    await sdx(w, 'sdxvolume -F -c Class1 -v Volume2');
    await sdx(w, 'sdxproxy Join -c Class1 -m Volume1 -p Volume2');
    assert.is(await slices(w, 'Volume2'), 'STOP');
    await sdx(w, 'sdxproxy Part -c Class1 -p Volume2');
    assert.is(await slices(w, 'Volume2'), 'ACTIVE');
    const snapshot = Buffer.from(master(w));
    assert.ok(proxy(w).equals(snapshot));

    // The service goes on; the proxy is backed up as `dd` would.
    await w.ok(['write', 'Volume1', '-c', 'Class1', '--offset', '123456'], { input: 'new data' });
    assert.ok(proxy(w).equals(snapshot));
    await sdx(w, 'sdxproxy Rejoin -c Class1 -p Volume2', 13); // Volume2 was started by Part.
    await sdx(w, 'sdxvolume -F -c Class1 -v Volume2');
    await sdx(w, 'sdxproxy Rejoin -c Class1 -p Volume2 -e waitsync');
    assert.ok(proxy(w).equals(master(w)));
    assert.is(proxy(w).subarray(123456, 123464).toString(), 'new data');

    await sdx(w, 'sdxproxy Part -c Class1 -p Volume2');
    const good = Buffer.from(master(w));
    await w.ok(['write', 'Volume1', '-c', 'Class1'], { input: 'files were destroyed' });
    await sdx(w, 'sdxproxy RejoinRestore -c Class1 -p Volume2 -e instant', 13);
    await sdx(w, 'sdxvolume -F -c Class1 -v Volume1,Volume2');
    await sdx(w, 'sdxproxy RejoinRestore -c Class1 -p Volume2 -e instant');
    await sdx(w, 'sdxvolume -N -c Class1 -v Volume1');
    assert.ok(master(w).equals(good));
    assert.ok(proxy(w).equals(good));
    await sdx(w, 'sdxproxy Break -c Class1 -p Volume2');
    assert.ok(Buffer.concat(rest(w)).equals(around), 'bytes outside the volumes changed');
  }));

test('data moves to another disk by Swap, and everything can be taken down again', () =>
  inWorld(async (w) => {
    await candidates(w);
    await sdx(w, 'sdxvolume -F -c Class1 -v Volume2');
    await sdx(w, 'sdxproxy Join -c Class1 -m Volume1 -p Volume2');
    const data = Buffer.from(master(w));
    await sdx(w, 'sdxproxy Swap -c Class1 -p Volume2');
    await sdx(w, 'sdxproxy Break -c Class1 -p Volume2');
    await w.ok(['write', 'Volume1', '-c', 'Class1'], { input: 'after the move' });
    assert.is(w.read('disk2.img').subarray(0, 14).toString(), 'after the move');
    assert.ok(master(w).equals(data), 'the old place keeps the old data');
    await sdx(w, 'sdxdisk -R -c Class1 -d Disk1', 12); // It carries volumes.
    await sdx(w, 'sdxvolume -F -c Class1');
    for (const name of ['First', 'Volume1', 'Volume2']) {
      await sdx(w, `sdxvolume -R -c Class1 -v ${name}`);
    }
    await sdx(w, 'sdxdisk -R -c Class1 -d Disk1');
    await sdx(w, 'sdxclass -R -c Class1');
    assert.not.ok(fs.existsSync(w.path('home/classes/Class1')));
  }));

test.run();
