/** When two looks at an image prove that nobody wrote between them, and when they prove nothing. */

import fs from 'node:fs';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FileHost } from '../../src/device/file-host.ts';
import * as stamps from '../../src/device/stamp.ts';
import { type Stamp, stampDelay } from '../../src/device/stamp.ts';
import { inWorld } from '../support/world.ts';

const test = suite('device: stamp');

/** The reason, or '' when nobody wrote in between. */
const movedSince = (before: Stamp, now: Stamp) => stamps.movedSince(before, now) ?? '';
const differentFile = (before: Stamp, now: Stamp) => stamps.differentFile(before, now) ?? '';

const NS = 1_700_000_000_123_456_789n;
const MS = 1_700_000_000_123_000_000n;
const WHOLE = 1_700_000_000_000_000_000n;
const SECOND = 1_000_000_000n;

/** A file's stamp, taken `age` ms after its last change. */
function stamp(mtime: bigint, ctime = mtime, age = 60_000, more: Partial<Stamp> = {}): Stamp {
  const newest = mtime > ctime ? mtime : ctime;
  return {
    kind: 'file',
    id: '17',
    birth: '1600000000000000001',
    size: 1000,
    mtime: String(mtime),
    ctime: String(ctime),
    takenAt: Number(newest / 1_000_000n) + age,
    boot: 'boot',
    unreliable: null,
    ...more,
  };
}

test('the same times prove it, at each precision', () => {
  for (const time of [NS, MS, WHOLE]) {
    assert.is(movedSince(stamp(time), stamp(time)), '', String(time));
  }
});

test('any step of either time is a write', () => {
  assert.match(movedSince(stamp(NS), stamp(NS + 1n)), /written by another program/);
  assert.match(movedSince(stamp(NS), stamp(NS - 1n, NS)), /written/, 'set back');
  assert.match(movedSince(stamp(NS), stamp(NS, NS + 1n)), /touched by another program/);
  assert.match(movedSince(stamp(MS), stamp(MS + 1_000_000n)), /written/);
  assert.match(movedSince(stamp(WHOLE), stamp(WHOLE + SECOND)), /written/);
});

test('a time that was set back by hand shows in the time of change', () => {
  assert.match(movedSince(stamp(NS), stamp(NS, NS + 5n * SECOND)), /touched/);
});

test('of a fine and a coarse look the coarse one counts', () => {
  // One runtime sees nanoseconds, the other milliseconds of mtime and seconds of ctime.
  const fine = stamp(NS);
  const coarse = stamp(MS, WHOLE, 60_000);
  assert.is(movedSince(fine, coarse), '');
  assert.is(movedSince(coarse, fine), '');
  assert.match(movedSince(fine, stamp(MS + 1_000_000n, WHOLE)), /written/);
  assert.match(movedSince(fine, stamp(MS, WHOLE + SECOND)), /touched/);
});

test('a look in whole seconds that was too early cannot exclude a second write', () => {
  const early = stamp(MS, WHOLE, 100);
  assert.match(movedSince(early, stamp(MS, WHOLE)), /whole seconds/);
  const late = stamp(MS, WHOLE, 1100);
  assert.is(movedSince(late, stamp(MS, WHOLE)), '');
});

test('the wait before a look counts is just as long as its precision needs', () => {
  assert.is(stampDelay(stamp(NS, NS, 5000)), 0);
  assert.is(stampDelay(stamp(MS, WHOLE + SECOND, 5000)), 0);
  fc.assert(
    fc.property(
      fc.constantFrom(NS, MS, WHOLE),
      fc.integer({ min: -10, max: 3000 }),
      (ctime, age) => {
        const taken = stamp(MS, ctime, age);
        const wait = stampDelay(taken);
        assert.ok(wait >= 0 && wait <= 1200, String(wait));
        const again = { ...taken, takenAt: taken.takenAt + wait };
        assert.is(stampDelay(again), 0, 'waiting is enough');
        assert.is(movedSince(again, { ...again, takenAt: again.takenAt + 50_000 }), '');
      },
    ),
  );
});

test('a clock that was set back does not make anybody wait for hours', () => {
  assert.is(stampDelay(stamp(NS, NS, -3_600_000)), 0);
});

test('another file is told from a changed one', () => {
  const one = stamp(NS);
  assert.is(differentFile(one, stamp(NS + 1n)), '');
  assert.match(differentFile(one, stamp(NS, NS, 0, { id: '18' })), /replaced/);
  assert.match(differentFile(one, stamp(NS, NS, 0, { birth: '1600000000001000001' })), /replaced/);
  assert.is(differentFile(one, stamp(NS, NS, 0, { birth: '1600000000000000000' })), '');
  assert.match(differentFile(one, stamp(NS, NS, 0, { size: 999 })), /shrank from 1000 to 999/);
  assert.match(differentFile(one, stamp(NS, NS, 0, { size: 1001 })), /grew from 1000 to 1001/);
  assert.match(differentFile(one, stamp(NS, NS, 0, { kind: 'block' })), /was a file, is a block/);
  assert.match(movedSince(one, stamp(NS, NS, 0, { id: '18' })), /replaced/);
});

test('a file system that notes not every write proves nothing, whichever look says so', () => {
  const tmpfs = stamp(NS, NS, 60_000, { unreliable: 'lies on tmpfs' });
  assert.is(movedSince(stamp(NS), tmpfs), 'lies on tmpfs');
  assert.is(movedSince(tmpfs, stamp(NS)), 'lies on tmpfs');
});

function block(more: Partial<Stamp> = {}): Stamp {
  return stamp(NS, NS, 60_000, { kind: 'block', id: '7:1', writes: '10,0,0', ...more });
}

test('block devices go by their counters within one boot', () => {
  assert.is(movedSince(block(), block()), '');
  assert.is(movedSince(block(), block({ mtime: '5', ctime: '6' })), '', 'times mean nothing');
  assert.match(movedSince(block(), block({ writes: '11,0,0' })), /written by another/);
  assert.match(movedSince(block(), block({ boot: 'other' })), /started anew/);
  assert.match(movedSince(block({ boot: null }), block({ boot: null })), /started anew/);
  assert.match(movedSince(block(), block({ id: '7:2' })), /another device number/);
  assert.match(movedSince(block({ writes: undefined }), block()), /cannot be read/);
  assert.match(movedSince(block(), block({ writes: undefined })), /cannot be read/);
  assert.is(stampDelay(block()), 0);
});

test('the file behind a loop device counts as well', () => {
  const on = (backing: Stamp | undefined) => block({ backing });
  assert.is(movedSince(on(stamp(NS)), on(stamp(NS))), '');
  assert.match(movedSince(on(stamp(NS)), on(stamp(NS + 1n))), /lies on a file that was written/);
  assert.match(movedSince(on(stamp(NS)), on(undefined)), /another file behind/);
  assert.match(movedSince(on(undefined), on(stamp(NS))), /another file behind/);
});

test('a real file: reading proves nothing else, writing and mapping show', () =>
  inWorld(async (w) => {
    const host = new FileHost();
    const file = w.image('a', 100_000);
    const first = await host.stamp(file, true);
    if (first.unreliable !== null) return; // Then nothing is believed here anyway.
    w.read('a');
    assert.is(movedSince(first, await host.stamp(file, false)), '');
    w.scribble('a', 5, 'x');
    const second = await host.stamp(file, true);
    assert.match(movedSince(first, second), /written/);
    fs.utimesSync(file, new Date(1_000_000), Number(BigInt(first.mtime) / 1_000_000n) / 1000);
    assert.ok(movedSince(second, await host.stamp(file, true)), 'mtime set back');
    fs.renameSync(file, w.path('b'));
    w.image('a', 100_000);
    assert.match(differentFile(second, await host.stamp(file, false)), /replaced/);
  }));

test.run();
