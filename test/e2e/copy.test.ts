/** `kage copy` to a new image: whole or not there, whatever becomes of the command. */

import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runHere } from '../support/here.ts';
import { expectText } from '../support/refusals.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { inWorld, NODE, type Running, type Runtime, until, type World } from '../support/world.ts';

const test = suite('e2e: copy');
const MIB = 1024 * 1024;
const SIZE = 2 * MIB + 777;
const UNFINISHED = /^new\.img\.kage-\d+-[0-9a-f]{16}\.part$/;

/** What lies beside the source. */
function others(w: World): string[] {
  return fs.readdirSync(w.folder).filter((name) => name !== 'vm.img' && name !== 'home');
}

function copyArgs(w: World, ...more: string[]): string[] {
  return ['copy', w.path('vm.img'), w.path('new.img'), ...more];
}

/** A copy that takes seconds, found at work: some of the image is there. */
async function atWork(w: World, runtime: Runtime = NODE): Promise<Running> {
  w.image('vm.img', SIZE, 1);
  const running = w.start(copyArgs(w, '--rate', '512K'), { runtime });
  await until('the copy is at work', () =>
    others(w).some((name) => UNFINISHED.test(name) && fs.statSync(w.path(name)).blocks > 0),
  );
  return running;
}

async function endedBy(signal: 'SIGKILL' | 'SIGINT', runtime: Runtime): Promise<void> {
  await inWorld(async (w) => {
    const running = await atWork(w, runtime);
    running.child.kill(signal);
    const ended = await running.ended;
    const [left, ...more] = others(w);
    assert.match(left, UNFINISHED);
    assert.equal(more, []);
    if (signal === 'SIGINT') {
      assert.is(ended.status, 130, ended.stderr);
      assert.match(ended.stderr, /run the same command again to start over; the unfinished copy/);
      assert.match(ended.stderr, new RegExp(left));
    }
    const plan = await w.ok(copyArgs(w, '--dry-run'), { runtime });
    assert.match(plan.notes.join(), new RegExp(`would remove \\S*${left}`));
    assert.equal(others(w), [left]);
    const report = await w.ok(copyArgs(w), { runtime });
    assert.match(report.notes.join(), new RegExp(`removed \\S*${left}`));
    assert.equal(others(w), ['new.img']);
    assert.is(w.hash('new.img'), w.hash('vm.img'));
    assert.is(fs.statSync(w.path('new.img')).mode & 0o777, 0o600);
  });
}

for (const { name, command } of RUNTIMES) {
  for (const signal of ['SIGKILL', 'SIGINT'] as const) {
    test(`${name}: ${signal} leaves nothing that looks whole; the next copy starts over`, () =>
      endedBy(signal, command));
  }
}

test('a copy to a target that another process is making is refused and does not disturb it', () =>
  inWorld(async (w) => {
    const running = await atWork(w);
    for (const { command } of RUNTIMES) {
      const second = await w.run(copyArgs(w), { runtime: command });
      expectText(second, {
        code: 'in-use',
        says: new RegExp(`new\\.img: process ${running.child.pid} is copying to it`),
      });
    }
    assert.is((await running.ended).status, 0);
    assert.equal(others(w), ['new.img']);
    assert.is(w.hash('new.img'), w.hash('vm.img'));
  }));

test('a file that takes the name meanwhile is not overwritten', () =>
  inWorld(async (w) => {
    const running = await atWork(w);
    fs.writeFileSync(w.path('new.img'), 'somebody else');
    const ended = await running.ended;
    assert.is(ended.status, 12, ended.stderr);
    assert.match(ended.stderr, /new\.img: a file is there already\n.*the unfinished copy is/);
    assert.is(w.read('new.img').toString(), 'somebody else');
    assert.is(others(w).filter((name) => UNFINISHED.test(name)).length, 1);
  }));

test('a source that is written meanwhile gives no image', () =>
  inWorld(async (w) => {
    const running = await atWork(w);
    w.scribble('vm.img', 10, 'foreign');
    const ended = await running.ended;
    assert.is(ended.status, 1, ended.stderr);
    assert.match(ended.stderr, /was written while it was read/);
    assert.ok(!fs.existsSync(w.path('new.img')));
  }));

test('only what a copy to this target left is removed', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE, 1);
    const hex = '0123456789abcdef';
    const kept = [
      'new.img.part',
      `new.img.kage-${hex}.part`,
      `new.img.kage-1-${hex}`,
      'new.img.kage-1-0123.part',
      `new.img.kage-x-${hex}.part`,
      `other.img.kage-1-${hex}.part`,
      `new.img.old.kage-1-${hex}.part`,
    ];
    for (const name of kept) w.image(name, 1000, 5);
    const link = `new.img.kage-2-${hex}.part`;
    fs.symlinkSync('new.img.part', w.path(link));
    const folder = `new.img.kage-3-${hex}.part`;
    fs.mkdirSync(w.path(folder));
    const owned = `new.img.kage-4-${hex}.part`;
    w.image(owned, 1000, 5);
    await w.engine((disks) => disks.add([{ path: w.path(owned), name: 'owned' }]));
    const gone = `new.img.kage-5-${hex}.part`;
    w.image(gone, 1000, 5);
    const { notes } = await w.ok(copyArgs(w));
    assert.is(notes.filter((note: string) => /removed/.test(note)).length, 1);
    assert.equal(others(w), [...kept, link, folder, owned, 'new.img'].sort());
  }));

test('what a copy left can itself be copied to the name that it was to have', () =>
  inWorld(async (w) => {
    const name = 'new.img.kage-1-0123456789abcdef.part';
    w.image(name, SIZE, 1);
    await w.ok(['copy', w.path(name), w.path('new.img')]);
    assert.is(w.hash('new.img'), w.hash(name));
  }));

test('an existing target is written in place', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE, 1);
    w.image('new.img', SIZE, 2);
    const before = fs.statSync(w.path('new.img')).ino;
    const ended = await w.run(copyArgs(w));
    assert.is(ended.status, 0);
    assert.match(ended.stderr, /^copy: \S*new\.img will be overwritten from \S*vm\.img where it/);
    assert.is(fs.statSync(w.path('new.img')).ino, before);
    assert.is(w.hash('new.img'), w.hash('vm.img'));
  }));

test('a dry run makes nothing and announces no overwriting', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE, 1);
    assert.is((await runHere(w, copyArgs(w, '--dry-run'))).status, 0);
    assert.equal(others(w), []);
    w.image('new.img', SIZE, 2);
    const { status, stderr } = await runHere(w, copyArgs(w, '--dry-run'));
    assert.equal([status, stderr], [0, '']);
  }));

test('a target behind a link to its folder is made in that folder', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE, 1);
    fs.mkdirSync(w.path('real'));
    fs.symlinkSync('real', w.path('link'));
    await w.ok(['copy', w.path('vm.img'), path.join(w.path('link'), 'new.img')]);
    assert.equal(fs.readdirSync(w.path('real')), ['new.img']);
  }));

test.run();
