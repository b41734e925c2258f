/** sdxvolume, sdxdisk and sdxclass: the engine calls, and what is refused. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { classInfo, pair, volume, world } from './fake.ts';

const test = suite('sdx objects');
const words = (text: string) => text.split(' ');

test('sdxdisk -M makes the class and registers images by type', async () => {
  const w = world();
  const line =
    'sdxdisk -M -c Class1 -a type=local -d /i/a.img=Disk1:single,b=c.img=Disk2:keep,d=Disk3';
  assert.is(await w.run(...words(line)), 0, w.err());
  assert.is((w.last('openClass')![1] as { create: boolean }).create, true);
  const added = w.calls.filter((c) => c.name === 'addDisk').map((c) => c.args.slice(0, 3));
  assert.equal(added, [
    ['/i/a.img', 'Disk1', 'single'],
    ['b=c.img', 'Disk2', 'keep'],
    ['d', 'Disk3', 'undef'],
  ]);
  assert.match(w.out(), /^INFO: Disk1: registered \(\/i\/a.img, type single\)\n/);
});

test('sdxdisk -R takes disks out; half of it done is exit 3', async () => {
  let count = 0;
  const on = {
    removeDisk: () => {
      if (++count === 2) throw new KageError('not-permitted', 'it carries volumes');
    },
  };
  const w = world({ on });
  assert.is(await w.run(...words('sdxdisk -R -c default -d A,B,C')), 3);
  assert.is(w.out(), 'INFO: A: removed; its image stays\n');
  assert.is(w.err(), 'ERROR: B: it carries volumes\n');
  assert.is(count, 2);
});

test('sdxdisk: the error of the first disk is the error of the command', async () => {
  const on = {
    addDisk: () => {
      throw new KageError('image-missing', 'no file x');
    },
  };
  const w = world({ on });
  assert.is(await w.run(...words('sdxdisk -M -c default -d x=A,y=B')), 10);
  assert.is(w.calls.filter((c) => c.name === 'addDisk').length, 1);
});

const REFUSED: readonly (readonly [string, number])[] = [
  ['sdxdisk -M -c C -d a=Disk1:spare', 12],
  ['sdxdisk -M -c C -a type=shared -d a=Disk1', 12],
  ['sdxdisk -M -c C -d a=Disk1:mirror', 2],
  ['sdxdisk -M -c C -d a', 2],
  ['sdxdisk -C -c C -g G -d A', 12],
  ['sdxdisk -D -c C -g G -d A', 12],
  ['sdxdisk -c C -d A', 2],
  ['sdxdisk -M -R -c C -d A', 2],
  ['sdxvolume -M -c C -g G -v V -s 100', 12],
  ['sdxvolume -S -c C -v V -s 100', 12],
  ['sdxvolume -M -c C -d D -v V -s 1.5', 2],
  ['sdxvolume -M -c C -d D -v V', 2],
  ['sdxvolume -R -c C', 2],
  ['sdxvolume -N -c C -e bogus', 2],
  ['sdxclass -c C', 2],
  ['sdxclass -R', 2],
];

for (const [line, status] of REFUSED) {
  test(`${line}: exit ${status}, nothing touched`, async () => {
    const w = world();
    assert.is(await w.run(...words(line)), status);
    assert.match(w.err(), /^ERROR: /);
    assert.equal(w.calls, []);
  });
}

test('sdxvolume -M counts in blocks', async () => {
  const w = world();
  const line =
    'sdxvolume -M -c default -d Disk1 -v Volume1 -s 2048 -a jrm=on,pslice=off -e delay=5';
  assert.is(await w.run(...words(line)), 0, w.err());
  assert.equal(w.last('addVolume')!.slice(0, 3), ['Disk1', 'Volume1', 1048576]);
  assert.is(w.out(), 'INFO: Volume1: created on Disk1, started\n');
});

test('sdxvolume -R wants a stopped volume', async () => {
  const w = world();
  assert.is(await w.run(...words('sdxvolume -R -c default -v other')), 13);
  assert.not(w.names().includes('remove'));
  const stopped = world({
    classes: [classInfo({ volumes: [volume('other', { status: 'STOP' })], pairs: [] })],
  });
  assert.is(await stopped.run(...words('sdxvolume -R -c default -v other')), 0);
  assert.equal(stopped.last('remove')![0], ['other']);
});

test('sdxvolume -N and -F with names', async () => {
  const w = world();
  assert.is(await w.run(...words('sdxvolume -N -c default -v vm,other -e unlock,allnodes')), 0);
  assert.equal(w.last('start'), [['vm', 'other'], { unlock: true, readOnly: false }]);
  assert.is(await w.run(...words('sdxvolume -N -c default -v vm -e mode=ro')), 0);
  assert.equal(w.last('start'), [['vm'], { unlock: false, readOnly: true }]);
  assert.is(await w.run(...words('sdxvolume -N -c default -v vm -e mode=wo')), 2);
  assert.is(await w.run(...words('sdxvolume -F -c default -v vm -e node=a:b')), 0);
  assert.equal(w.last('stop'), [['vm']]);
  assert.is(await w.run(...words('sdxvolume -F -c default -v nosuch')), 10);
});

test('sdxvolume -F is told to use force, the others have none', async () => {
  const w = world();
  assert.is(await w.run(...words('sdxvolume -F -c default -v vm -e allnodes --force')), 0);
  assert.equal(w.last('stop'), [['vm'], { force: true }]);
  for (const line of ['sdxvolume -N -c default --force', 'sdxinfo --force']) {
    const wrong = world();
    assert.is(await wrong.run(...words(line)), 2);
    assert.match(wrong.err(), /^ERROR: .*--force/);
  }
});

test('without -v all volumes: joined proxies stay, locked and INVALID ones are told', async () => {
  const volumes = [
    volume('vm', { status: 'STOP', role: 'master' }),
    volume('vm-proxy', { status: 'STOP', role: 'proxy' }),
    volume('locked', { status: 'STOP', locked: true }),
    volume('bad', { status: 'INVALID', problem: 'copy cancelled' }),
    volume('on'),
  ];
  const classes = [classInfo({ volumes, pairs: [pair({ joined: true, state: 'joined' })] })];
  const w = world({ classes });
  assert.is(await w.run(...words('sdxvolume -N -c default')), 3);
  assert.equal(w.last('start'), [['vm'], { unlock: false, readOnly: false }]);
  assert.is(
    w.err(),
    'WARNING: locked: not started: it is locked (-e unlock starts it)\n' +
      'WARNING: bad: not started: INVALID: copy cancelled\n',
  );
  const stop = world({ classes });
  assert.is(await stop.run(...words('sdxvolume -F -c default')), 0);
  assert.equal(stop.last('stop'), [['on']]);
});

test('sdxclass -R removes a class, and not in a dry run', async () => {
  const w = world();
  assert.is(await w.run(...words('sdxclass -R -c default')), 0);
  assert.equal(w.last('removeClass'), [{ dryRun: false }]);
  assert.is(w.out(), 'INFO: default: class removed\n');
  assert.is(await w.run(...words('sdxclass -R -c default --dry-run')), 0);
  assert.equal(w.last('removeClass'), [{ dryRun: true }]);
});

test.run();
