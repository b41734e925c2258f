/** Block devices as both sides: loop devices, where root may make them. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { expectRefusal } from '../support/refusals.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { inWorld, type World } from '../support/world.ts';

const test = suite('e2e: block devices');
const SIZE = 9 * 1024 * 1024 + 512;

/** Attaches an image of the world to a loop device; undefined where that is not allowed. */
function attach(w: World, image: string): string | undefined {
  const made = spawnSync('losetup', ['-f', '--show', w.path(image)], { encoding: 'utf8' });
  if (made.status !== 0) return undefined;
  const device = made.stdout.trim();
  w.atEnd(() => spawnSync('losetup', ['-d', device]));
  return device;
}

/** A loop device with a number of our own, which nobody else is given meanwhile. */
function ownDevice(w: World): string {
  const number = 100 + (process.pid % 900);
  const device = `/dev/loop${number}`;
  spawnSync('mknod', [device, 'b', '7', String(number)]);
  w.atEnd(() => {
    spawnSync('losetup', ['-d', device]);
    fs.rmSync(device, { force: true });
  });
  return device;
}

/** Puts another image behind a device. */
function exchange(w: World, device: string, image: string): void {
  spawnSync('losetup', ['-d', device]);
  const { status, stderr } = spawnSync('losetup', [device, w.path(image)]);
  assert.is(status, 0, String(stderr));
}

function write(device: string, offset: number, text: string): void {
  const fd = fs.openSync(device, 'r+');
  fs.writeSync(fd, Buffer.from(text), 0, text.length, offset);
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

const can =
  process.getuid?.() === 0 &&
  (await inWorld(async (w) => {
    w.image('probe.img', 4096);
    return attach(w, 'probe.img') !== undefined;
  }));
if (!can) console.log('SKIP e2e: block devices: no loop device can be attached here');

(can ? test : test.skip)('a pair of loop devices is tracked by their write counters', () =>
  inWorld(async (w) => {
    w.image('a.img', SIZE, 1);
    w.image('b.img', SIZE, 2);
    const master = attach(w, 'a.img')!;
    const proxy = attach(w, 'b.img')!;
    const name = proxy.slice('/dev/'.length);
    await w.ok(['join', master, proxy]);
    await w.ok(['part', proxy]);
    spawnSync('sync');
    assert.is(w.hash('a.img'), w.hash('b.img'));

    const tracked = await w.ok(['write', master, '--offset', '70000'], { input: 'tracked' });
    assert.is(tracked.verb, 'write');
    const first = await w.ok(['rejoin', name]);
    assert.is(first.pairs[0].copy.method, 'differential', first.pairs[0].copy.reason);
    assert.is(first.pairs[0].copy.regionsWritten, 1);

    await w.ok(['part', name]);
    write(master, 5_000_000, 'a stranger');
    const second = await w.ok(['rejoin', name]);
    assert.is(second.pairs[0].copy.method, 'compare');
    assert.match(second.pairs[0].copy.reason, /the master was written by another program/);
    assert.is(second.pairs[0].copy.regionsWritten, 1);

    await w.ok(['part', name]);
    w.scribble('a.img', 8_000_000, 'below the device');
    const third = await w.ok(['rejoin', name]);
    assert.is(third.pairs[0].copy.method, 'compare');
    assert.match(third.pairs[0].copy.reason, /lies on a file that was written/);
    const report = await w.ok(['verify', name]);
    assert.is(report.pairs[0].differing, 0);
  }),
);

(can ? test : test.skip)(
  'another disk under the same device name is refused, not overwritten',
  () =>
    inWorld(async (w) => {
      for (const [i, name] of ['vm.img', 'a.img', 'b.img'].entries()) w.image(name, SIZE, i + 1);
      const proxy = ownDevice(w);
      exchange(w, proxy, 'a.img');
      await w.ok(['join', w.path('vm.img'), proxy]);
      await w.ok(['part', proxy]);
      exchange(w, proxy, 'b.img');
      await expectRefusal(w, ['rejoin', proxy], {
        code: 'image-changed',
        says: /lies on a file that was replaced by another file/,
      });
      exchange(w, proxy, 'a.img');
      assert.is((await w.ok(['rejoin', proxy])).pairs[0].state, 'joined');
    }),
);

(can ? test : test.skip)('a link to a device names the volume, whatever the device is called', () =>
  inWorld(async (w) => {
    for (const [i, name] of ['vm.img', 'a.img', 'other.img'].entries()) w.image(name, SIZE, i + 1);
    const other = w.hash('other.img');
    const link = w.path('disk');
    const device = ownDevice(w);
    exchange(w, device, 'a.img');
    fs.symlinkSync(device, link);
    await w.ok(['join', w.path('vm.img'), link]);
    await w.ok(['part', 'disk']);
    // As after another start: the name of the device is another disk's now.
    exchange(w, device, 'other.img');
    fs.rmSync(link);
    fs.symlinkSync(attach(w, 'a.img')!, link);
    await w.ok(['rejoin', link]);
    spawnSync('sync');
    assert.is(w.hash('a.img'), w.hash('vm.img'));
    assert.is(w.hash('other.img'), other);
  }),
);

(can ? test : test.skip)('a device as standard input of write is read to its end', () =>
  inWorld(async (w) => {
    const data = w.image('data.img', SIZE, 7);
    const device = attach(w, 'data.img')!;
    for (const { name, command } of RUNTIMES) {
      w.image('vm.img', SIZE + 5, 1);
      await w.engine((disks) => disks.add([{ path: w.path('vm.img'), name }]), name);
      const line = `exec "$@" < ${device}`;
      const args = ['-c', line, 'sh', ...command, 'write', name, '-c', name, '--home', w.home];
      const ended = spawnSync('sh', args, { encoding: 'utf8' });
      assert.is(ended.status, 0, ended.stderr);
      assert.ok(w.read('vm.img').subarray(0, SIZE).equals(fs.readFileSync(data)), name);
      await w.engine((disks) => disks.remove([name]), name);
    }
  }),
);

(can ? test : test.skip)('a device that is mounted is not written', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE, 1);
    fs.truncateSync(w.image('fs.img', 1), SIZE);
    assert.is(spawnSync('mke2fs', ['-q', '-F', w.path('fs.img')]).status, 0);
    const device = attach(w, 'fs.img')!;
    fs.mkdirSync(w.path('mnt'));
    assert.is(spawnSync('mount', ['-o', 'ro', device, w.path('mnt')]).status, 0);
    w.atEnd(() => spawnSync('umount', [w.path('mnt')]));
    const mounted = { code: 'not-permitted' as const, says: /is mounted or in use by the system/ };
    await expectRefusal(w, ['join', w.path('vm.img'), device], mounted);
    await expectRefusal(w, ['copy', w.path('vm.img'), device], mounted);
    // To read it is the user's own risk.
    await w.ok(['join', device, w.path('p.img')]);
    await w.ok(['part', 'p']);
    await expectRefusal(w, ['restore', 'p'], mounted);
    spawnSync('umount', [w.path('mnt')]);
    await w.ok(['restore', 'p']);
  }),
);

test.run();
