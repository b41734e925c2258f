/** Images that are none, pairs that cannot be, names that are wrong: one line each, nothing changed. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { expectRefusal, expectText, type Refusal } from '../support/refusals.ts';
import { each, inWorld, NODE, randomBytes, samePhotos, type World } from '../support/world.ts';

const test = suite('e2e: bad input');
const MIB = 1024 * 1024;
const isRoot = process.getuid?.() === 0;

type Case = Refusal & {
  readonly name: string;
  /** Makes what the command is about. */
  readonly prepare?: (w: World) => void | Promise<void>;
  readonly args: (w: World) => readonly string[];
};

function run(name: string, cases: readonly Case[]): void {
  test(name, () =>
    each(
      cases,
      (c) => c.name,
      (c) =>
        inWorld(async (w) => {
          w.image('vm.img', MIB, 1);
          await c.prepare?.(w);
          await expectRefusal(w, c.args(w), c);
        }),
    ),
  );
}

// Images that are none

const BAD_IMAGES: readonly (Refusal & { name: string; make(w: World, file: string): void })[] = [
  { name: 'missing', code: 'image-missing', says: /x\.img: no such file/, make() {} },
  {
    name: 'a folder',
    code: 'image-directory',
    says: /x\.img: is a directory/,
    make: (_, file) => fs.mkdirSync(file),
  },
  {
    name: 'empty',
    code: 'image-empty',
    says: /x\.img: the image is empty/,
    make: (_, file) => fs.writeFileSync(file, ''),
  },
  {
    name: 'a pipe',
    code: 'image-directory',
    says: /x\.img: is neither a file nor a block device/,
    make: (_, file) => {
      spawnSync('mkfifo', [file]);
    },
  },
  {
    name: 'a link to nowhere',
    code: 'image-missing',
    says: /x\.img: no such file/,
    make: (w, file) => fs.symlinkSync(w.path('nowhere.img'), file),
  },
  {
    name: 'below a file',
    code: 'image-missing',
    says: /no such file/,
    make: (w, file) => {
      fs.symlinkSync(w.path('vm.img/x.img'), file);
    },
  },
];

run('a bad image as master', [
  ...BAD_IMAGES.map(
    (bad): Case => ({
      ...bad,
      name: `join, master ${bad.name}`,
      prepare: (w) => bad.make(w, w.path('x.img')),
      args: (w) => ['join', w.path('x.img'), w.path('p.img')],
    }),
  ),
  ...BAD_IMAGES.slice(0, 3).map(
    (bad): Case => ({
      ...bad,
      name: `add ${bad.name}`,
      prepare: (w) => bad.make(w, w.path('x.img')),
      args: (w) => ['add', w.path('x.img')],
    }),
  ),
]);

run('a bad image as proxy, and in tools', [
  ...BAD_IMAGES.filter((bad) => !/missing|nowhere|below/.test(bad.name)).map(
    (bad): Case => ({
      ...bad,
      name: `join, proxy ${bad.name}`,
      prepare: (w) => bad.make(w, w.path('x.img')),
      args: (w) => ['join', w.path('vm.img'), w.path('x.img')],
    }),
  ),
  ...BAD_IMAGES.slice(0, 2).map(
    (bad): Case => ({
      ...bad,
      name: `diff with ${bad.name}`,
      prepare: (w) => bad.make(w, w.path('x.img')),
      args: (w) => ['diff', w.path('vm.img'), w.path('x.img')],
    }),
  ),
  ...BAD_IMAGES.slice(2, 4).map(
    (bad): Case => ({
      ...bad,
      name: `copy of ${bad.name}`,
      prepare: (w) => bad.make(w, w.path('x.img')),
      args: (w) => ['copy', w.path('x.img'), w.path('new.img')],
    }),
  ),
  {
    name: 'join to a proxy in a folder that does not exist',
    code: 'image-missing',
    says: /no such folder/,
    args: (w) => ['join', w.path('vm.img'), w.path('nowhere/p.img')],
  },
  {
    name: 'join to a proxy that is a link to nowhere',
    code: 'image-exists',
    says: /p\.img: is a link to nowhere/,
    prepare: (w) => fs.symlinkSync(w.path('nowhere.img'), w.path('p.img')),
    args: (w) => ['join', w.path('vm.img'), w.path('p.img')],
  },
  {
    name: 'join to a proxy below a file',
    code: 'image-missing',
    says: /no such folder/,
    prepare: (w) => {
      w.image('file', 10);
    },
    args: (w) => ['join', w.path('vm.img'), w.path('file/p.img')],
  },
  {
    name: 'copy to a folder that does not exist',
    code: 'image-missing',
    says: /no such folder/,
    args: (w) => ['copy', w.path('vm.img'), w.path('nowhere/p.img')],
  },
  {
    name: 'create in a folder that does not exist',
    code: 'image-missing',
    says: /no such folder/,
    args: (w) => ['create', 'v', w.path('nowhere/p.img'), '-s', '1M'],
  },
  {
    name: 'create over a file',
    code: 'image-exists',
    says: /vm\.img: a file is there already/,
    args: (w) => ['create', 'v', w.path('vm.img'), '-s', '1M'],
  },
]);

// Container formats

type Format = { readonly name: string; readonly type: string; make(file: string): void };

function put(file: string, offset: number, text: string): void {
  const bytes = randomBytes(MIB, 9);
  bytes.fill(0, 0, 4096);
  bytes.write(text, offset, 'latin1');
  fs.writeFileSync(file, bytes);
}

const SIGNATURES: readonly Format[] = [
  { name: 'qcow2', type: 'qcow2', make: (file) => put(file, 0, 'QFI\xfb\0\0\0\x03') },
  { name: 'VMDK', type: 'vmdk', make: (file) => put(file, 0, 'KDMV\x01\0\0\0') },
  { name: 'VHDX', type: 'vhdx', make: (file) => put(file, 0, 'vhdxfile') },
  { name: 'VDI', type: 'vdi', make: (file) => put(file, 64, '\x7f\x10\xda\xbe') },
  { name: 'VHD', type: 'vpc', make: (file) => put(file, MIB - 512, 'conectix') },
];

/** Each as master; as proxy the first of them. */
function formatCases(formats: readonly Format[], how: string): Case[] {
  return formats.flatMap((format, i): Case[] => {
    const wanted = {
      code: 'image-format' as const,
      says: new RegExp(`x\\.disk: is a ${format.name} file, not a raw image`),
      hint: /qemu-img convert -O raw \S*x\.disk/,
    };
    const prepare = (w: World) => format.make(w.path('x.disk'));
    const cases: Case[] = [
      {
        ...wanted,
        prepare,
        name: `${how} ${format.name} as master`,
        args: (w) => ['join', w.path('x.disk'), w.path('p.img')],
      },
      {
        ...wanted,
        prepare,
        name: `${how} ${format.name} as proxy`,
        args: (w) => ['join', w.path('vm.img'), w.path('x.disk')],
      },
    ];
    return i === 0 ? cases : cases.slice(0, 1);
  });
}

run('container formats by their signatures', formatCases(SIGNATURES, 'made-up'));

if (spawnSync('qemu-img', ['--version']).status === 0) {
  const real = SIGNATURES.map(
    (format): Format => ({
      ...format,
      make: (file) => {
        const fixed = format.type === 'vpc' ? ['-o', 'subformat=fixed'] : [];
        const made = spawnSync('qemu-img', [
          'create',
          '-q',
          '-f',
          format.type,
          ...fixed,
          file,
          '4M',
        ]);
        assert.is(made.status, 0, String(made.stderr));
      },
    }),
  );
  run('container formats made by qemu-img', formatCases(real, 'real'));
} else {
  console.log('SKIP container formats made by qemu-img: it is not installed');
  test.skip('container formats made by qemu-img', () => {});
}

// Two that are one, or do not fit

run('master and proxy that cannot be a pair', [
  {
    name: 'the same path',
    code: 'same-file',
    says: /are the same file/,
    args: (w) => ['join', w.path('vm.img'), w.path('vm.img')],
  },
  {
    name: 'the same file by another spelling',
    code: 'same-file',
    says: /are the same file/,
    args: (w) => ['join', w.path('vm.img'), path.join(w.folder, 'home/../vm.img')],
    prepare: (w) => {
      fs.mkdirSync(w.home);
    },
  },
  {
    name: 'the same file by a symlink',
    code: 'same-file',
    says: /are the same file/,
    prepare: (w) => fs.symlinkSync('vm.img', w.path('link.img')),
    args: (w) => ['join', w.path('vm.img'), w.path('link.img')],
  },
  {
    name: 'the same file by a symlinked folder',
    code: 'same-file',
    says: /are the same file/,
    prepare: (w) => fs.symlinkSync('.', w.path('here')),
    args: (w) => ['join', w.path('vm.img'), w.path('here/vm.img')],
  },
  {
    name: 'the same file by a hard link',
    code: 'same-file',
    says: /are the same file/,
    prepare: (w) => fs.linkSync(w.path('vm.img'), w.path('hard.img')),
    args: (w) => ['join', w.path('vm.img'), w.path('hard.img')],
  },
  {
    name: 'a volume and a hard link to its image',
    code: 'same-file',
    says: /same (file|disk)/,
    prepare: async (w) => {
      fs.linkSync(w.path('vm.img'), w.path('hard.img'));
      await w.engine((disks) => disks.add([{ path: w.path('vm.img') }]));
    },
    args: (w) => ['join', 'vm', w.path('hard.img')],
  },
  {
    name: 'diff of a file with itself',
    code: 'same-file',
    says: /are the same file/,
    prepare: (w) => fs.linkSync(w.path('vm.img'), w.path('hard.img')),
    args: (w) => ['diff', w.path('vm.img'), w.path('hard.img')],
  },
  {
    name: 'copy onto itself',
    code: 'same-file',
    says: /are the same file/,
    prepare: (w) => fs.symlinkSync('vm.img', w.path('link.img')),
    args: (w) => ['copy', w.path('vm.img'), w.path('link.img')],
  },
  {
    name: 'a smaller proxy',
    code: 'size-differs',
    says: /p\.img: has 1048575 bytes, smaller than \S*vm\.img with 1048576/,
    prepare: (w) => {
      w.image('p.img', MIB - 1, 2);
    },
    args: (w) => ['join', w.path('vm.img'), w.path('p.img')],
  },
  {
    name: 'a larger proxy',
    code: 'size-differs',
    says: /p\.img: has 1048577 bytes, larger than/,
    prepare: (w) => {
      w.image('p.img', MIB + 1, 2);
    },
    args: (w) => ['join', w.path('vm.img'), w.path('p.img')],
  },
  {
    name: 'copy onto an image of another size',
    code: 'size-differs',
    says: /1048576 bytes/,
    prepare: (w) => {
      w.image('p.img', MIB + 1, 2);
    },
    args: (w) => ['copy', w.path('vm.img'), w.path('p.img')],
  },
  {
    name: 'add the same image twice in one command',
    code: 'same-file',
    says: /are the same file/,
    prepare: (w) => fs.linkSync(w.path('vm.img'), w.path('hard.img')),
    args: (w) => ['add', w.path('vm.img'), w.path('hard.img')],
  },
]);

// Images and names that are taken

async function taken(w: World): Promise<void> {
  await w.engine((disks) => disks.add([{ path: w.path('vm.img') }]), 'db');
}

run('an image that is in a class already', [
  {
    name: 'add to the same class',
    code: 'image-taken',
    says: /vm\.img: is volume vm of class db/,
    prepare: taken,
    args: (w) => ['add', '-c', 'db', w.path('vm.img')],
  },
  {
    name: 'add to another class',
    code: 'image-taken',
    says: /vm\.img: is volume vm of class db/,
    prepare: taken,
    args: (w) => ['add', '-c', 'other', w.path('vm.img')],
  },
  {
    name: 'add a hard link to another class',
    code: 'image-taken',
    says: /hard\.img: is volume vm of class db/,
    prepare: async (w) => {
      await taken(w);
      fs.linkSync(w.path('vm.img'), w.path('hard.img'));
    },
    args: (w) => ['add', '-c', 'other', w.path('hard.img')],
  },
  {
    name: 'join as proxy in another class',
    code: 'image-taken',
    says: /vm\.img: is volume vm of class db/,
    prepare: async (w) => {
      await taken(w);
      w.image('m.img', MIB, 3);
    },
    args: (w) => ['join', '-c', 'other', w.path('m.img'), w.path('vm.img')],
  },
  {
    name: 'join as master in another class',
    code: 'image-taken',
    says: /vm\.img: is volume vm of class db/,
    prepare: taken,
    args: (w) => ['join', '-c', 'other', w.path('vm.img'), w.path('p.img')],
  },
  {
    name: 'copy onto it',
    code: 'image-taken',
    says: /vm\.img.* is volume vm of class db/,
    prepare: async (w) => {
      await taken(w);
      w.image('m.img', MIB, 3);
    },
    args: (w) => ['copy', w.path('m.img'), w.path('vm.img')],
  },
  {
    name: 'create where a lost image of a class belongs',
    code: 'image-taken',
    says: /vm\.img.* is volume vm of class db/,
    prepare: async (w) => {
      await taken(w);
      fs.rmSync(w.path('vm.img'));
    },
    args: (w) => ['create', 'fresh', w.path('vm.img'), '-s', '1M'],
  },
  {
    name: 'copy to where a lost image of a class belongs',
    code: 'image-taken',
    says: /vm\.img.* is volume vm of class db/,
    prepare: async (w) => {
      await taken(w);
      w.image('m.img', MIB, 3);
      fs.rmSync(w.path('vm.img'));
    },
    args: (w) => ['copy', w.path('m.img'), w.path('vm.img')],
  },
]);

const LONG = 'n'.repeat(33);

run('names against the rules', [
  ...['-x', 'a b', 'ä', LONG, ''].map(
    (name): Case => ({
      name: `add with the name '${name}'`,
      code: 'bad-name',
      says: /volume name/,
      args: (w) => ['add', `${w.path('vm.img')}=${name}`],
    }),
  ),
  ...['../x', '..', LONG].map(
    (name): Case => ({
      name: `class '${name}'`,
      code: 'bad-name',
      says: /class name/,
      args: (w) => ['add', '-c', name, w.path('vm.img')],
    }),
  ),
  {
    name: 'create',
    code: 'bad-name',
    says: /volume name '_v' must begin with a letter or a digit/,
    args: (w) => ['create', '_v', w.path('new.img'), '-s', '1M'],
  },
  {
    name: 'a name that is taken',
    code: 'not-permitted',
    says: /the name is taken in class default/,
    prepare: async (w) => {
      w.image('b.img', MIB, 2);
      await w.engine((disks) => disks.add([{ path: w.path('vm.img') }]));
    },
    args: (w) => ['add', `${w.path('b.img')}=vm`],
  },
]);

run('objects that do not exist, with the nearest name', [
  {
    name: 'a volume',
    code: 'no-such-object',
    says: /no volume '?vm-prxy'?/,
    hint: /did you mean '?vm-proxy'?\?/,
    prepare: async (w) => {
      await w.engine((disks) => disks.join(w.path('vm.img'), w.path('vm.proxy.img')));
    },
    args: () => ['part', 'vm-prxy'],
  },
  {
    name: 'a volume, for info',
    code: 'no-such-object',
    says: /no volume '?vm-prxy'?/,
    hint: /did you mean '?vm-proxy'?\?/,
    prepare: async (w) => {
      await w.engine((disks) => disks.join(w.path('vm.img'), w.path('vm.proxy.img')));
    },
    args: () => ['info', 'vm-prxy'],
  },
  {
    name: 'a class',
    code: 'no-such-object',
    says: /no class '?dbb'?/,
    hint: /'?db'?/,
    prepare: taken,
    args: () => ['info', '-c', 'dbb'],
  },
  {
    name: 'a class, for a verb',
    code: 'no-such-object',
    says: /no class '?dbb'?/,
    hint: /'?db'?/,
    prepare: taken,
    args: () => ['part', '-c', 'dbb', 'vm'],
  },
  { name: 'no class at all', code: 'no-such-object', says: /no class/, args: () => ['part', 'vm'] },
  {
    name: 'an image that is in no class',
    code: 'no-such-object',
    says: /b\.img/,
    hint: /kage add/,
    prepare: async (w) => {
      w.image('b.img', MIB, 2);
      await w.engine((disks) => disks.add([{ path: w.path('vm.img') }]));
    },
    args: (w) => ['part', w.path('b.img')],
  },
  {
    name: 'a path of nothing',
    code: 'image-missing',
    says: /b\.img: no such file/,
    prepare: async (w) => {
      await w.engine((disks) => disks.add([{ path: w.path('vm.img') }]));
    },
    args: (w) => ['part', w.path('b.img')],
  },
]);

run('a state folder that cannot be one', [
  {
    name: 'a file',
    code: 'io-error',
    says: /home/,
    prepare: (w) => {
      fs.writeFileSync(w.home, 'x');
    },
    args: (w) => ['add', w.path('vm.img')],
  },
]);

// Permissions: root may do everything, so another user runs these

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', ...NODE];
const canDrop = isRoot && spawnSync(NOBODY[0], [...NOBODY.slice(1, 4), 'true']).status === 0;

type Rights = Refusal & {
  readonly name: string;
  readonly prepare: (w: World) => void;
  readonly args: (w: World) => readonly string[];
};

const RIGHTS: readonly Rights[] = [
  {
    name: 'an unreadable master',
    code: 'image-unreadable',
    says: /vm\.img: no permission to read it/,
    prepare: (w) => fs.chmodSync(w.path('vm.img'), 0),
    args: (w) => ['join', w.path('vm.img'), w.path('p.img')],
  },
  {
    name: 'an image in a folder that may not be entered',
    code: 'image-unreadable',
    says: /no permission/,
    prepare: (w) => {
      fs.mkdirSync(w.path('shut'));
      w.image('shut/x.img', MIB);
      fs.chmodSync(w.path('shut'), 0);
    },
    args: (w) => ['join', w.path('shut/x.img'), w.path('p.img')],
  },
  {
    name: 'a read-only proxy image',
    code: 'image-readonly',
    says: /p\.img: no permission to write it/,
    prepare: (w) => {
      w.image('p.img', MIB, 2);
      fs.chmodSync(w.path('p.img'), 0o444);
    },
    args: (w) => ['join', w.path('vm.img'), w.path('p.img')],
  },
  {
    name: 'a proxy to be made in a read-only folder',
    code: 'image-readonly',
    says: /ro: no permission to make a file in it/,
    prepare: (w) => {
      fs.mkdirSync(w.path('ro'));
      fs.chmodSync(w.path('ro'), 0o555);
    },
    args: (w) => ['join', w.path('vm.img'), w.path('ro/p.img')],
  },
  {
    name: 'copy onto a read-only image',
    code: 'image-readonly',
    says: /p\.img: no permission to write it/,
    prepare: (w) => {
      w.image('p.img', MIB, 2);
      fs.chmodSync(w.path('p.img'), 0o444);
    },
    args: (w) => ['copy', w.path('vm.img'), w.path('p.img')],
  },
  {
    name: 'a state folder that may not be written',
    code: 'io-error',
    says: /home.*(EACCES|permission)/,
    prepare: (w) => {
      fs.mkdirSync(w.home);
      fs.chmodSync(w.home, 0o555);
    },
    args: (w) => ['join', w.path('vm.img'), w.path('p.img')],
  },
];

/** Gives everything in the world to the other user, folders opened. */
function giveAway(w: World): void {
  for (const name of ['.', ...fs.readdirSync(w.folder)]) fs.chownSync(w.path(name), 65534, 65534);
}

if (canDrop) {
  test('images without the right to read or write them', () =>
    each(
      RIGHTS,
      (c) => c.name,
      (c) =>
        inWorld(async (w) => {
          w.image('vm.img', MIB, 1);
          c.prepare(w);
          giveAway(w);
          await expectRefusal(w, c.args(w), c, { runtime: NOBODY });
        }),
    ));

  test('a read-only master can be joined, but not restored', () =>
    inWorld(async (w) => {
      const user = { runtime: NOBODY };
      w.image('vm.img', MIB, 1);
      fs.chmodSync(w.path('vm.img'), 0o444);
      giveAway(w);
      await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')], user);
      await w.ok(['part', 'vm-proxy'], user);
      await w.ok(['write', 'vm-proxy'], { ...user, input: 'changed' });
      const before = w.photograph();
      expectText(await w.run(['restore', 'vm-proxy', '-q'], user), {
        code: 'image-readonly',
        says: /vm\.img: no permission to write it/,
      });
      samePhotos(before, w.photograph());
    }));

  test('an image in a folder that was shut is a problem of its own disk only', () =>
    inWorld(async (w) => {
      const user = { runtime: NOBODY };
      w.image('vm.img', MIB, 1);
      fs.mkdirSync(w.path('shut'));
      w.image('shut/x.img', MIB, 2);
      giveAway(w);
      await w.ok(['add', w.path('vm.img'), w.path('shut/x.img')], user);
      fs.chmodSync(w.path('shut'), 0);
      await w.ok(['join', w.path('vm.img'), w.path('p.img')], user);
      const { disks } = await w.ok(['info'], user);
      assert.equal(
        disks.map((d: { status: string }) => d.status),
        ['ENABLE', 'DISABLE', 'ENABLE'],
      );
      fs.chmodSync(w.path('shut'), 0o700);
    }));
} else {
  console.log('SKIP images without the right to read or write them: needs root and setpriv');
  test.skip('images without the right to read or write them', () => {});
}

test.run();
