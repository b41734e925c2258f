/** One class, several processes: one at a time, the others are told who, and looking is free. */

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readClass } from '../../src/engine/open.ts';
import { expectJson, expectText } from '../support/refusals.ts';
import { bringTo } from '../support/states.ts';
import { BUNDLE, inWorld, type Running, sleep, until, type World } from '../support/world.ts';

const test = suite('e2e: a second process');
const MIB = 1024 * 1024;

function locks(w: World, home = w.home): string[] {
  const folder = path.join(home, 'classes/default');
  if (!fs.existsSync(folder)) return [];
  return fs.readdirSync(folder).filter((name) => name.startsWith('lock'));
}

/** A join that takes some ten seconds, once it holds the class and has begun to copy. */
async function slowJoin(w: World, env = {}, home = w.home): Promise<Running> {
  w.image('vm.img', 8 * MIB, 1);
  const args = ['join', w.path('vm.img'), w.path('p.img'), '--rate', '800K', '-q'];
  const join = w.start(args, { env });
  await until('the join has begun', () => {
    const folder = path.join(home, 'classes/default');
    if (!fs.existsSync(folder)) return false;
    return fs.readdirSync(folder).some((name) => name.startsWith('pair'));
  });
  return join;
}

const IN_USE = { code: 'in-use' as const, says: /in use by process \d+ \(kage join .*vm\.img/ };

test('a second kage is refused with the name of the first, info works, a dead one stops nobody', () =>
  inWorld(async (w) => {
    const join = await slowJoin(w);
    expectText(await w.run(['part', 'p']), IN_USE);
    expectJson(await w.run(['part', 'p', '--json']), IN_USE);
    const info = await w.info();
    assert.is(info.holder?.pid, join.child.pid);
    assert.match(info.holder?.command ?? '', /^kage join /);
    assert.is(info.pairs[0].state, 'joining');
    assert.is(info.volumes.find((v) => v.name === 'p')?.status, 'INVALID');
    const tables = await w.run(['sdxinfo', '-V']);
    assert.match(tables.stdout, /vm/);

    join.child.kill('SIGSTOP');
    expectText(await w.run(['part', 'p']), IN_USE);
    join.child.kill('SIGKILL');
    await join.ended;
    await w.ok(['join', 'vm', 'p']);
    assert.is(w.hash('p.img'), w.hash('vm.img'));
    assert.equal(locks(w), []);
  }));

test('another class is free meanwhile, but not the same images', () =>
  inWorld(async (w) => {
    const join = await slowJoin(w);
    w.image('other.img', MIB, 3);
    await w.ok(['join', '-c', 'other', w.path('other.img'), w.path('o.img')]);
    const ended = await w.run(['add', '-c', 'other', w.path('vm.img'), '--json']);
    assert.is(ended.status, 12, ended.stdout);
    join.child.kill('SIGINT');
    assert.is((await join.ended).status, 130);
  }));

test('a state folder with a long path excludes as well, whatever TMPDIR is', () =>
  inWorld(async (w) => {
    const home = w.path('x'.repeat(120), 'home');
    for (const name of ['tmp-a', 'tmp-b']) fs.mkdirSync(w.path(name));
    const join = await slowJoin(w, { KAGE_HOME: home, TMPDIR: w.path('tmp-a') }, home);
    const ended = await w.run(['part', 'p', '--json'], {
      env: { KAGE_HOME: home, TMPDIR: w.path('tmp-b') },
    });
    expectJson(ended, IN_USE);
    join.child.kill('SIGKILL');
    await join.ended;
    await w.ok(['join', 'vm', 'p'], { env: { KAGE_HOME: home, TMPDIR: w.path('tmp-b') } });
    assert.equal(locks(w, home), []);
    assert.equal(fs.readdirSync(w.path('tmp-a')), []);
  }));

test('eight at once: each does its work or is told to wait, none is lost', () =>
  inWorld(async (w) => {
    await bringTo(w, 'joined', { exclusive: true });
    const writes = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        w.run(['write', 'vm', '--offset', `${i * 100_000}`, '--json'], { input: `writer ${i}` }),
      ),
    );
    for (const [i, { status, stdout, stderr }] of writes.entries()) {
      const found = w
        .read('vm.img')
        .subarray(i * 100_000, i * 100_000 + 8)
        .toString();
      if (status === 0) assert.is(found, `writer ${i}`);
      else assert.is(status, 11, stdout + stderr);
    }
    assert.ok(writes.some((e) => e.status === 0));
    assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
    assert.equal(locks(w), []);
    const { pairs } = await w.ok(['verify', 'vm-proxy']);
    assert.is(pairs[0].differing, 0);
  }));

test('eight at once make a class anew: one makes it', () =>
  inWorld(async (w) => {
    w.image('vm.img', MIB, 1);
    const adds = await Promise.all(
      Array.from({ length: 8 }, () => w.run(['add', w.path('vm.img'), '--json'])),
    );
    const statuses = adds.map((e) => e.status);
    const said = adds.map((e) => e.stdout + e.stderr).join('');
    assert.is(statuses.filter((s) => s === 0).length, 1, said);
    assert.ok(
      statuses.every((s) => s === 0 || s === 11 || s === 12),
      said,
    );
    assert.is((await w.info()).volumes.length, 1);
  }));

test('eight classes at once want the same image: at most one gets it', () =>
  inWorld(async (w) => {
    w.image('vm.img', MIB, 1);
    const adds = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        w.run(['add', '-c', `c${i}`, w.path('vm.img'), '--json']),
      ),
    );
    const said = adds.map((e) => e.stdout + e.stderr).join('');
    assert.ok(
      adds.every((e) => e.status === 0 || e.status === 12),
      said,
    );
    const holders = [];
    for (let i = 0; i < 8; i++) {
      const ended = await w.run(['info', '-c', `c${i}`, '--json']);
      if (ended.status === 0 && JSON.parse(ended.stdout).volumes.length > 0) holders.push(i);
    }
    assert.ok(holders.length <= 1, `classes ${holders.join()} have it\n${said}`);
  }));

/** Rejoins and parts with the library, as fast as it can, in a process of its own. */
const BUSY = `
  const { openClass } = await import(process.argv[1]);
  const disks = await openClass('default', { home: process.argv[2] });
  for (let i = 0; i < 100; i++) {
    await disks.rejoin(['vm-proxy']);
    await disks.write('vm', 65536 * (i % 16), Buffer.from(String(i)));
    await disks.part(['vm-proxy']);
  }
  await disks.close();
`;

test('info never shows a doubt that is none, while another process commits', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted', { exclusive: true });
    const library = pathToFileURL(path.join(path.dirname(BUNDLE), 'index.mjs')).href;
    const busy = w.start([library, w.home], {
      runtime: [process.execPath, '--input-type=module', '-e', BUSY],
    });
    let working = true;
    busy.child.on('close', () => {
      working = false;
    });
    let looks = 0;
    while (working) {
      const { closed, pairs } = await readClass('default', { home: w.home });
      assert.is(closed, null);
      assert.is(pairs[0].doubt, null);
      looks++;
      await sleep(0);
    }
    assert.is((await busy.ended).status, 0, busy.stderr);
    assert.ok(looks > 50, `${looks} looks`);
  }));

test.run();
