/** A state folder with damage: the catalog closes, a map is not believed, a copy is never wrong. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openClass, readClass } from '../../src/engine/open.ts';
import { HASH_STATE_BYTES } from '../../src/kernel/kernel.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { expectRefusal, type Refusal } from '../support/refusals.ts';
import { bringTo, type StateName } from '../support/states.ts';
import { chance, each, inWorld, seedOf, type World } from '../support/world.ts';

const test = suite('e2e: damaged state');
const seed = seedOf('e2e: damaged state');
const random = chance(seed);

const CLOSED: Refusal = {
  code: 'catalog-damaged',
  says: /class default: its catalog is damaged/,
  hint: /kage fix --catalog -c default/,
};

function folderOf(w: World): string {
  return path.join(w.home, 'classes/default');
}

/** Changes one bit of a file; says which. */
function flip(file: string, at: number, bit: number): string {
  const bytes = fs.readFileSync(file);
  bytes[at] ^= 1 << bit;
  fs.writeFileSync(file, bytes);
  return `${path.basename(file)} byte ${at} bit ${bit}`;
}

/** The newest root and the older one. */
function roots(w: World): { newest: string; older: string } {
  const generation = (name: string) =>
    JSON.parse(fs.readFileSync(path.join(folderOf(w), name), 'utf8')).generation as number;
  const [a, b] = ['root.0', 'root.1'];
  const [newest, older] = generation(a) > generation(b) ? [a, b] : [b, a];
  return { newest: path.join(folderOf(w), newest), older: path.join(folderOf(w), older) };
}

test('a catalog that is truncated, emptied, flipped or gone closes the class', () =>
  each(
    [
      (file: string) => fs.truncateSync(file, 300),
      (file: string) => fs.truncateSync(file, fs.statSync(file).size - 1),
      (file: string) => fs.truncateSync(file, 0),
      (file: string) => fs.rmSync(file),
      (file: string) => void flip(file, random(fs.statSync(file).size), random(8)),
      (file: string) => fs.writeFileSync(file, Buffer.alloc(fs.statSync(file).size)),
      (file: string) => fs.appendFileSync(file, '\n'),
    ],
    (damage) => String(damage),
    (damage) =>
      inWorld(async (w) => {
        await bringTo(w, 'parted');
        damage(roots(w).newest);
        await expectRefusal(w, ['rejoin', 'vm-proxy'], CLOSED);
      }),
  ));

test('one bit anywhere in either root closes the class', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    const { newest, older } = roots(w);
    for (let i = 0; i < 300; i++) {
      const file = i % 2 ? newest : older;
      const good = fs.readFileSync(file);
      const what = flip(file, random(good.length), random(8));
      const before = w.photograph();
      try {
        const disks = await openClass('default', { home: w.home });
        await disks.close();
        throw new Error('was opened');
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        assert.is(code, 'catalog-damaged', `${what}: ${message}`);
      }
      assert.equal(w.photograph(), before, what);
      fs.writeFileSync(file, good);
    }
  }));

test('a closed class is shown, reopened by fix --catalog, and copies by comparison', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    const { newest } = roots(w);
    flip(newest, 400, 3);
    const info = await w.info();
    assert.match(info.closed ?? '', /root\.\d is truncated or damaged/);
    await w.ok(['fix', '--catalog']);
    const { pairs } = await w.ok(['rejoin', 'vm-proxy']);
    assert.is(pairs[0].copy.method, 'compare');
    assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
    assert.is((await w.info()).closed, null);
  }));

test('fix --catalog leaves a class alone that is not closed', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    await expectRefusal(w, ['fix', '--catalog'], {
      code: 'wrong-state',
      says: /class default: is not closed/,
    });
  }));

test('without a good root the class stays closed, fix --catalog too', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    const { newest, older } = roots(w);
    flip(newest, 400, 3);
    flip(older, 400, 3);
    await expectRefusal(w, ['rejoin', 'vm-proxy'], { ...CLOSED, hint: undefined });
    await expectRefusal(w, ['info'], { ...CLOSED, hint: undefined });
    await expectRefusal(w, ['fix', '--catalog'], {
      code: 'catalog-damaged',
      says: /no good root is left/,
      hint: /images are as they were/,
    });
  }));

test('a catalog of a newer schema is refused with what to do', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    const { newest } = roots(w);
    const text = fs
      .readFileSync(newest, 'utf8')
      .replace('"schema": 1,', '"schema": 2,')
      .replace(/"checksum": "\w+"/, '"checksum": "0000000000000000"');
    fs.writeFileSync(newest, text.replace('0000000000000000', xxh64(text)));
    const newer: Refusal = {
      code: 'catalog-newer',
      says: /schema 2, this version knows 1/,
      hint: /use the version/,
    };
    await expectRefusal(w, ['rejoin', 'vm-proxy'], newer);
    await expectRefusal(w, ['info'], newer);
  }));

function xxh64(text: string): string {
  const kernel = createKernel('js');
  const bytes = Buffer.from(text);
  const state = kernel.allocate(HASH_STATE_BYTES);
  const data = kernel.allocate(bytes.length);
  kernel.bytes(data, bytes.length).set(bytes);
  kernel.hashReset(state);
  kernel.hashUpdate(state, data, bytes.length);
  return kernel.hashDigest(state);
}

// Maps

type Damage = { readonly name: string; do(file: string): string };

const DAMAGES: readonly Damage[] = [
  { name: 'flipped', do: (file) => flip(file, random(fs.statSync(file).size), random(8)) },
  { name: 'flipped in its header', do: (file) => flip(file, random(104), random(8)) },
  {
    name: 'truncated',
    do(file) {
      fs.truncateSync(file, random(fs.statSync(file).size));
      return 'truncated';
    },
  },
  {
    name: 'gone',
    do(file) {
      fs.rmSync(file);
      return 'gone';
    },
  },
];

/** Damages one map of the pair and runs a verb to the end: the sides must be equal. */
async function damaged(state: StateName, map: string, damage: Damage, verb: string): Promise<void> {
  await inWorld(async (w) => {
    await bringTo(w, state, { exclusive: true });
    const name = fs.readdirSync(folderOf(w)).find((n) => n.includes(`-${map}-`))!;
    const what = damage.do(path.join(folderOf(w), name));
    const master = w.hash('vm.img');
    await w.engine(async (disks) => {
      const before = (await disks.info()).pairs[0];
      const report =
        verb === 'part' ? await disks.part(['vm-proxy']) : await disks.rejoin(['vm-proxy']);
      if (before.doubt !== null) assert.is(report.pairs[0].copy?.method, 'compare', what);
      else assert.ok(damage.name === 'flipped', `${what} was not noticed`);
    });
    assert.is(w.hash('vm.img'), master, `${what}: the master is as it was`);
    assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'), `${what}: equal`);
  });
}

for (const [state, verb, maps] of [
  ['parted', 'rejoin', ['changed', 'pending']],
  ['joined', 'part', ['changed', 'pending']],
  ['joining', 'part', ['pending']],
  ['copying', 'rejoin', ['changed', 'pending']],
  ['invalid-proxy', 'rejoin', ['changed']],
] as const) {
  for (const map of maps) {
    test(`${state}: a damaged map of ${map} means compare, never a wrong copy`, () =>
      each(
        [...DAMAGES, ...Array.from({ length: 6 }, () => DAMAGES[0])],
        (d) => d.name,
        (d) => damaged(state, map, d, verb),
      ));
  }
}

test('a damaged map of an unfinished snapshot makes the snapshot INVALID', () =>
  inWorld(async (w) => {
    await bringTo(w, 'copying', { exclusive: true });
    const name = fs.readdirSync(folderOf(w)).find((n) => n.includes('-pending-'))!;
    fs.rmSync(path.join(folderOf(w), name));
    const info = await readClass('default', { home: w.home });
    assert.is(info.pairs[0].state, 'invalid');
    const ended = await w.run(['start', 'vm-proxy', '--json']);
    assert.is(ended.status, 13, ended.stdout);
    const { pairs } = await w.ok(['update', 'vm-proxy']);
    assert.is(pairs[0].copy.method, 'compare');
    assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
  }));

test('files of strangers in the state folder disturb nobody', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted', { exclusive: true });
    for (const name of [
      'root.0.new',
      'root.1.new',
      'lock.x',
      'lock.3.1.2',
      'pair9-changed-9',
      'x',
    ]) {
      fs.writeFileSync(path.join(folderOf(w), name), 'nonsense');
    }
    fs.mkdirSync(path.join(w.home, 'classes/.hidden'));
    fs.writeFileSync(path.join(w.home, 'classes/file'), 'x');
    const { pairs } = await w.ok(['rejoin', 'vm-proxy']);
    assert.is(pairs[0].copy.method, 'differential');
    assert.equal((await w.ok(['classes'])).classes, ['default']);
    await w.ok(['break', 'vm-proxy']);
    await w.ok(['remove', 'vm', 'vm-proxy']);
    await w.ok(['sdxclass', '-R', '-c', 'default']);
  }));

test('a lock file without content or of a dead process stops nobody', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    fs.writeFileSync(path.join(folderOf(w), 'lock.90'), '');
    await w.ok(['rejoin', 'vm-proxy']);
    fs.writeFileSync(
      path.join(folderOf(w), 'lock.95'),
      JSON.stringify({ pid: 1, command: 'x', since: 1, boot: null, beacon: 'lock-0.sock' }),
    );
    // Of processes that were killed before they had claimed anything.
    fs.writeFileSync(path.join(folderOf(w), 'lock.96.1.2'), 'draft');
    const listener = spawnSync(process.execPath, [
      '-e',
      'require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, 9))',
      path.join(folderOf(w), 'lock-0123456789abcdef.sock'),
    ]);
    assert.is(listener.signal, 'SIGKILL');
    await w.ok(['part', 'vm-proxy']);
    const left = fs.readdirSync(folderOf(w)).filter((name) => name.startsWith('lock'));
    assert.equal(left, []);
  }));

test.run();
