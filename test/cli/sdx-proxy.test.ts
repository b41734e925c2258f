/** Each form of sdxproxy reaches the verb that the manual means, with its options. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import type { ClassInfo } from '../../src/engine/api.ts';
import { classInfo, world } from './fake.ts';

const test = suite('sdxproxy');
const STRICT = { strictStop: true };

/** Words after `sdxproxy`, engine call, its references, its options beside dryRun. */
const FORMS: readonly (readonly [string, string, readonly unknown[], object])[] = [
  ['Join -c C -m Volume1 -p Volume2', 'join', ['Volume1', 'Volume2'], STRICT],
  [
    'Join -c C -m Volume1 -p Volume2 -e delay=7,softcopy,syncmode,waitsync',
    'join',
    ['Volume1', 'Volume2'],
    { delayMs: 7, ...STRICT },
  ],
  ['Part -c C -p Volume2', 'part', [['Volume2']], {}],
  [
    'Part -c C -p A,B -e instant,unlock,mode=rw',
    'part',
    [['A', 'B']],
    { instant: true, unlock: true },
  ],
  ['Part -cC -pA -einstant -e mode=rw', 'part', [['A']], { instant: true }],
  ['Part -c C -p A -e mode=ro', 'part', [['A']], { readOnly: true }],
  ['Rejoin -c C -p A,B -e waitsync,delay=0', 'rejoin', [['A', 'B']], { delayMs: 0, ...STRICT }],
  ['RejoinRestore -c C -p A', 'restore', [['A']], { keep: false, ...STRICT }],
  [
    'RejoinRestore -c C -p A,B -e instant,softcopy,delay=9',
    'restore',
    [['A', 'B']],
    { keep: false, instant: true, delayMs: 9, ...STRICT },
  ],
  ['Restore -c C -p A -e instant', 'restore', [['A']], { keep: true, instant: true, ...STRICT }],
  ['Update -c C -p A,B -e instant', 'update', [['A', 'B']], { instant: true, ...STRICT }],
  ['Relate -c C -m Volume1 -p A', 'relate', ['Volume1', 'A'], {}],
  ['Swap -c C -p A', 'swap', ['A'], {}],
  ['Cancel -c C -p A', 'cancel', ['A'], {}],
  ['Break -c C -p A -e force', 'break', ['A'], {}],
  ['Break -c C -p A -e restore', 'break', ['A'], { restore: true }],
];

for (const [words, name, refs, options] of FORMS) {
  test(`sdxproxy ${words}`, async () => {
    const w = world({ classes: [classC()] });
    assert.is(await w.run('sdxproxy', ...words.split(' ')), 0, w.err());
    assert.is(w.last('openClass')![0], 'C');
    assert.equal(w.last(name), [...refs, { dryRun: false, ...options }]);
    assert.not.match(w.err(), /WARNING/);
  });
}

function classC(): ClassInfo {
  return classInfo({ class: 'C', disks: [], volumes: [], pairs: [] });
}

const WRONG: readonly (readonly [string, number, RegExp])[] = [
  ['', 2, /ERROR: sdxproxy: an operation is missing/],
  ['Jion -c C -m A -p B', 2, /there is no operation Jion; did you mean Join\?/],
  ['Join -m A -p B', 2, /-c class is missing/],
  ['Join -c C -p B', 2, /-m master is missing/],
  ['Join -c C -m A', 2, /-p proxy is missing/],
  ['Join -c C -m A,B -p C', 2, /-m takes exactly one name/],
  ['Join -c C -m A -p B,D', 2, /-p takes exactly one name/],
  ['Swap -c C -p A,B', 2, /-p takes exactly one name/],
  ['Part -c C -p A,,B', 2, /empty name/],
  ['Part -c C -m M -p A', 2, /Part takes no -m/],
  ['Part -c C -p A -e waitsync', 2, /-e waitsync is not known here/],
  ['Rejoin -c C -p A -e delay=1001', 2, /delay 1001: must be 0 to 1000 ms/],
  ['Part -c C -p A -e mode=xx', 2, /-e mode= must be rw or ro/],
  ['Part -c C -p A -z', 2, /unknown option -z/],
  ['Part -c', 2, /-c needs a value/],
  ['Join -c C -m Group1 -p Group2 -a Volume1=Proxy1:on', 12, /groups are not part of this version/],
  ['Root -c C -m A', 12, /root classes are not part of this version/],
];

for (const [words, status, expected] of WRONG) {
  test(`sdxproxy ${words}: exit ${status}`, async () => {
    const w = world();
    assert.is(await w.run('sdxproxy', ...words.split(' ').filter(Boolean)), status);
    assert.match(w.err(), expected);
    assert.equal(w.names(), []);
  });
}

test('INFO lines on stdout tell of the copy, and that it was waited for', async () => {
  const w = world();
  await w.run('sdxproxy', 'Rejoin', '-c', 'default', '-p', 'vm-proxy');
  assert.is(
    w.out(),
    'INFO: vm-proxy: copying completed successfully (differential copy of 192 KiB, ' +
      '128 KiB written, 0.3 s: tracked since the part)\n' +
      'INFO: vm-proxy: joined to vm again\n' +
      'INFO: vm-proxy: no server: the copy was waited for, as with waitsync\n',
  );
  assert.match(w.err(), /^INFO: vm-proxy: .*will be overwritten from vm: 3 regions/);
  const waiting = world();
  await waiting.run('sdxproxy', 'Rejoin', '-c', 'default', '-p', 'vm-proxy', '-e', 'waitsync');
  assert.not.match(waiting.out(), /no server/);
});

test('what would mislead is a warning on stderr', async () => {
  const w = world();
  await w.run(...'sdxproxy Part -c default -p vm-proxy -a pjrm=off'.split(' '));
  assert.match(w.err(), /^WARNING: vm-proxy: pjrm=off: changes are tracked all the same/);
  assert.not.match(w.out(), /WARNING/);
});

test('errors name their object once', async () => {
  const on = {
    rejoin: () => {
      throw new KageError('wrong-state', 'vm-proxy: it is joined, and this needs it parted', {
        hint: 'part it first',
        data: { proxy: 'vm-proxy' },
      });
    },
  };
  const w = world({ on });
  assert.is(await w.run(...'sdxproxy Rejoin -c default -p vm-proxy'.split(' ')), 13);
  assert.is(w.err(), 'ERROR: vm-proxy: it is joined, and this needs it parted\n  part it first\n');
});

test('the verb in front of the object is left out as well', async () => {
  const on = {
    cancel: () => {
      throw new KageError('wrong-state', 'cancel vm-proxy: it is joined: copying: no', {
        data: { proxy: 'vm-proxy' },
      });
    },
  };
  const w = world({ on });
  assert.is(await w.run(...'sdxproxy Cancel -c default -p vm-proxy'.split(' ')), 13);
  assert.is(w.err(), 'ERROR: vm-proxy: it is joined: copying: no\n');
});

test('our long options work here too', async () => {
  const w = world();
  const words = 'sdxproxy Rejoin -c default -p vm-proxy --rate=1M --json --home /h --dry-run';
  assert.is(await w.run(...words.split(' ')), 0);
  assert.is(JSON.parse(w.out()).dryRun, true);
  assert.is((w.last('openClass')![1] as { home: string }).home, '/h');
  assert.equal(w.last('rejoin')![1], { dryRun: true, rateBytesPerSec: 1048576, ...STRICT });
});

test('commands of the manual that come later are refused as such', async () => {
  for (const name of ['sdxgroup', 'sdxcopy', 'sdxslice', 'sdxfix', 'sdxattr', 'sdxconfig']) {
    const w = world();
    assert.is(await w.run(name, '-C', '-c', 'C'), 12);
    assert.match(w.err(), /are not part of this version/);
  }
  const w = world();
  assert.is(await w.run('sdxpoxy'), 2);
  assert.match(w.err(), /there is no command sdxpoxy/);
});

test('--help of each command shows its forms', async () => {
  const w = world();
  assert.is(await w.run('sdxproxy', '--help'), 0);
  assert.match(w.out(), /^sdxproxy Join -c class -m master -p proxy /);
});

test.run();
