/** `kage run`: words before and behind `--`, what the command is told, and whose status it is. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { classInfo, volume, world } from './fake.ts';

const test = suite('cli run');

const classes = [
  classInfo({ volumes: [volume('vm-1'), volume('vm_1'), volume('Data')], pairs: [] }),
];

test('the words behind -- are the command, as they are', async () => {
  const w = world({ classes });
  const command = ['sh', '-c', 'true', '--help', '-q', '--json', '--', '', '--freeze'];
  assert.is(await w.run('run', 'vm-1', '--', ...command), 0, w.err());
  assert.equal(w.last('execute')![0], command);
  assert.is(w.out() + w.err(), '');
  assert.equal(w.names().slice(-3), ['hold', 'execute', 'give back']);
});

test('the command is told where each volume is', async () => {
  const w = world({ classes });
  await w.run('run', 'Data', '/images/vm-1.img', '--devices', '/dev/kage', '--', 'x');
  assert.equal(w.last('execute')![1], {
    KAGE_HOME: '/state',
    KAGE_URI: 'nbd://there/Data',
    KAGE_URI_DATA: 'nbd://there/Data',
    KAGE_URI_VM_1: 'nbd://there/vm-1',
    KAGE_DEVICE: '/dev/kage/default/dsk/Data',
    KAGE_DEVICE_DATA: '/dev/kage/default/dsk/Data',
    KAGE_DEVICE_VM_1: '/dev/kage/default/dsk/vm-1',
  });
  const plain = world({ classes });
  await plain.run('run', 'Data', '--', 'x');
  assert.not.ok('KAGE_DEVICE' in (plain.last('execute')![1] as object));
});

test('it ends as the command, and gives the volumes back in any case', async () => {
  const w = world({ classes, on: { execute: () => ({ status: 7 }) } });
  assert.is(await w.run('run', 'Data', '--', 'x'), 7);
  const missing = world({ classes, on: { execute: () => ({ status: 127, problem: 'x: none' }) } });
  assert.is(await missing.run('run', 'Data', '--', 'x'), 127);
  assert.is(missing.err(), 'kage: x: none\n');
  const broken = () => {
    throw new Error('no processes');
  };
  const failed = world({ classes, on: { execute: broken } });
  assert.is(await failed.run('run', 'Data', '--', 'x'), 1);
  assert.ok(failed.names().includes('give back'));
});

test('what cannot be written down is told, but a status of the command counts more', async () => {
  const giveBack = () => {
    throw new KageError('io-error', 'sync failed');
  };
  for (const [status, expected] of [
    [0, 20],
    [3, 3],
  ]) {
    const on = { execute: () => ({ status }), 'give back': giveBack };
    const w = world({ classes, on });
    assert.is(await w.run('run', 'Data', '--', 'x'), expected);
    assert.is(w.err(), 'kage: sync failed\n');
  }
});

test('after Ctrl-C no command is begun', async () => {
  const w = world({ classes, signal: AbortSignal.abort() });
  assert.is(await w.run('run', 'Data', '--', 'x'), 130);
  assert.not.ok(w.names().includes('execute'));
  assert.ok(w.names().includes('give back'));
});

test('two volumes with one name of a variable are refused', async () => {
  const w = world({ classes });
  assert.is(await w.run('run', 'vm-1', 'vm_1', '--', 'x'), 2);
  assert.match(w.err(), /^kage: vm-1 and vm_1 would both be KAGE_URI_VM_1\n/);
  assert.is(await w.run('run', 'Data', 'Data', '--', 'x'), 2);
  assert.not.ok(w.names().includes('hold'));
});

test('help and completion know what stands behind --', async () => {
  const help = world();
  assert.is(await help.run('run', '--help'), 0);
  assert.match(help.out(), /^kage run <volume\.\.> -- COMMAND \[ARG…\]\n/);
  const all = world();
  await all.run('--help');
  assert.match(all.out(), /run VOLUME… -- COMMAND \[ARG…\]/);
  const first = world({ classes });
  await first.run('__complete', 'run', 'D');
  assert.is(first.out(), 'Data\tvolume, ACTIVE\n');
  const behind = world({ classes });
  await behind.run('__complete', 'run', 'Data', '--', '-');
  assert.is(behind.out(), ':files\n');
});

test.run();
