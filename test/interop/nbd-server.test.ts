/** The NBD server with the clients people have: libnbd, QEMU, nbdkit, fio, nbd-client; on every runtime. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { until } from '../support/world.ts';
import {
  cases,
  type Disk,
  MIB,
  onEach,
  PATTERNS,
  qemuIo,
  RUNTIMES,
  run,
  serveDisk,
  type Told,
  tell,
} from './support.ts';

const test = suite('interop: the NBD server');
const check = cases(test, 'interop: the NBD server');
const DENO_AND_BUN = RUNTIMES.slice(1).map(({ command }) => command[0]);
/** No multiple of a sector. */
const ODD = 5 * MIB + 77;

check(['nbdinfo'], 'nbdinfo sees all of an export', async (w) => {
  const disk = await serveDisk(w, { size: 16 * MIB });
  const { exports } = JSON.parse(await run('nbdinfo', '--json', disk.uri));
  const { uri, content, ...told } = exports[0];
  assert.equal(told, {
    'export-name': 'disk',
    description: 'a test disk',
    contexts: ['base:allocation'],
    is_rotational: false,
    is_read_only: false,
    can_cache: true,
    can_df: true,
    can_fast_zero: false,
    can_flush: true,
    can_fua: true,
    can_multi_conn: true,
    can_trim: true,
    can_zero: true,
    block_size_minimum: 1,
    block_size_preferred: 4096,
    block_size_maximum: 32 * MIB,
    'export-size': 16 * MIB,
    'export-size-str': '16M',
  });
  assert.ok(uri !== '' && content !== '');
  assert.is((await run('nbdinfo', '--size', disk.uri)).trim(), `${16 * MIB}`);
  assert.match(await run('nbdinfo', '--list', `nbd+unix:///?socket=${disk.socket}`), /"disk"/);
  await run('nbdinfo', '--can', 'multi-conn', disk.uri);
  await run('nbdinfo', '--can', 'flush', disk.uri);
  assert.is((await tell('nbdinfo', '--is', 'read-only', disk.uri)).status, 2);
  assert.match(await run('nbdinfo', '--map', disk.uri), /^\s*0\s+16777216\s+0\s+data\s*$/);
  const wrong = await tell('nbdinfo', `nbd+unix:///nothing?socket=${disk.socket}`);
  assert.match(wrong.all, /No such file or directory for export/);
  await disk.stop();
});

check(['qemu-nbd', 'nbd-client', 'qemu-img'], 'others list and look', async (w) => {
  const disk = await serveDisk(w, { size: 16 * MIB });
  const list = await run('qemu-nbd', '--list', '-k', disk.socket);
  assert.match(list, /flags: 0x5ed \( flush fua trim zeroes df multi cache \)/);
  assert.match(list, /base:allocation/);
  assert.match((await tell('nbd-client', '-l', '-unix', disk.socket)).all, /^disk: a test disk$/m);
  assert.match(await run('qemu-img', 'info', disk.uri), /16777216 bytes/);
  const [extent] = JSON.parse(await run('qemu-img', 'map', '--output=json', disk.uri));
  assert.equal([extent.start, extent.length, extent.data], [0, 16 * MIB, true]);
  await disk.stop();
});

check(
  ['nbdcopy', 'qemu-img', 'nbdkit'],
  'images go in and out whole, by several connections at once',
  async (w) => {
    const image = w.image('in.raw', 24 * MIB, 5);
    // Runs of zeros become WRITE_ZEROES.
    w.scribble('in.raw', 3 * MIB + 5, Buffer.alloc(9 * MIB));
    for (const later of [false, true]) {
      const disk = await serveDisk(w, { file: w.image('disk.raw', 24 * MIB, 6), later });
      await run('nbdcopy', '--flush', image, disk.uri);
      assert.is(w.hash('disk.raw'), w.hash('in.raw'));
      await run('nbdcopy', disk.uri, w.path('out.raw'));
      assert.is(w.hash('out.raw'), w.hash('in.raw'));
      w.image('disk.raw', 24 * MIB, 7);
      await run('qemu-img', 'convert', '-n', '-W', '-f', 'raw', '-O', 'raw', image, disk.uri);
      await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, disk.uri);
      const checked = ['nbdkit', '-U', '-', '--filter=checkwrite', 'nbd', `uri=${disk.uri}`];
      await run(...checked, '--run', `nbdcopy ${image} "$uri"`);
      w.scribble('disk.raw', 12_345_678, 'x');
      assert.is((await tell(...checked, '--run', `nbdcopy ${image} "$uri"`)).status !== 0, true);
      await disk.stop();
    }
  },
);

check(['nbdcopy', 'nbdinfo'], 'a size that is no multiple of anything', async (w) => {
  const image = w.image('in.raw', ODD, 8);
  const disk = await serveDisk(w, { file: w.image('disk.raw', ODD, 9) });
  assert.is((await run('nbdinfo', '--size', disk.uri)).trim(), `${ODD}`);
  await run('nbdcopy', '--flush', image, disk.uri);
  assert.is(w.hash('disk.raw'), w.hash('in.raw'));
  await run('nbdcopy', disk.uri, w.path('out.raw'));
  assert.is(w.hash('out.raw'), w.hash('in.raw'));
  await disk.stop();
});

check(['qemu-io'], 'qemu-io finds its patterns, with and without FUA', async (w) => {
  const disk = await serveDisk(w, { file: w.image('disk.raw', 8 * MIB, 1) });
  await qemuIo(['-t', 'writeback', '-f', 'raw', disk.uri], PATTERNS);
  await qemuIo(['-t', 'writethrough', '-f', 'raw', disk.uri], PATTERNS);
  await disk.stop();
});

check(['qemu-io'], 'blkverify finds no difference to a plain file', async (w) => {
  w.image('disk.raw', 8 * MIB, 1);
  w.image('ref.raw', 8 * MIB, 1);
  const disk = await serveDisk(w, { file: w.path('disk.raw') });
  const both = `driver=blkverify,raw.driver=file,raw.filename=${w.path('ref.raw')},test.driver=nbd,test.export=disk,test.server.type=unix,test.server.path=${disk.socket}`;
  await qemuIo(
    ['--image-opts', both],
    [
      'read 0 8M',
      'write -P 7 64k 1M',
      'discard 128k 64k',
      'read 0 2M',
      'write -P 9 5M 3M',
      'flush',
      'read 1M 7M',
    ],
  );
  await disk.stop();
});

check(['fio'], 'fio verifies random writes, and trims', async (w) => {
  for (const later of [false, true]) {
    const disk = await serveDisk(w, { size: 16 * MIB, later });
    const job = ['fio', '--ioengine=nbd', `--uri=${disk.uri}`, '--size=16m', '--thread'];
    const verify = ['--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0', '--fsync=16'];
    await run(...job, '--name=v', '--rw=randwrite', '--bs=4k', '--iodepth=16', ...verify);
    await run(...job, '--name=t', '--rw=randtrim', '--bs=64k', '--iodepth=4');
    await run(...job, '--name=b', '--rw=randrw', '--bsrange=512-512k', '--iodepth=32');
    await disk.stop();
  }
});

/** Negative requests by nbdsh, each with the error that libnbd must report. */
const REFUSALS: readonly [string, string | undefined][] = [
  ['h.pwrite(b"x"*512, h.get_size())', 'No space left'],
  ['h.pwrite(b"x"*512, h.get_size()-511)', 'No space left'],
  ['h.zero(512, h.get_size())', 'No space left'],
  ['h.pread(512, h.get_size()-511)', 'Invalid argument'],
  ['h.trim(512, h.get_size())', 'Invalid argument'],
  ['h.cache(512, h.get_size())', 'Invalid argument'],
  ['h.pread(512, 2**63)', 'Invalid argument'],
  ['h.pread(33*1024*1024, 0)', 'Invalid argument'],
  ['h.pwrite(bytearray(33*1024*1024), 0)', 'Invalid argument'],
  ['h.pread(0, 0)', undefined],
  ['h.pwrite(b"", 0)', undefined],
  ['h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO)', 'Invalid argument'],
  ['h.pread(512, 0, nbd.CMD_FLAG_FUA)', undefined],
  ['h.pread(512, 0, nbd.CMD_FLAG_DF)', undefined],
  ['h.flush(nbd.CMD_FLAG_FUA)', undefined],
  ['h.pwrite(b"x"*512, 0, nbd.CMD_FLAG_NO_HOLE)', 'Invalid argument'],
  ['h.zero(512, 0, nbd.CMD_FLAG_NO_HOLE)', undefined],
  ['h.trim(4*1024*1024*1024-4096, 0)', 'Invalid argument'],
  ['h.block_status(512, 0, lambda *a: 0)', undefined],
  ['h.block_status(0, 0, lambda *a: 0)', 'Invalid argument'],
];

/** What nbdsh says to each of the requests on one connection: '' or the error. */
async function nbdsh(disk: Disk, requests: readonly string[], contexts = true): Promise<string[]> {
  const script = [
    'import nbd',
    'h.set_strict_mode(0)',
    ...(contexts ? ['h.add_meta_context("base:allocation")'] : []),
    `h.connect_uri("${disk.uri}")`,
    'def attempt(work):',
    '    try:',
    '        work()',
    '        print("-")',
    '    except nbd.Error as error:',
    '        print(error.string)',
    ...requests.map((text) => `attempt(lambda: ${text})`),
    'h.shutdown()',
  ];
  const told = await run('nbdsh', '-c', script.join('\n'));
  return told.trim().split('\n');
}

check(
  ['nbdsh'],
  'nbdsh gets the error the protocol wants, and the connection goes on',
  async (w) => {
    const disk = await serveDisk(w, { size: 40 * MIB });
    const told = await nbdsh(
      disk,
      REFUSALS.map(([text]) => text),
    );
    for (const [i, [text, error]] of REFUSALS.entries()) {
      assert.ok(
        error === undefined ? told[i] === '-' : told[i].includes(error),
        `${text}: ${told[i]}`,
      );
    }
    const [none] = await nbdsh(disk, ['h.block_status(512, 0, lambda *a: 0)'], false);
    assert.match(none, /Invalid argument|not negotiated/i);
    await disk.stop();
  },
);

check(['nbdsh', 'nbdinfo'], 'a read-only export is read, not written', async (w) => {
  const disk = await serveDisk(w, { file: w.image('disk.raw', MIB, 3), readOnly: true });
  const before = w.hash('disk.raw');
  await run('nbdinfo', '--is', 'read-only', disk.uri);
  const told = await nbdsh(disk, [
    'h.pwrite(b"x"*512, 0)',
    'h.trim(512, 0)',
    'h.zero(512, 0)',
    'h.pread(512, 0)',
    'h.flush()',
  ]);
  for (const line of told.slice(0, 3)) assert.match(line, /Operation not permitted/);
  assert.equal(told.slice(3), ['-', '-']);
  assert.is(w.hash('disk.raw'), before);
  await disk.stop();
});

check(['nbdfuse', 'mkfs.ext4', 'e2fsck'], 'a file system by way of nbdfuse', async (w) => {
  const disk = await serveDisk(w, { size: 64 * MIB });
  const mounted = w.path('fuse');
  fs.mkdirSync(mounted);
  let told: Told | undefined;
  void tell('nbdfuse', `${mounted}/disk`, disk.uri).then((end) => {
    told = end;
  });
  w.atEnd(() => spawnSync('umount', ['-l', mounted]));
  await until('it is mounted', () => told !== undefined || fs.existsSync(`${mounted}/disk`));
  if (told?.status) {
    console.log(`SKIP interop: the NBD server: a file system: no FUSE here: ${told.all.trim()}`);
    return;
  }
  await run('mkfs.ext4', '-q', '-F', '-d', '/usr/share/zoneinfo', `${mounted}/disk`);
  await run('e2fsck', '-fn', `${mounted}/disk`);
  await run('umount', mounted);
  await until('nbdfuse has ended', () => told !== undefined);
  await run('nbdcopy', disk.uri, w.path('out.raw'));
  await run('e2fsck', '-fn', w.path('out.raw'));
  await disk.stop();
});

check(
  ['nbdinfo', 'nbdcopy', 'qemu-io', 'nbdsh', ...DENO_AND_BUN],
  'the basics on every runtime, done at once and later, by socket and by TCP',
  async (w) => {
    const image = w.image('in.raw', 12 * MIB, 4);
    await onEach(async (runtime) => {
      for (const [later, host] of [
        [false, '127.0.0.1'],
        [true, '::1'],
      ] as const) {
        const file = w.image('disk.raw', 12 * MIB, 5);
        const disk = await serveDisk(w, { file, later }, runtime, host);
        assert.is(fs.statSync(disk.socket).mode & 0o777, 0o600);
        await run('nbdcopy', '--flush', image, disk.uri);
        assert.is(w.hash('disk.raw'), w.hash('in.raw'));
        await run('nbdcopy', disk.uri, w.path('out.raw'));
        assert.is(w.hash('out.raw'), w.hash('in.raw'));
        await qemuIo(['-t', 'writeback', '-f', 'raw', disk.uri], PATTERNS);
        const told = await nbdsh(disk, ['h.pread(512, h.get_size())', 'h.pread(512, 0)']);
        assert.match(told[0], /Invalid argument/);
        assert.is(told[1], '-');
        const tcp = `nbd://${host.includes(':') ? `[${host}]` : host}:${disk.port}/disk`;
        assert.is((await run('nbdinfo', '--size', tcp)).trim(), `${12 * MIB}`);
        await run('nbdcopy', '--flush', image, tcp);
        assert.is(w.hash('disk.raw'), w.hash('in.raw'));
        await disk.stop();
        assert.not.ok(fs.existsSync(disk.socket));
      }
    });
  },
);

test.run();
