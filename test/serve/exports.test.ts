/** What NBD clients find: started volumes by name, attached for as long as they have them. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serveClasses } from '../../src/control/classes.ts';
import type { PairInfo } from '../../src/engine/api.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { ZeroFinder } from '../../src/nbd/zeros.ts';
import { exportsOf as exportsWith } from '../../src/serve/exports.ts';
import { unfinishedCopies } from '../../src/serve/unfinished.ts';
import { callsOf, fakeClass, served } from '../control/rounds.ts';

const test = suite('control exports');

const exportsOf = (classes: Parameters<typeof exportsWith>[0]) =>
  exportsWith(classes, new ZeroFinder(createKernel('js'), async () => {}));

const VOLUMES = [
  { name: 'vm', status: 'ACTIVE', role: 'master' },
  { name: 'p', status: 'STOP', role: 'proxy' },
  { name: 'bad', status: 'INVALID', role: null },
  { name: 'scratch', status: 'ACTIVE', role: null },
];

/** Records what an attached volume is asked. */
function attached(said: unknown[]) {
  return {
    size: 4096,
    readOnly: false,
    read: (into: Uint8Array, offset: number) => void said.push(['read', into.length, offset]),
    write: (from: Uint8Array, offset: number) => void said.push(['write', from.length, offset]),
    zero: async (offset: number, length: number) => void said.push(['zero', offset, length]),
    flush: async () => void said.push(['flush']),
    close: async () => void said.push(['close']),
  };
}

test('only started volumes are listed, of open classes', async () => {
  const { classes } = served([fakeClass('db', { info: () => ({ volumes: VOLUMES }) })]);
  const exports = exportsOf(classes);
  assert.equal(exports.list(), []);
  const held = (await classes.enter('db', false))!;
  assert.equal(exports.list(), [
    { name: 'db/vm', description: 'master' },
    { name: 'db/scratch', description: 'volume' },
  ]);
  held.forget();
  assert.equal(exports.list(), []);
});

test('an export is the attached volume', async () => {
  const said: unknown[] = [];
  const on = { info: () => ({ volumes: VOLUMES }), attach: () => attached(said) };
  const fake = fakeClass('db', on);
  const { classes } = served([fake]);
  await classes.enter('db', false);
  const open = (await exportsOf(classes).open('db/vm'))!;
  assert.equal(callsOf(fake, 'attach'), [['vm']]);
  const { target } = open;
  assert.equal([target.name, target.size, target.readOnly], ['db/vm', 4096, false]);
  assert.equal(target.contexts, ['base:allocation']);
  await target.read(new Uint8Array(7), 1);
  await target.write(new Uint8Array(8), 2);
  await target.zero(3, 9, false);
  await target.flush();
  assert.equal(await target.status('base:allocation', 1000, 5), [{ length: 5, flags: 2 }]);
  open.close();
  const looked = ['read', 5, 1000];
  assert.equal(said, [
    ['read', 7, 1],
    ['write', 8, 2],
    ['zero', 3, 9],
    ['flush'],
    looked,
    looked,
    ['close'],
  ]);
});

test('the increment of a volume is a second context, in the words of a dirty bitmap', async () => {
  const asked: number[][] = [];
  const increment = {
    regionSize: 1024,
    runs(offset: number, length: number) {
      asked.push([offset, length]);
      return [
        { length: 24, differs: false },
        { length: 3072, differs: true },
      ];
    },
  };
  const attach = () => ({ ...attached([]), readOnly: true, increment });
  const { classes } = served([fakeClass('db', { info: () => ({ volumes: VOLUMES }), attach })]);
  await classes.enter('db', false);
  const { target } = (await exportsOf(classes).open('db/vm'))!;
  assert.ok(target.readOnly);
  assert.equal(target.contexts, ['base:allocation', 'qemu:dirty-bitmap:increment']);
  assert.equal(await target.status('qemu:dirty-bitmap:increment', 1000, 3000), [
    { length: 24, flags: 0 },
    { length: 3072, flags: 1 },
  ]);
  assert.equal(await target.status('base:allocation', 1000, 5), [{ length: 5, flags: 2 }]);
  assert.equal(asked, [[1000, 3000]]);
});

test('only chosen volumes are there, and changes are told before anybody else sees them', async () => {
  const said: string[] = [];
  let volumes = VOLUMES;
  const fake = fakeClass('db', { info: () => ({ volumes }) });
  const classes = serveClasses(async () => fake.diskClass, {
    volumes: ['vm', 'p'],
    async changed(name, now) {
      said.push(`${name} ${now.map((v) => `${v.name}=${v.status}`).join(' ')}`);
    },
  });
  const held = (await classes.enter('db', false))!;
  assert.equal(exportsOf(classes).list(), [{ name: 'db/vm', description: 'master' }]);
  assert.is(await exportsOf(classes).open('db/scratch'), undefined);
  volumes = VOLUMES.map((v) => (v.name === 'p' ? { ...v, status: 'ACTIVE' } : v));
  await held.refresh();
  volumes = VOLUMES.map((v) => ({ ...v, status: 'INVALID' }));
  await classes.refresh('db');
  await classes.refresh('other');
  assert.equal(said, ['db vm=ACTIVE p=STOP', 'db vm=ACTIVE p=ACTIVE', 'db vm=INVALID p=INVALID']);
});

test('there is no export by a path, of a class that is not open, or without a class', async () => {
  const fake = fakeClass('db', { info: () => ({ volumes: VOLUMES }) });
  const { classes } = served([fake]);
  const exports = exportsOf(classes);
  assert.is(await exports.open('db/vm'), undefined);
  await classes.enter('db', false);
  for (const name of ['', 'vm', 'db', 'db/', '/vm', 'other/vm', 'db/nothing', 'db//a/vm.img']) {
    assert.is(await exports.open(name), undefined, name);
  }
  assert.equal(callsOf(fake, 'attach'), []);
});

test('an unfinished copy is continued by the verb that is recorded, and by no other', async () => {
  const fake = fakeClass('db');
  const pair = (more: object) => ({ master: 'm', proxy: 'p', pendingRegions: 1, ...more });
  const toProxy = { direction: 'toProxy' };
  const toMaster = { direction: 'toMaster' };
  const next = (verb: string) => ({ next: { verb } });
  const rows = [
    [pair({ ...toProxy, joined: true, pendingRegions: 0 }), null],
    [pair({ ...toProxy, joined: true, ...next('join') }), ['join', 'm', 'p', {}]],
    [pair({ ...toProxy, joined: true, ...next('rejoin') }), ['join', 'm', 'p', {}]],
    [
      pair({ ...toMaster, joined: true, ...next('restore') }),
      ['restore', ['p'], { instant: true, live: true }],
    ],
    [pair({ ...toProxy, joined: false, ...next('update') }), ['update', ['p'], {}]],
    [
      pair({ ...toMaster, joined: false, ...next('restore --keep') }),
      ['restore', ['p'], { instant: true, live: true, keep: true }],
    ],
    [pair({ ...toProxy, joined: false, ...next('join') }), undefined],
    [pair({ ...toProxy, joined: false, next: null }), undefined],
  ] as const;
  for (const [info, expected] of rows) {
    const [copy] = unfinishedCopies(fake.diskClass, [info as unknown as PairInfo]);
    const before = fake.calls.length;
    await copy?.run?.({});
    const call = fake.calls[before];
    const made = call === undefined ? undefined : [call.method, ...call.args];
    assert.equal(made, expected ?? undefined, JSON.stringify(info));
    assert.is(copy === undefined, expected === null);
  }
});

test.run();
