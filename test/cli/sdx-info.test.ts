/** The tables of sdxinfo, to the blank. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { tableLines } from '../../src/cli/sdx/table.ts';
import type { ClassInfo, PairInfo } from '../../src/engine/api.ts';
import { classInfo, KIB, MIB, pair, volume, world } from './fake.ts';

const test = suite('sdxinfo');

test('the sample of the manual, character by character', () => {
  const table = {
    columns: ['OBJ', 'CLASS', 'GROUP', 'DISK', 'VOLUME', 'STATUS'],
    rows: [
      ['slice', 'Class1', 'Group2', 'Disk3', 'Volume2', 'STOP'],
      ['slice', 'Class1', 'Group2', 'Disk4', 'Volume2', 'STOP'],
    ],
  };
  assert.equal(tableLines(table), [
    'OBJ    CLASS   GROUP   DISK    VOLUME  STATUS',
    '------ ------- ------- ------- ------- --------',
    'slice  Class1  Group2  Disk3   Volume2 STOP',
    'slice  Class1  Group2  Disk4   Volume2 STOP',
  ]);
});

/** Master on a keep disk; the proxy and a hole on a single disk. */
function class1(state: Partial<PairInfo> = {}): ClassInfo {
  // As the engine has it: the target of an unfinished copy is INVALID.
  const status = state.pendingRegions ? 'INVALID' : 'STOP';
  const disk = { status: 'ENABLE', problem: null, exclusive: false } as const;
  return classInfo({
    class: 'Class1',
    disks: [
      { ...disk, name: 'Disk1', type: 'keep', path: '/i/one.img', size: 2 * MIB, free: 0 },
      { ...disk, name: 'Disk2', type: 'single', path: '/i/two.img', size: 5 * MIB, free: 3 * MIB },
    ],
    volumes: [
      volume('Volume1', { disk: 'Disk1', role: 'master' }),
      volume('Volume2', { disk: 'Disk2', role: 'proxy', offset: MIB, status }),
    ],
    pairs: [pair({ master: 'Volume1', proxy: 'Volume2', state: 'joined', joined: true, ...state })],
  });
}

async function sdxinfo(words: string, info = class1(), more: readonly ClassInfo[] = []) {
  const w = world({ classes: [info, ...more] });
  assert.is(await w.run('sdxinfo', ...words.split(' ').filter(Boolean)), 0, w.err());
  return w.out();
}

const ALL = `OBJ    NAME    TYPE   SCOPE   SPARE
------ ------- ------ ------- -----
class  Class1  local  (local) 0

OBJ    NAME    TYPE   CLASS   GROUP   DEVNAM     DEVBLKS  DEVCONNECT STATUS
------ ------- ------ ------- ------- ---------- -------- ---------- --------
disk   Disk1   keep   Class1  *       /i/one.img 4096     node1      ENABLE
disk   Disk2   single Class1  *       /i/two.img 10240    node1      ENABLE

OBJ    NAME    CLASS   DISKS BLKS     FREEBLKS SPARE
------ ------- ------- ----- -------- -------- -----

OBJ    NAME    CLASS   GROUP   SKIP JRM 1STBLK   LASTBLK  BLOCKS   STATUS
------ ------- ------- ------- ---- --- -------- -------- -------- --------
volume Volume1 Class1  *       off  on  0        4095     4096     ACTIVE
volume Volume2 Class1  *       off  on  2048     6143     4096     STOP
volume *       Class1  *       *    *   0        2047     2048     FREE
volume *       Class1  *       *    *   6144     10239    4096     FREE

OBJ    CLASS   GROUP   DISK    VOLUME  STATUS
------ ------- ------- ------- ------- --------
slice  Class1  *       Disk1   Volume1 ACTIVE
slice  Class1  *       Disk2   Volume2 STOP
`;

test('-A prints all kinds, a blank line between tables; so does no option at all', async () => {
  assert.is(await sdxinfo('-A'), ALL);
  assert.is(await sdxinfo('-CDGSV -c Class1'), ALL);
  assert.is(await sdxinfo(''), ALL);
});

test('-e long and label add the columns of the manual', async () => {
  assert.is(
    await sdxinfo('-CD -e long,label'),
    `OBJ    NAME    TYPE   SCOPE   SPARE SHADOW HS  HSMODE
------ ------- ------ ------- ----- ------ --- ------
class  Class1  local  (local) 0     0      off *

OBJ    NAME    TYPE   CLASS   GROUP   DEVNAM     DEVBLKS  FREEBLKS DEVCONNECT LABEL STATUS   E
------ ------- ------ ------- ------- ---------- -------- -------- ---------- ----- -------- -
disk   Disk1   keep   Class1  *       /i/one.img 4096     0        node1      *     ENABLE   0
disk   Disk2   single Class1  *       /i/two.img 10240    6144     node1      *     ENABLE   0
`,
  );
  const volumes = await sdxinfo('-V -e long');
  assert.match(
    volumes,
    /^OBJ +NAME +TYPE +CLASS +GROUP +DISK +MASTER +PROXY SKIP JRM MODE 1STBLK +LASTBLK +BLOCKS +STATUS +PSLICE\n/,
  );
  assert.match(
    volumes,
    /^volume Volume1 single Class1 {2}\* {7}Disk1 {3}\* {7}\* {5}off {2}on {2}rw /m,
  );
  assert.match(
    volumes,
    /^volume Volume2 single Class1 {2}\* {7}Disk2 {3}Volume1 Join {2}off {2}on {2}rw /m,
  );
});

/** State of the pair, options, status of Volume1 and Volume2 in the slice table. */
const SLICES: readonly (readonly [Partial<PairInfo>, string, string])[] = [
  [{ state: 'joined', joined: true }, 'ACTIVE', 'STOP'],
  [{ state: 'joining', joined: true, pendingRegions: 8 }, 'ACTIVE', 'COPY'],
  [{ state: 'parted', joined: false }, 'ACTIVE', 'STOP'],
  [{ state: 'copying', joined: false, pendingRegions: 8 }, 'ACTIVE', 'COPY'],
  [{ state: 'restoring', joined: true, direction: 'toMaster' }, 'COPY', 'STOP'],
];

for (const [state, first, second] of SLICES) {
  test(`slices of a pair that is ${state.state}: ${first}, ${second}`, async () => {
    const out = await sdxinfo('-S', class1(state));
    assert.match(out, new RegExp(`Disk1 {3}Volume1 ${first}$`, 'm'));
    assert.match(out, new RegExp(`Disk2 {3}Volume2 ${second}$`, 'm'));
  });
}

test('MODE is the access mode of a volume', async () => {
  const parted = class1({ state: 'parted', joined: false });
  const volumes = [parted.volumes[0], { ...parted.volumes[1], readOnly: true }];
  const out = await sdxinfo('-V -e long', { ...parted, volumes });
  assert.match(out, /^volume Volume1 .* off +on +rw /m);
  assert.match(out, /^volume Volume2 .* off +on +ro /m);
});

test('a parted, started proxy is ACTIVE; a side that is INVALID says so', async () => {
  const parted = class1({ state: 'parted', joined: false });
  const volumes = [parted.volumes[0], { ...parted.volumes[1], status: 'ACTIVE' as const }];
  assert.match(await sdxinfo('-S', { ...parted, volumes }), /Volume2 ACTIVE$/m);
  const bad = [parted.volumes[0], { ...parted.volumes[1], status: 'INVALID' as const }];
  assert.match(await sdxinfo('-S', { ...parted, volumes: bad }), /Volume2 INVALID$/m);
});

test('a proxy is INVALID as a volume until its first copy is complete', async () => {
  const out = await sdxinfo('-V', class1({ state: 'joining', joined: true, pendingRegions: 1 }));
  assert.match(out, /^volume Volume2 .* INVALID$/m);
});

test('-S -e long counts the blocks of a copy', async () => {
  const copying = class1({
    state: 'joining',
    joined: true,
    regionSize: 64 * KIB,
    incrementRegions: 32,
    pendingRegions: 8,
  });
  const row = 'slice  Disk2.Volume2 Class1  *       Disk2   Volume2 *   *    COPY     ';
  assert.match(await sdxinfo('-S -e long', copying), `${row}stop 3072     4096     0   *`);
  const held = { ...copying, holder: { pid: 1, command: 'kage', since: 0 } };
  assert.match(await sdxinfo('-S -e long', held), `${row}run  3072     4096     0   *`);
});

test('-o finds objects of every kind; with a kind, what is related to it', async () => {
  const slices = await sdxinfo('-S -c Class1 -o Volume2');
  assert.equal(slices.split('\n').length, 4);
  assert.match(slices, /^slice .* Disk2 {3}Volume2 STOP$/m);
  const alone = await sdxinfo('-o Disk1');
  assert.match(alone, /^disk {3}Disk1 /m);
  assert.not.match(alone, /slice|class |volume/);
  const related = await sdxinfo('-V -o Disk2');
  assert.match(related, /^volume Volume2 /m);
  assert.match(related, /^volume \* /m);
  assert.not.match(related, /Volume1/);
});

test('without -c all classes, with -c one', async () => {
  const other = classInfo({ class: 'Other' });
  assert.match(await sdxinfo('-C', class1(), [other]), /Class1.*\n.*Other/);
  assert.not.match(await sdxinfo('-C -c Other', class1(), [other]), /Class1/);
});

test('no such class, no such object, no such option', async () => {
  const run = async (...argv: string[]) => {
    const w = world({ classes: [class1()] });
    return [await w.run('sdxinfo', ...argv), w.err()] as const;
  };
  assert.is((await run('-c', 'Nope'))[0], 10);
  const [status, err] = await run('-o', 'Volume3');
  assert.is(status, 10);
  assert.match(
    err,
    /^ERROR: Volume3: no object of that name\n|^ERROR: sdxinfo: Volume3: no object/,
  );
  assert.is((await run('-e', 'delimit'))[0], 2);
  assert.is((await run('-X'))[0], 2);
  assert.is((await run('Class1'))[0], 2);
});

test('a closed class is a warning, not the end', async () => {
  const w = world({
    classes: [
      classInfo({ class: 'Bad', closed: 'root damaged', volumes: [], disks: [], pairs: [] }),
    ],
  });
  assert.is(await w.run('sdxinfo', '-C'), 0);
  assert.is(w.err(), 'WARNING: Bad: closed: root damaged\n');
});

test.run();
