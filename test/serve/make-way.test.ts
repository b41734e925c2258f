/** Which volumes must be unused for which call: what the engine would refuse while they are used. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { KageError } from '../../src/base/errors.ts';
import type { ClassInfo } from '../../src/engine/api.ts';
import type { NbdServer } from '../../src/nbd/server.ts';
import type { Devices } from '../../src/serve/devices.ts';
import { type Call, makeWay, unusedFor } from '../../src/serve/make-way.ts';
import { fakeClass } from '../control/rounds.ts';

const test = suite('control: make way');

const volume = (name: string, status = 'ACTIVE') => ({
  name,
  status,
  readOnly: false,
  path: `/images/${name}.img`,
});
const pair = (proxy: string, more: object) => ({
  master: 'm',
  proxy,
  direction: 'toProxy',
  pendingRegions: 0,
  ...more,
});
const INFO = {
  volumes: ['m', 'p', 'q', 'r', 's'].map((name) => volume(name)).concat(volume('off', 'STOP')),
  pairs: [
    pair('p', {}),
    pair('q', { pendingRegions: 3 }),
    pair('r', { pendingRegions: 3, direction: 'toMaster' }),
    pair('off', {}),
  ],
} as unknown as ClassInfo;

const ROWS: readonly (readonly [method: string, args: unknown[], names: string[]])[] = [
  ['stop', [['m', 's', 'off']], ['m', 's']],
  ['stop', [['/images/s.img']], ['s']],
  ['remove', [['s'], {}], ['s']],
  ['join', ['m', 's', {}], ['s']],
  ['join', ['m', '/new.img', {}], []],
  ['join', ['m', 'off', {}], []],
  ['relate', ['m', 's', {}], []],
  ['part', [['p'], {}], []],
  ['rejoin', [['p', 'q'], {}], ['p', 'q']],
  ['update', [['p'], {}], ['p']],
  ['restore', [['p'], {}], ['m', 'p']],
  ['restore', [['p'], { keep: true }], ['m', 'p']],
  ['restore', [['p'], { live: true }], ['p']],
  ['restore', [['off'], {}], ['m']],
  ['swap', ['p', {}], []],
  ['cancel', ['p', {}], []],
  ['cancel', ['q', {}], ['q']],
  ['break', ['p', {}], []],
  ['break', ['q', {}], ['q']],
  ['break', ['r', { restore: true }], ['m']],
  ['start', [['m', 'off'], {}], []],
  ['start', [['m', 'off'], { readOnly: true }], ['m']],
  ['lock', [['m']], []],
  ['fix', ['m'], []],
  ['removeClass', [{}], []],
  ['add', [[{ path: '/images/m.img' }], {}], []],
];

const callOf = (method: string, args: unknown[]) =>
  ({ id: 1, class: 'db', method, args }) as unknown as Call;

for (const [method, args, names] of ROWS) {
  const text = JSON.stringify(args).replaceAll('"', '');
  test(`${method} ${text} wants ${names.join(' and ') || 'nobody'} unused`, () => {
    const paths = new Map([['/images/s.img', '/images/s.img']]);
    assert.equal(unusedFor(callOf(method, args), INFO, paths).sort(), names);
  });
}

/** Devices that are recorded when they are taken away and given back. */
function devices(said: string[]): Devices {
  return {
    folder: '/dev/db',
    match: async () => {},
    async hold(className, volumes) {
      said.push(`away ${className} ${volumes.join(' ')}`);
      return async () => void said.push('back');
    },
    holds: async (image) => image.startsWith('/dev/db/'),
    close: async () => {},
  };
}

const resolve = async (path: string) => path.replace('/link', '/dev/db');
const nbd = (said: string[]) => ({ cut: async (name: string) => said.push(`cut ${name}`) });

test('a device is away from before the call until after it', async () => {
  const said: string[] = [];
  const { diskClass } = fakeClass('db', { info: () => INFO });
  const options = { devices: devices(said), resolve };
  const back = await makeWay(diskClass, callOf('rejoin', [['p'], {}]), options);
  assert.equal(said, ['away db p']);
  await back();
  assert.equal(said, ['away db p', 'back']);
  said.length = 0;
  await (await makeWay(diskClass, callOf('part', [['p'], {}]), options))();
  assert.equal(said, []);
});

test('a stop by force takes nothing away before; afterwards all clients of what is stopped go', async () => {
  const said: string[] = [];
  const { diskClass } = fakeClass('db', { info: () => INFO });
  const server = nbd(said) as unknown as NbdServer;
  const options = { devices: devices(said), nbd: server, resolve };
  const after = await makeWay(diskClass, callOf('stop', [['off'], { force: true }]), options);
  assert.equal(said, []);
  await after();
  assert.equal(said, ['cut db/off']);
});

test('a device of the server is no image for it, under whatever name', async () => {
  const { diskClass } = fakeClass('db', { info: () => INFO });
  const options = { devices: devices([]), resolve };
  const calls: readonly (readonly [method: string, args: unknown[]])[] = [
    ['add', [[{ path: '/images/x.img' }, { path: '/dev/db/c/dsk/v' }], {}]],
    ['join', ['m', '/link/c/dsk/v', {}]],
    ['addDisk', ['/link/c/dsk/v', 'd', 'keep', {}]],
  ];
  for (const [method, args] of calls) {
    let error: KageError | undefined;
    await makeWay(diskClass, callOf(method, args), options).catch((e) => {
      error = e;
    });
    assert.is(error?.code, 'not-permitted', method);
    assert.match(error!.message, /dsk\/v: is a device of this server/);
  }
});

test.run();
