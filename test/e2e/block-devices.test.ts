/** Block devices as both sides: loop devices, where root may make them. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
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

test.run();
