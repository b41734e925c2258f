/** The modern verbs: what they ask of the engine, what they print, how they end. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { COPY, classInfo, KIB, MIB, pair, volume, type WorldOptions, world } from './fake.ts';

const test = suite('cli verbs');
const HOME = { home: '/state' };

test('join by path makes the class and passes every choice on', async () => {
  const w = world();
  const status = await w.run(
    ...[
      'join',
      './a.img',
      'b.img',
      '--rate',
      '50M/s',
      '--delay',
      '5',
      '--region',
      '4K',
      '--compare',
    ],
  );
  assert.is(status, 0, w.err());
  const [name, options] = w.last('openClass')!;
  assert.is(name, 'default');
  assert.is((options as { create: boolean }).create, true);
  assert.equal(w.last('join'), [
    './a.img',
    'b.img',
    { dryRun: false, rateBytesPerSec: 50 * MIB, delayMs: 5, compare: true, regionSize: 4 * KIB },
  ]);
  assert.is(w.names().at(-1), 'close');
});

test('join by name makes no class', async () => {
  const w = world();
  assert.is(await w.run('join', 'vm', 'vm-proxy', '-c', 'nosuch'), 10);
  assert.is((w.last('openClass')![1] as { create: boolean }).create, false);
});

test('join announces only what it overwrites: a new image is nothing', async () => {
  const fresh = world();
  await fresh.run('join', 'a.img', 'b.img');
  assert.is(fresh.calls.filter((c) => c.name === 'join').length, 1);
  assert.is(fresh.err(), '');
  const existing = world({ files: ['b.img'] });
  await existing.run('join', 'a.img', 'b.img');
  assert.is(existing.calls.filter((c) => c.name === 'join').length, 2);
  assert.match(existing.err(), /^join: vm-proxy \(\/images\/vm.proxy.img\) will be overwritten/);
});

const PART = { instant: false, unlock: false, readOnly: false };
const SIMPLE: readonly (readonly [string, readonly unknown[]])[] = [
  ['part vm-proxy', ['part', ['vm-proxy'], PART]],
  ['part a b --instant', ['part', ['a', 'b'], { ...PART, instant: true }]],
  ['part a --read-only', ['part', ['a'], { ...PART, readOnly: true }]],
  ['rejoin vm-proxy --differential-only', ['rejoin', ['vm-proxy'], { differentialOnly: true }]],
  ['restore vm-proxy', ['restore', ['vm-proxy'], { keep: false, instant: false }]],
  ['restore vm-proxy --keep --instant', ['restore', ['vm-proxy'], { keep: true, instant: true }]],
  ['update vm-proxy --instant', ['update', ['vm-proxy'], { instant: true }]],
  ['swap vm-proxy', ['swap', 'vm-proxy', {}]],
  ['cancel vm-proxy', ['cancel', 'vm-proxy', {}]],
  ['break vm-proxy', ['break', 'vm-proxy', { restore: false }]],
  ['break vm-proxy --restore', ['break', 'vm-proxy', { restore: true }]],
];

for (const [line, [verb, refs, options]] of SIMPLE) {
  test(`kage ${line}`, async () => {
    const w = world();
    assert.is(await w.run(...line.split(' ')), 0, w.err());
    assert.equal(w.last(verb as string), [refs, { dryRun: false, ...(options as object) }]);
  });
}

test('relate passes the region', async () => {
  const w = world();
  assert.is(await w.run('relate', 'vm', 'vm-proxy', '--region', '1M'), 0);
  assert.equal(w.last('relate'), ['vm', 'vm-proxy', { dryRun: false, regionSize: MIB }]);
});

test('result lines name method, amount, time and reason', async () => {
  const w = world();
  await w.run('rejoin', 'vm-proxy', '-q');
  assert.is(w.out(), '');
  await w.run('rejoin', 'vm-proxy');
  assert.is(
    w.out(),
    'vm-proxy: rejoined (differential copy of 192 KiB, 128 KiB written, 0.3 s: ' +
      'tracked since the part)\n',
  );
  assert.is(
    w.err(),
    'rejoin: vm-proxy (/images/vm.proxy.img) will be overwritten from vm: ' +
      '3 regions, 192 KiB, differential: tracked since the part\n',
  );
});

test('restore announces the other direction', async () => {
  const w = world();
  await w.run('restore', 'vm-proxy', '--keep');
  assert.match(w.err(), /^restore: vm \(\/images\/vm.img\) will be overwritten from vm-proxy: 3 /);
  assert.match(w.out(), /^vm: restored from vm-proxy, joined \(differential copy of 192 KiB/);
});

test('--quiet needs no plan', async () => {
  const w = world();
  await w.run('restore', 'vm-proxy', '--quiet');
  assert.is(w.calls.filter((c) => c.name === 'restore').length, 1);
  assert.is(w.out() + w.err(), '');
});

test('--dry-run runs the plan only and says would', async () => {
  const w = world();
  assert.is(await w.run('restore', 'vm-proxy', '--dry-run'), 0);
  assert.equal(
    w.calls
      .filter((c) => c.name === 'restore')
      .map((c) => (c.args[1] as { dryRun: boolean }).dryRun),
    [true],
  );
  assert.match(w.out(), /^vm: would be restored from vm-proxy.*3 regions, about 0.3 s: tracked/);
});

test('a path without -c finds the class of its image', async () => {
  const db = classInfo({ class: 'db', volumes: [volume('data', { path: '/db/data.img' })] });
  const w = world({ classes: [classInfo(), db] });
  assert.is(await w.run('part', '/db/data.img'), 0);
  assert.is(w.last('openClass')![0], 'db');
  assert.is(await w.run('part', '/db/data.img', '/images/vm.img'), 2);
  assert.match(w.err(), /in class db and \/images\/vm.img in class default|in class default and/);
  assert.is(await w.run('part', '/db/data.img', '-c', 'default'), 0);
  assert.is(w.last('openClass')![0], 'default');
});

test('the class is closed after an error, and the first error is the one that counts', async () => {
  const w = world({
    on: {
      rejoin: () => {
        throw new KageError('wrong-state', 'vm-proxy is joined', { hint: 'part it first' });
      },
      close: () => {
        throw new Error('second');
      },
    },
  });
  assert.is(await w.run('rejoin', 'vm-proxy'), 13);
  assert.is(w.err(), 'kage: vm-proxy is joined\n  part it first\n');
  assert.is(w.names().at(-1), 'close');
});

test('nothing is reported as done when the class cannot be closed', async () => {
  const w = world({
    on: {
      close: () => {
        throw new KageError('io-error', 'catalog: write failed');
      },
    },
  });
  assert.is(await w.run('part', 'vm-proxy', '--json'), 20);
  assert.is(JSON.parse(w.out()).error.code, 'io-error');
});

test('add takes names from behind =, unless a file is called so', async () => {
  const w = world({ files: ['a=b.img'] });
  assert.is(await w.run('add', 'x.img=data', 'y.img', 'a=b.img', '--exclusive', '-c', 'db'), 0);
  assert.equal(w.last('add')![0], [
    { path: 'x.img', name: 'data', exclusive: true },
    { path: 'y.img', exclusive: true },
    { path: 'a=b.img', exclusive: true },
  ]);
  assert.match(w.out(), /^data: added \(x.img, 2 MiB, class db\)\n/);
  const uri = 'nbd+unix:///far?socket=far.sock';
  await w.run('add', uri, `${uri}=far`, 'nbd://host/x?tls-verify-peer=false=y');
  assert.equal(w.last('add')![0], [
    { path: uri },
    { path: uri, name: 'far' },
    { path: 'nbd://host/x?tls-verify-peer=false', name: 'y' },
  ]);
});

test('create needs a size', async () => {
  const w = world();
  assert.is(await w.run('create', 'scratch', 's.img'), 2);
  assert.is(await w.run('create', 'scratch', 's.img', '-s', '1.5G'), 0);
  assert.equal(w.last('create')!.slice(0, 3), ['scratch', 1.5 * 1024 * MIB, 's.img']);
});

for (const verb of ['start', 'stop', 'lock', 'unlock', 'remove']) {
  test(`${verb} takes names and images, and a dry run changes nothing`, async () => {
    const w = world();
    assert.is(await w.run(verb, 'vm', '/images/other.img'), 0, w.err());
    assert.equal(w.last(verb)![0], ['vm', '/images/other.img']);
    assert.match(w.out(), /^vm: .*\nother: /);
    const dry = world();
    assert.is(await dry.run(verb, 'vm', '--dry-run'), 0);
    assert.not(dry.names().includes(verb));
    assert.match(dry.out(), /^vm: would be /);
  });
}

test('start says which access mode it is, read-only or not', async () => {
  const w = world();
  assert.is(await w.run('start', 'vm', '--read-only'), 0);
  assert.equal(w.last('start'), [['vm'], { unlock: false, readOnly: true }]);
  assert.is(w.out(), 'vm: started read-only\n');
  assert.is(await w.run('start', 'vm'), 0);
  assert.equal(w.last('start'), [['vm'], { unlock: false, readOnly: false }]);
});

test('info names the access mode', async () => {
  const volumes = [volume('vm'), volume('other', { readOnly: true, locked: true })];
  const w = world({ classes: [classInfo({ volumes, pairs: [] })] });
  assert.is(await w.run('info'), 0);
  assert.match(w.out(), /^ *vm +- +ACTIVE {2,}2 MiB/m);
  assert.match(w.out(), /^ *other +- +ACTIVE, read-only, locked +2 MiB/m);
});

test('stop is told to use force', async () => {
  const w = world();
  assert.is(await w.run('stop', 'vm', '--force'), 0, w.err());
  assert.equal(w.last('stop'), [['vm'], { force: true }]);
});

test('a volume that does not exist gets the nearest name', async () => {
  const w = world();
  assert.is(await w.run('start', 'vm-prxy'), 10);
  assert.is(w.err(), 'kage: class default has no volume vm-prxy\n  did you mean vm-proxy?\n');
  assert.not(w.names().includes('start'));
});

test('fix takes a volume or --catalog, not both, not neither', async () => {
  const w = world();
  assert.is(await w.run('fix'), 2);
  assert.is(await w.run('fix', 'vm', '--catalog'), 2);
  assert.is(await w.run('fix', 'vm'), 0);
  assert.equal(w.last('fix'), ['vm']);
  assert.is(await w.run('fix', '--catalog', '-c', 'db'), 0);
  assert.is(w.last('reopenCatalog')![0], 'db');
  assert.match(w.out(), /class db: goes on from generation 6\n$/);
});

test('write sends standard input in pieces and makes it durable', async () => {
  const w = world({ stdin: [new Uint8Array(MIB + 5).fill(1), new Uint8Array(7).fill(2)] });
  assert.is(await w.run('write', 'vm', '--offset', '4K'), 0, w.err());
  const writes = w.calls.filter((c) => c.name === 'write');
  assert.equal(
    writes.map((c) => [c.args[0], c.args[1], (c.args[2] as Uint8Array).length]),
    [
      ['vm', 4096, MIB],
      ['vm', 4096 + MIB, 12],
    ],
  );
  assert.equal([...(writes[1].args[2] as Uint8Array)], [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
  assert.equal(w.names().slice(-2), ['flush', 'close']);
});

test('write refuses a terminal, and says how much was written before an error', async () => {
  assert.is(await world({ stdinIsTTY: true }).run('write', 'vm'), 2);
  let left = 1;
  const w = world({
    stdin: [new Uint8Array(2 * MIB)],
    on: {
      write: () => {
        if (left-- === 0) throw new KageError('disk-full', 'no room');
      },
    },
  });
  assert.is(await w.run('write', 'vm'), 20);
  assert.match(w.err(), /vm: 1 MiB were written before this\nkage: no room\n/);
});

test('write says what it could not read, and keeps what it had', async () => {
  const stdinError = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
  const w = world({ stdin: [new Uint8Array(MIB)], stdinError });
  assert.is(await w.run('write', 'vm'), 20);
  assert.is(
    w.err(),
    'vm: 1 MiB were written before this\nkage: standard input: reading failed: EIO\n',
  );
  assert.equal(w.names().slice(-2), ['flush', 'close']);
});

test('read prints raw bytes and nothing else', async () => {
  const w = world();
  assert.is(await w.run('read', 'vm', '--offset', '0', '--length', '1025K'), 0);
  const bytes = w.bytes();
  assert.is(bytes.length, 1025 * KIB);
  assert.is(bytes[0], 65);
  assert.is(bytes[MIB], 66);
});

test('read refuses a terminal, --json and what is not in the volume', async () => {
  assert.is(await world({ stdout: { isTTY: true } }).run('read', 'vm'), 2);
  assert.is(await world().run('read', 'vm', '--json'), 2);
  assert.is(await world().run('read', 'vm', '--offset', '3M'), 2);
  const w = world();
  assert.is(await w.run('read', 'vm', '--offset', '2M'), 0);
  assert.is(w.bytes().length, 0);
});

test('verify ends with 4 for what was believed equal; --exit-code for anything', async () => {
  const answer = (differing: number, unexpected: number) => ({
    on: {
      verify: () => ({
        verb: 'verify',
        class: 'default',
        pairs: [
          {
            master: 'vm',
            proxy: 'vm-proxy',
            state: 'parted',
            regions: 32,
            differing,
            unexpected,
            masterHash: 'aa',
            proxyHash: 'bb',
            seconds: 1,
            notes: [],
          },
        ],
      }),
    },
  });
  assert.is(await world(answer(0, 0)).run('verify', 'vm-proxy', '--exit-code'), 0);
  assert.is(await world(answer(2, 0)).run('verify', 'vm-proxy'), 0);
  assert.is(await world(answer(2, 0)).run('verify', 'vm-proxy', '--exit-code'), 4);
  const w = world(answer(2, 1));
  assert.is(await w.run('verify', 'vm-proxy'), 4);
  assert.match(w.out(), /^vm-proxy: DIFFERS from vm in 2 of 32 regions: 1 were believed equal, 1 /);
});

test('verify hands on its rate; a volume in motion has no checksum', async () => {
  const pairs = [
    {
      ...{ master: 'vm', proxy: 'vm-proxy', state: 'parted', regions: 32, differing: 0 },
      ...{ unexpected: 0, masterHash: null, proxyHash: 'bb', seconds: 1 },
      notes: ['no checksum of vm: it was in motion while it was read'],
    },
  ];
  const w = world({ on: { verify: () => ({ verb: 'verify', class: 'default', pairs }) } });
  assert.is(await w.run('verify', 'vm-proxy', '--rate', '2M'), 0, w.err());
  assert.is((w.last('verify')![1] as { rateBytesPerSec?: number }).rateBytesPerSec, 2 * 1024 ** 2);
  assert.equal(w.out().split('\n').slice(1), [
    '  XXH64 bb  vm-proxy',
    '  no checksum of vm: it was in motion while it was read',
    '',
  ]);
});

test('diff takes images, and volumes that have an image of their own', async () => {
  const w = world();
  assert.is(await w.run('diff', 'vm', './b.img'), 0);
  assert.equal(w.last('diffImages')!.slice(0, 2), ['/images/vm.img', './b.img']);
  assert.match(
    w.out(),
    /2 of 32 regions of 64 KiB differ .*\n {2}offset 0, length 131072 \(128 KiB\)/,
  );
  assert.is(await w.run('diff', 'vm', 'b.img', '--exit-code'), 4);
  const quiet = world();
  assert.is(await quiet.run('diff', 'a.img', 'b.img', '--exit-code', '-q'), 4);
  assert.is(quiet.out(), '');
});

test('diff of a volume cut from a single disk points to verify', async () => {
  const disks = classInfo().disks.map((d) => ({ ...d, type: 'single' as const }));
  const w = world({ classes: [classInfo({ disks })] });
  assert.is(await w.run('diff', 'vm', 'b.img'), 12);
  assert.match(w.err(), /kage verify/);
});

test('a bare word without any class was meant as a file', async () => {
  const w = world({ classes: [] });
  assert.is(await w.run('diff', 'a', 'b'), 10);
  assert.match(w.err(), /for a file in this folder write \.\/a/);
});

test('copy refuses an image of a class as its target', async () => {
  const w = world();
  assert.is(await w.run('copy', 'a.img', '/images/vm.img', '--json'), 12);
  assert.is(JSON.parse(w.out()).error.code, 'image-taken');
  assert.not(w.names().includes('copyImage'));
});

test('copy passes the choices and says what it overwrites', async () => {
  const w = world({ files: ['b.img'] });
  assert.is(await w.run('copy', 'a.img', 'b.img', '--rate', '1M'), 0);
  assert.equal(w.last('copyImage'), [
    'a.img',
    'b.img',
    { ...HOME, ...commandOf(w), dryRun: false, rateBytesPerSec: MIB },
  ]);
  assert.is(w.err(), 'copy: b.img will be overwritten from a.img where it differs\n');
  assert.is(await w.run('copy', 'a.img', 'b.img', '--differential-only'), 2);
});

test('copy that is refused says nothing of overwriting, nor does one to a new image', async () => {
  const on = {
    copyImage: () => {
      throw new KageError('size-differs', 'a.img has 2 bytes, b.img has 3');
    },
  };
  const refused = world({ files: ['b.img'], on });
  assert.is(await refused.run('copy', 'a.img', 'b.img'), 12);
  assert.is(refused.err(), 'kage: a.img has 2 bytes, b.img has 3\n');
  const fresh = world();
  assert.is(await fresh.run('copy', 'a.img', 'b.img'), 0);
  assert.is(fresh.err(), '');
});

function commandOf(w: ReturnType<typeof world>) {
  const { command } = w.last('findImage')![1] as { command: string };
  return { command };
}

test('classes lists one name per line', async () => {
  const w = world({ classes: [classInfo(), classInfo({ class: 'db' })] });
  assert.is(await w.run('classes'), 0);
  assert.is(w.out(), 'default\ndb\n');
});

test('info shows volumes and pairs', async () => {
  const w = world({
    classes: [
      classInfo({
        holder: { pid: 42, command: 'kage join a b', since: Date.UTC(2026, 0, 31, 13) },
        pairs: [pair({ doubt: null, lastCopy: { ...COPY, at: Date.UTC(2026, 0, 31, 11) } })],
      }),
    ],
  });
  assert.is(await w.run('info'), 0);
  assert.is(
    w.out(),
    `class default
  open since 2026-01-31 13:00:00 UTC by process 42: kage join a b

VOLUME    ROLE    STATUS  SIZE   IMAGE
vm        master  ACTIVE  2 MiB  /images/vm.img
vm-proxy  proxy   ACTIVE  2 MiB  /images/vm.proxy.img
other     -       ACTIVE  2 MiB  /images/other.img

vm -> vm-proxy: parted
  since    2026-01-31 12:00:00 UTC (part)
  changed  3 of 32 regions of 64 KiB, 192 KiB
  next     rejoin: differential copy of 192 KiB: tracked since the part
  last     differential, 128 KiB written in 0.3 s (2026-01-31 11:00:00 UTC): tracked since the part
`,
  );
});

test('info of one volume leaves the others out; after a swap it says where it lives', async () => {
  const w = world({ classes: [classInfo({ pairs: [pair({ lastVerb: 'swap' })] })] });
  assert.is(await w.run('info', '/images/vm.img'), 0);
  assert.not.match(w.out(), /other/);
  assert.match(w.out(), /swapped {2}the images changed places: vm now lives in \/images\/vm.img/);
});

test('info in an empty state folder says how to begin', async () => {
  const w = world({ classes: [] });
  assert.is(await w.run('info'), 10);
  assert.match(w.err(), /begin with `kage add IMAGE`/);
});

test('a copy with nothing to do says so before and after', async () => {
  const on = {
    update: (refs: string[], { dryRun }: { dryRun: boolean }) => ({
      verb: 'update',
      class: 'default',
      dryRun,
      pairs: refs.map((proxy) => ({
        master: 'vm',
        proxy,
        state: 'parted',
        copy: { ...COPY, regions: 0 },
        notes: ['nothing had changed'],
      })),
    }),
  };
  const w = world({ on } as WorldOptions);
  assert.is(await w.run('update', 'vm-proxy'), 0);
  assert.is(
    w.err(),
    'update: vm-proxy (/images/vm.proxy.img) stays as it is, nothing to copy ' +
      '(differential: tracked since the part)\n',
  );
  assert.is(
    w.out(),
    'vm-proxy: updated from vm (differential, nothing to copy: tracked since the part)\n' +
      '  nothing had changed\n',
  );
});

test('the plan of a pair that does not exist yet counts in the region that was asked for', async () => {
  const on = {
    join: () => ({
      verb: 'join',
      class: 'default',
      dryRun: true,
      pairs: [
        {
          master: 'a',
          proxy: 'b',
          state: 'joined',
          copy: { ...COPY, method: 'full', reason: 'first copy', regions: 10, seconds: 0 },
          notes: [],
        },
      ],
    }),
  };
  const w = world({ on } as WorldOptions);
  assert.is(await w.run('join', 'a.img', 'b.img', '--region', '1M', '--dry-run'), 0);
  assert.is(w.out(), 'b: would be joined (full copy of 10 MiB, 10 regions: first copy)\n');
});

test.run();
