/** Images that shrank, grew, vanished or were replaced between two commands: named, never used. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ErrorCode } from '../../src/base/errors.ts';
import { readClass } from '../../src/engine/open.ts';
import { expectRefusal } from '../support/refusals.ts';
import { bringTo } from '../support/states.ts';
import { each, inWorld, samePhotos, type World } from '../support/world.ts';

const test = suite('e2e: images that changed');
const MIB = 1024 * 1024;

type Change = {
  readonly name: string;
  readonly code: ErrorCode;
  readonly says: RegExp;
  change(w: World, file: string): void;
};

const CHANGES: readonly Change[] = [
  {
    name: 'vanished',
    code: 'image-missing',
    says: /no such file/,
    change: (w, file) => fs.rmSync(w.path(file)),
  },
  {
    name: 'shrank',
    code: 'image-changed',
    says: /shrank from 1048576 to 1048575 bytes/,
    change: (w, file) => fs.truncateSync(w.path(file), MIB - 1),
  },
  {
    name: 'grew',
    code: 'image-changed',
    says: /grew from 1048576 to 1048577 bytes/,
    change: (w, file) => fs.truncateSync(w.path(file), MIB + 1),
  },
  {
    name: 'was emptied',
    code: 'image-changed',
    says: /shrank from 1048576 to 0 bytes/,
    change: (w, file) => fs.truncateSync(w.path(file), 0),
  },
  {
    name: 'was replaced by a copy of itself',
    code: 'image-changed',
    says: /was replaced by another file/,
    change(w, file) {
      fs.copyFileSync(w.path(file), w.path('copy'));
      fs.renameSync(w.path('copy'), w.path(file));
    },
  },
  {
    name: 'is a folder now',
    code: 'image-changed',
    says: /is no file|replaced|shrank/,
    change(w, file) {
      fs.rmSync(w.path(file));
      fs.mkdirSync(w.path(file));
    },
  },
  {
    name: 'is a pipe now',
    code: 'image-changed',
    says: /is no file/,
    change(w, file) {
      fs.rmSync(w.path(file));
      spawnSync('mkfifo', [w.path(file)]);
    },
  },
];

for (const file of ['vm.img', 'vm-proxy.img']) {
  test(`${file}: rejoin and restore are refused, info tells, break and remove work`, () =>
    each(
      CHANGES,
      (c) => c.name,
      (c) =>
        inWorld(async (w) => {
          await bringTo(w, 'parted');
          const whole = w.photograph();
          c.change(w, file);
          await expectRefusal(w, ['rejoin', 'vm-proxy'], c);
          const { disks, pairs } = await readClass('default', { home: w.home });
          const disk = disks.find((d) => d.path === w.path(file))!;
          assert.is(disk.status, 'DISABLE');
          assert.match(disk.problem ?? '', c.says);
          assert.is(pairs[0].state, 'parted');
          if (c.name !== 'vanished') return;
          await w.ok(['break', 'vm-proxy']);
          await w.ok(['remove', file.replace('.img', '')]);
          assert.is((await w.info()).volumes.length, 1);
          assert.is(w.photograph()['vm.img'], file === 'vm.img' ? undefined : whole['vm.img']);
        }),
    ));
}

test('each verb that needs a lost image says so, and changes nothing', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    fs.renameSync(w.path('vm.img'), w.path('away.img'));
    const lost = { code: 'image-missing' as const, says: /vm\.img: no such file/ };
    const verbs = [
      ['rejoin', 'vm-proxy'],
      ['restore', 'vm-proxy'],
      ['restore', 'vm-proxy', '--keep'],
      ['update', 'vm-proxy'],
      ['verify', 'vm-proxy'],
      ['read', 'vm', '--length', '1'],
      ['write', 'vm'],
      ['join', 'vm', w.path('new.img')],
      ['join', w.path('vm.img'), w.path('new.img')],
      ['diff', 'vm', 'vm-proxy'],
    ];
    const before = w.photograph();
    for (const verb of verbs) {
      const ended = await w.run([...verb, ...(verb[0] === 'read' ? [] : ['--json'])], {
        input: 'x',
      });
      const said = ended.stdout + ended.stderr;
      assert.is(ended.status, 10, `${verb.join(' ')}: ${said}`);
      assert.match(said, lost.says);
      samePhotos(before, w.photograph());
    }
    // Back again it is the same file: what is known of it still holds.
    fs.renameSync(w.path('away.img'), w.path('vm.img'));
    const { pairs } = await w.ok(['rejoin', 'vm-proxy']);
    assert.is(pairs[0].state, 'joined');
    assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
  }));

test('an image that shrinks during a copy ends it with one line, the proxy INVALID', () =>
  inWorld(async (w) => {
    w.image('vm.img', 8 * MIB, 1);
    const join = w.start(['join', w.path('vm.img'), w.path('p.img'), '--rate', '4M', '--json']);
    while (!fs.existsSync(w.path('p.img'))) await new Promise((r) => setTimeout(r, 5));
    fs.truncateSync(w.path('vm.img'), 3 * MIB);
    const ended = await join.ended;
    assert.is(ended.status, 12, ended.stdout + ended.stderr);
    assert.is(JSON.parse(ended.stdout).error.code, 'image-changed');
    const { volumes } = await w.info();
    assert.is(volumes.find((v) => v.name === 'p')?.status, 'INVALID');
  }));

test.run();
