/**
 * Writes past the engine, of every kind and at every time: the next copy compares and says why, and
 * afterwards the two are equal. Writes through the engine alone: differential.
 */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { bringTo } from '../support/states.ts';
import { each, inWorld, randomBytes, sleep, until, World } from '../support/world.ts';

const test = suite('e2e: trust');
const MIB = 1024 * 1024;

function shell(...command: string[]): void {
  const { status, stderr } = spawnSync(command[0], command.slice(1));
  assert.is(status, 0, String(stderr));
}

const hasPython = spawnSync('python3', ['-c', 'import mmap']).status === 0;

/** Writes through a mapping; nothing is synced. */
function writeMapped(file: string, offset: number, text: string): void {
  shell(
    'python3',
    '-c',
    'import mmap,sys\n' +
      'with open(sys.argv[1],"r+b") as f:\n' +
      ' m=mmap.mmap(f.fileno(),0); o=int(sys.argv[2]); d=sys.argv[3].encode()\n' +
      ' m[o:o+len(d)]=d; m.close()',
    file,
    String(offset),
    text,
  );
}

/** Runs `change` and sets the times of modification and access back, to the nanosecond. */
function behindTime(file: string, change: () => void): void {
  shell('touch', '-r', file, `${file}.time`);
  change();
  shell('touch', '-r', `${file}.time`, file);
}

type Deed = {
  readonly name: string;
  readonly needs?: boolean;
  do(w: World, name: string): void;
  /** What the copy after it must be; compare unless it says otherwise. */
  readonly method?: 'differential';
};

const DEEDS: readonly Deed[] = [
  { name: 'a plain write', do: (w, name) => w.scribble(name, 600_000, 'foreign') },
  {
    name: 'a write with its mtime set back',
    do: (w, name) => behindTime(w.path(name), () => w.scribble(name, 600_000, 'foreign')),
  },
  {
    name: 'a write through a mapping',
    needs: hasPython,
    do: (w, name) => writeMapped(w.path(name), 600_000, 'foreign'),
  },
  {
    name: 'a write through a mapping, mtime set back',
    needs: hasPython,
    do: (w, name) => behindTime(w.path(name), () => writeMapped(w.path(name), 600_000, 'foreign')),
  },
  {
    name: 'another image copied over it in place',
    do(w, name) {
      w.image('other', MIB, 99);
      shell('cp', w.path('other'), w.path(name));
    },
  },
  {
    name: 'cut and filled up again',
    do(w, name) {
      fs.truncateSync(w.path(name), 1000);
      fs.truncateSync(w.path(name), MIB);
    },
  },
  {
    name: 'a hole',
    do: (w, name) => shell('fallocate', '-p', '-o', '65536', '-l', '65536', w.path(name)),
  },
  { name: 'touch', do: (w, name) => shell('touch', w.path(name)) },
  {
    name: 'renamed away and back',
    do(w, name) {
      fs.renameSync(w.path(name), w.path('away'));
      fs.renameSync(w.path('away'), w.path(name));
    },
  },
  { name: 'reading', method: 'differential', do: (w, name) => void w.read(name) },
  { name: 'nothing at all', method: 'differential', do() {} },
];

for (const side of ['vm.img', 'vm-proxy.img']) {
  for (const verb of ['rejoin', 'restore', 'update', 'part'] as const) {
    // Rejoin meets every deed, the other verbs the first and the last.
    const deeds = DEEDS.filter(
      (d, i) => (d.needs ?? true) && (verb === 'rejoin' || i === 0 || d.name === 'nothing at all'),
    );
    test(`${verb} after deeds of others on ${side}`, () =>
      each(
        deeds,
        (d) => d.name,
        (deed) =>
          inWorld(async (w) => {
            await bringTo(w, verb === 'part' ? 'joined' : 'parted');
            deed.do(w, side);
            const source = w.hash(verb === 'restore' ? 'vm-proxy.img' : 'vm.img');
            const [before] = (await w.engine((disks) => disks.info())).pairs;
            const ended = await w.run([verb, 'vm-proxy']);
            assert.is(ended.status, 0, ended.stderr);
            const said = ended.stdout + ended.stderr;
            const compared = /compare/.test(said);
            if (deed.method === 'differential') {
              assert.not.ok(compared, said);
              assert.is(before.doubt, null);
            } else {
              assert.ok(compared, said);
              const who = side === 'vm.img' ? 'master' : 'proxy';
              assert.match(said, new RegExp(`the ${who} was (written|touched) by another program`));
              assert.match(before.doubt ?? '', /by another program/, 'info says it beforehand');
            }
            assert.is(w.hash('vm.img'), source);
            assert.is(w.hash('vm-proxy.img'), source);
          }),
      ));
  }
}

if (!hasPython) console.log('SKIP writes through a mapping: python3 is not installed');

test('--differential-only refuses with the reason, and changes nothing', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    w.scribble('vm.img', 5, 'foreign');
    const before = w.photograph();
    const ended = await w.run(['rejoin', 'vm-proxy', '--differential-only', '--json']);
    assert.is(ended.status, 14, ended.stderr);
    const { error } = JSON.parse(ended.stdout);
    assert.is(error.code, 'differential-refused');
    assert.match(error.message, /the master was written by another program/);
    assert.equal(w.photograph(), before);
  }));

test('a write at the very moment the class was closed is noticed, forty times', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    for (let i = 0; i < 40; i++) {
      await w.engine((disks) => disks.write('vm', i * 1000, Buffer.from(`tracked ${i}`)));
      const offset = 700_000 + i;
      const file = i % 2 ? 'vm.img' : 'vm-proxy.img';
      w.scribble(file, offset, `foreign ${i}`);
      await w.engine(async (disks) => {
        const { pairs } = await disks.rejoin(['vm-proxy']);
        assert.is(pairs[0].copy?.method, 'compare', `round ${i}`);
        await disks.part(['vm-proxy']);
      });
      assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'), `round ${i}`);
    }
  }));

test('a write while the engine waits for its data is noticed', () =>
  inWorld(async (w) => {
    await bringTo(w, 'parted');
    const write = w.start(['write', 'vm', '--offset', '1000'], {
      runtime: [
        'sh',
        '-c',
        'while ! test -e "$0.go"; do sleep 0.05; done | cat - "$0.data" | "$@"',
        w.path('pipe'),
        process.execPath,
        `${process.env.KAGE_ROOT ?? process.cwd()}/dist/kage.js`,
      ],
    });
    fs.writeFileSync(w.path('pipe.data'), 'tracked');
    await until('the class is open', () =>
      fs.readdirSync(w.path('home/classes/default')).some((name) => /^lock\.\d+$/.test(name)),
    );
    await sleep(300);
    w.scribble('vm.img', 900_000, 'foreign');
    fs.writeFileSync(w.path('pipe.go'), '');
    assert.is((await write.ended).status, 0, write.stderr);
    const { pairs } = await w.ok(['rejoin', 'vm-proxy']);
    assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
    assert.is(pairs[0].copy.method, 'compare');
  }));

test('only the pair of the image that was written is doubted', () =>
  inWorld(async (w) => {
    w.image('a.img', MIB, 1);
    w.image('b.img', MIB, 2);
    await w.engine(async (disks) => {
      await disks.join(w.path('a.img'), w.path('a2.img'));
      await disks.join(w.path('b.img'), w.path('b2.img'));
      await disks.part(['a2', 'b2']);
    });
    w.scribble('a.img', 5, 'foreign');
    const { pairs } = await w.ok(['rejoin', 'a2', 'b2']);
    assert.equal(
      pairs.map((p: { copy: { method: string } }) => p.copy.method),
      ['compare', 'differential'],
    );
    assert.is(w.hash('a2.img'), w.hash('a.img'));
  }));

// While a copy runs

for (const [name, change] of [
  ['a write', (w: World) => w.scribble('vm.img', 10, 'foreign')],
  ['a write through a mapping', (w: World) => writeMapped(w.path('vm.img'), 10, 'foreign')],
] as const) {
  if (/mapping/.test(name) && !hasPython) continue;
  test(`${name} to the source during a copy is not called equal`, () =>
    inWorld(async (w) => {
      w.image('vm.img', 2 * MIB, 1);
      const join = w.start(['join', w.path('vm.img'), w.path('p.img'), '--rate', '1M', '--json']);
      await until('the copy runs', () => fs.existsSync(w.path('p.img')) && hasBlocks(w, 'p.img'));
      change(w);
      const ended = await join.ended;
      assert.is(ended.status, 1, ended.stdout);
      assert.is(JSON.parse(ended.stdout).error.code, 'written-during-copy');
      assert.match((await w.pair('p')).doubt ?? '', /written during the last copy/);
      const { pairs } = await w.ok(['join', 'vm', 'p']);
      assert.is(pairs[0].copy.method, 'compare');
      assert.is(w.hash('p.img'), w.hash('vm.img'));
    }));
}

function hasBlocks(w: World, name: string): boolean {
  return fs.statSync(w.path(name)).blocks > 0;
}

for (const file of ['vm.img', 'vm-proxy.img']) {
  test(`a write to ${file} after a kill -9 in a copy is not lost sight of`, () =>
    inWorld(async (w) => {
      await bringTo(w, 'parted');
      const rejoin = w.start(['rejoin', 'vm-proxy', '--compare', '--rate', '400K']);
      await until('the copy runs', () => /overwritten/.test(rejoin.stderr));
      await sleep(700);
      rejoin.child.kill('SIGKILL');
      await rejoin.ended;
      w.scribble(file, 10, 'foreign');
      w.scribble(file, MIB - 10, 'foreign');
      const master = w.hash('vm.img');
      await w.ok(['rejoin', 'vm-proxy']);
      assert.is(w.hash('vm.img'), master);
      assert.is(w.hash('vm-proxy.img'), master);
    }));
}

test('a snapshot whose master is written before it is complete becomes INVALID', () =>
  inWorld(async (w) => {
    await bringTo(w, 'copying');
    w.scribble('vm.img', 70_000, 'foreign');
    const [pair] = (await w.info()).pairs;
    assert.is(pair.state, 'invalid');
    assert.is((await w.run(['start', 'vm-proxy'])).status, 13);
    const { pairs } = await w.ok(['update', 'vm-proxy']);
    assert.is(pairs[0].copy.method, 'compare');
    assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
  }));

// File systems that do not tell

const SHM = '/dev/shm';
const hasShm = spawnSync('stat', ['-f', '-c', '%T', SHM]).stdout?.toString().trim() === 'tmpfs';

if (hasShm) {
  test('on tmpfs everything is compared, with the reason', async () => {
    const w = new World(SHM);
    try {
      await bringTo(w, 'parted');
      if (hasPython)
        behindTime(w.path('vm.img'), () => writeMapped(w.path('vm.img'), 5, 'foreign'));
      const ended = await w.run(['rejoin', 'vm-proxy']);
      assert.is(ended.status, 0, ended.stderr);
      assert.match(ended.stdout + ended.stderr, /compare.*tmpfs, which does not note/s);
      assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
      await w.ok(['part', 'vm-proxy']);
      if (hasPython) writeMapped(w.path('vm-proxy.img'), 5, 'foreign again');
      await w.ok(['restore', 'vm-proxy']);
      assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
      assert.is(w.read('vm.img').subarray(5, 12).toString(), 'foreign');
    } finally {
      w.remove();
    }
  });
} else {
  console.log('SKIP on tmpfs everything is compared: there is no /dev/shm');
  test.skip('on tmpfs everything is compared, with the reason', () => {});
}

test('odd sizes and regions: tracked writes alone are always enough', () =>
  each(
    [1, 511, 4096, 65_537, 300_001],
    (size) => `${size} bytes`,
    (size) =>
      inWorld(async (w) => {
        w.image('vm.img', size, 1);
        await w.ok(['join', w.path('vm.img'), w.path('p.img'), '--region', '4K']);
        await w.ok(['part', 'p']);
        await w.ok(['write', 'vm', '--offset', `${size - 1}`], { input: 'x' });
        await w.ok(['write', 'p'], { input: randomBytes(Math.min(size, 10), 5) });
        const { pairs } = await w.ok(['rejoin', 'p']);
        assert.is(pairs[0].copy.method, 'differential');
        assert.ok(pairs[0].copy.regions <= 2);
        assert.is(w.hash('p.img'), w.hash('vm.img'));
      }),
  ));

test.run();
