/**
 * Volumes as device files of a real server: when they are there, who may not take them away, and what is
 * left after each kind of end.
 */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run, tell } from '../interop/support.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { exists, NODE, type Runtime, until, type World } from '../support/world.ts';
import { mounting, mountsIn, unmountAtEnd } from './devices-support.ts';
import { NbdClient, type Server, serve } from './serve-support.ts';

const test = suite('devices');
const check = mounting(test, 'devices');
const MIB = 1024 * 1024;
const SIZE = 8 * MIB;

/** A server of `vm` and its parted proxy, with devices in `dev`. */
async function devices(w: World, runtime: Runtime = NODE): Promise<Server> {
  unmountAtEnd(w);
  w.image('vm.img', SIZE);
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  await w.ok(['part', 'vm-proxy']);
  return await serve(w, ['--devices', w.path('dev')], runtime);
}

const deviceOf = (w: World, name: string) => w.path('dev', 'default', 'dsk', name);

/** The same as `stop`, after refusals: they are in the log. */
async function end(server: Server): Promise<void> {
  server.process.child.kill('SIGTERM');
  const { status, stderr } = await server.process.ended;
  assert.is(status, 0, stderr);
  assert.not.match(stderr, /internal/);
}

async function refused(w: World, args: readonly string[], what: RegExp, status = 13) {
  const ended = await w.run(args);
  assert.is(ended.status, status, `${args.join(' ')}: ${ended.stdout}${ended.stderr}`);
  assert.match(ended.stderr, what);
}

for (const { name, command } of RUNTIMES) {
  check([], `a volume is a file for as long as it is started: ${name}`, async (w) => {
    const server = await devices(w, command);
    const vm = deviceOf(w, 'vm');
    assert.is(w.hash('dev/default/dsk/vm'), w.hash('vm.img'), 'before the server is ready');
    assert.is(w.hash('dev/default/rdsk/vm'), w.hash('vm.img'));
    assert.is(fs.statSync(vm).mode & 0o777, 0o600);
    await run('dd', `if=${w.image('new', MIB, 7)}`, `of=${vm}`, 'bs=64k', 'conv=notrunc,fsync');
    assert.ok(w.read('vm.img').subarray(0, MIB).equals(w.read('new')), 'it was written');

    await w.ok(['stop', 'vm']);
    assert.not.ok(exists(vm) || fs.readdirSync(w.path('dev/default/dsk')).includes('vm'));
    await w.ok(['start', 'vm']);
    assert.ok(exists(vm), 'before the command answers');
    const { method, regions } = (await w.ok(['rejoin', 'vm-proxy'])).pairs[0].copy;
    assert.equal([method, regions], ['differential', 16], 'and tracked');
    assert.not.ok(exists(deviceOf(w, 'vm-proxy')), 'a joined proxy has none');
    await w.ok(['part', 'vm-proxy']);
    assert.is(w.hash('dev/default/dsk/vm-proxy'), w.hash('vm.img'));
    await w.ok(['create', 'more', '-s', '64K', w.path('more.img'), '-c', 'db']);
    assert.is(fs.statSync(w.path('dev/db/dsk/more')).size, 65_536, 'of a class that is new');
    await w.ok(['remove', 'more', '-c', 'db']);
    assert.not.ok(exists(w.path('dev/db')));
    await server.stop();
    assert.not.ok(exists(w.path('dev')), 'the folder had been made');
    assert.equal(mountsIn(w.folder), []);
  });
}

check([], 'a device that is open is in use, one that is mounted only is not', async (w) => {
  const server = await devices(w);
  const [vm, proxy] = [deviceOf(w, 'vm'), deviceOf(w, 'vm-proxy')];
  const open = fs.openSync(proxy, 'r+');
  const inUse = /vm-proxy: is in use: .* has it open\n {2}unmount or close .*dsk\/vm-proxy first/;
  for (const verb of ['rejoin', 'update', 'restore', 'stop'])
    await refused(w, [verb, 'vm-proxy'], inUse);
  fs.writeSync(open, Buffer.from('still there'), 0, 11, 0);
  fs.closeSync(open);
  await w.ok(['rejoin', 'vm-proxy', '--dry-run']);
  assert.is(w.read('dev/default/dsk/vm-proxy').subarray(0, 11).toString(), 'still there');
  await w.ok(['restore', 'vm-proxy']);
  assert.ok(exists(vm), `before the command answers: ${server.process.stderr}`);
  assert.is(w.read('dev/default/dsk/vm').subarray(0, 11).toString(), 'still there', 'back again');

  await w.ok(['part', 'vm-proxy']);
  const master = fs.openSync(vm, 'r');
  await refused(w, ['restore', 'vm-proxy', '--keep'], /vm: is in use/);
  assert.ok(exists(proxy), 'taken back by a verb that failed');
  await w.ok(['restore', 'vm-proxy', '--live']);
  fs.closeSync(master);
  await w.ok(['start', 'vm', '--read-only']);
  assert.throws(() => fs.openSync(vm, 'r+'), /EACCES|EROFS/);
  await w.ok(['start', 'vm']);
  fs.closeSync(fs.openSync(vm, 'r+'));
  await refused(w, ['add', vm], /is a device of this server, and no image/, 12);
  await end(server);
});

check(
  ['mkfs.ext3', 'fsck.ext3', 'fsfreeze', 'fstrim'],
  'a mounted file system keeps its volume',
  async (w) => {
    const server = await devices(w);
    const vm = deviceOf(w, 'vm');
    const data = w.path('DATA');
    fs.mkdirSync(data);
    await run('mkfs.ext3', '-q', vm);
    await run('mount', '-t', 'ext3', vm, data);
    fs.writeFileSync(`${data}/file`, 'of the service');
    await refused(w, ['stop', 'vm'], /vm: is in use: it is mounted on .*\/DATA\n/);
    const sdx = ['sdxvolume', '-F', '-c', 'default', '-v', 'vm'];
    await refused(
      w,
      [...sdx, '-e', 'allnodes'],
      /ERROR: vm: .*in use: it is mounted on .*\/DATA\n/,
    );
    assert.is(fs.readFileSync(`${data}/file`, 'utf8'), 'of the service');
    fs.writeFileSync(`${data}/zeros`, Buffer.alloc(4 * MIB));
    fs.rmSync(`${data}/zeros`);
    await run('fstrim', data);
    await w.ok(['rejoin', 'vm-proxy']);
    fs.writeFileSync(`${data}/late`, 'still in memory');
    await run('fsfreeze', '-f', data);
    const parted = await w.run(['part', 'vm-proxy']);
    await run('fsfreeze', '-u', data);
    assert.is(parted.status, 0, parted.stderr);
    await run('umount', data);
    await run('fsck', '-t', 'ext3', '-fn', deviceOf(w, 'vm-proxy'));
    await run('mount', '-t', 'ext3', deviceOf(w, 'vm-proxy'), data);
    assert.is(fs.readFileSync(`${data}/late`, 'utf8'), 'still in memory');
    await run('umount', data);
    assert.is((await w.ok(['verify', 'vm-proxy'])).pairs[0].unexpected, 0);
    await end(server);
  },
);

check(['mkfs.ext3', 'nbdsh'], 'by force a volume is taken from all who use it', async (w) => {
  const server = await devices(w);
  const proxy = deviceOf(w, 'vm-proxy');
  const data = w.path('DATA');
  fs.mkdirSync(data);
  await run('mkfs.ext3', '-q', proxy);
  await run('mount', '-t', 'ext3', proxy, data);
  const client = new NbdClient(w, server.uri('default/vm-proxy'));
  await client.fill('f', SIZE - 4096, 4096);
  await refused(w, ['stop', 'vm-proxy'], /in use/);
  const sdx = ['sdxvolume', '-F', '-c', 'default', '-v', 'vm-proxy'];
  assert.is((await w.run([...sdx, '--force'])).status, 0);
  assert.not.match(await client.ask('h.pread(512, 0)'), /b'/);
  assert.not.ok(exists(proxy));
  assert.throws(() => fs.writeFileSync(`${data}/file`, 'x', { flush: true }), /EIO|EROFS|ENOTCONN/);
  assert.is(
    w.read('vm.proxy.img').subarray(-4096).toString(),
    'f'.repeat(4096),
    'as it was flushed',
  );
  await w.ok(['rejoin', 'vm-proxy']);
  await run('umount', data);
  await w.ok(['part', 'vm-proxy']);
  assert.is(w.hash('dev/default/dsk/vm-proxy'), w.hash('vm.img'));
  await end(server);
});

check(['nbdkit'], 'a volume that becomes INVALID loses its device, also in use', async (w) => {
  unmountAtEnd(w);
  w.image('vm.img', SIZE);
  w.image('far.img', SIZE);
  const socket = w.path('far.sock');
  const broken = w.path('broken');
  const far = ['-f', '-U', socket, '--filter=error', 'file', w.path('far.img'), 'error=EIO'];
  const rate = ['error-pwrite-rate=100%', `error-file=${broken}`];
  const remote = spawnInBackground(w, 'nbdkit', [...far, ...rate]);
  await until('nbdkit listens', () => exists(socket) || remote.exitCode !== null);
  await w.ok(['add', w.path('vm.img')]);
  const server = await serve(w, ['--devices', w.path('dev')]);
  const slowly = ['--no-wait', '--delay', '1000', '--rate', '64K'];
  await w.ok(['join', 'vm', `nbd+unix:///?socket=${socket}`, ...slowly]);
  const proxy = (await w.info()).pairs[0].proxy;
  await w.ok(['part', proxy, '--instant']);
  const open = fs.openSync(deviceOf(w, proxy), 'r');
  fs.readSync(open, Buffer.alloc(4096), 0, 4096, 0);
  fs.writeFileSync(broken, '');
  // What was there cannot be kept: the snapshot is lost, and the master goes on.
  const vm = fs.openSync(deviceOf(w, 'vm'), 'r+');
  fs.writeSync(vm, Buffer.alloc(4096, 2), 0, 4096, SIZE - 4096);
  fs.closeSync(vm);
  await until('the device is gone', () => !exists(deviceOf(w, proxy)));
  assert.throws(() => fs.readSync(open, Buffer.alloc(4096), 0, 4096, SIZE / 2));
  try {
    fs.closeSync(open);
  } catch {
    // It is closed all the same.
  }
  assert.is((await w.info()).volumes.find((v) => v.name === proxy)?.status, 'INVALID');
  assert.ok(exists(deviceOf(w, 'vm')));
  await end(server);
});

function spawnInBackground(w: World, command: string, args: readonly string[]) {
  const child = spawn(command, args, { stdio: 'ignore' });
  w.atEnd(() => child.kill('SIGKILL'));
  return child;
}

check(
  ['mkfs.ext3'],
  'after kill -9 the devices of the dead server go, and nothing else',
  async (w) => {
    const server = await devices(w);
    const data = w.path('DATA');
    fs.mkdirSync(data);
    await run('mkfs.ext3', '-q', deviceOf(w, 'vm'));
    await run('mount', '-t', 'ext3', deviceOf(w, 'vm'), data);
    const foreign = w.path('dev', 'default', 'foreign');
    fs.mkdirSync(foreign);
    await run('mount', '-t', 'tmpfs', 'foreign', foreign);
    await server.kill();
    const again = await serve(w, ['--devices', w.path('dev')]);
    const sources = mountsIn(w.path('dev')).map(({ source }) => source);
    assert.equal(sources.sort(), ['foreign', 'kagemusha', 'kagemusha']);
    await tell('umount', data);
    await run('fsck', '-t', 'ext3', '-fy', deviceOf(w, 'vm')).catch(() => {});
    await run('mount', '-t', 'ext3', deviceOf(w, 'vm'), data);
    await run('umount', data);
    assert.is(w.hash('dev/default/dsk/vm'), w.hash('vm.img'));
    await again.stop();
    assert.equal(
      mountsIn(w.path('dev')).map(({ source }) => source),
      ['foreign'],
    );
    assert.equal(fs.readdirSync(w.path('dev', 'default')), ['foreign']);
  },
);

check([], 'a path that is taken is left as it is; the volume goes without', async (w) => {
  unmountAtEnd(w);
  w.image('vm.img', SIZE);
  await w.ok(['add', w.path('vm.img')]);
  fs.mkdirSync(w.path('dev/default/dsk'), { recursive: true });
  fs.writeFileSync(deviceOf(w, 'vm'), 'precious');
  const server = await serve(w, ['--devices', w.path('dev')]);
  assert.match(
    server.process.stderr,
    /FAILED: vm: has no device: .*dsk\/vm: something is in the way/,
  );
  assert.equal(mountsIn(w.folder), []);
  await end(server);
  assert.is(fs.readFileSync(deviceOf(w, 'vm'), 'utf8'), 'precious');
});

check([], 'where there can be no devices nobody is served', async (w) => {
  const server = await devices(w);
  const other = { env: { KAGE_HOME: w.path('home2') } };
  const second = await w.run(['serve', '--devices', w.path('dev')], other);
  assert.is(second.status, 11, second.stderr);
  assert.match(second.stderr, /another server listens there/);
  assert.ok(exists(deviceOf(w, 'vm')), 'the first one goes on');
  await server.stop();
  fs.writeFileSync(w.path('file'), '');
  fs.mkdirSync(w.path('dev/.kage/x'), { recursive: true });
  await run('mount', '-t', 'tmpfs', 'foreign', w.path('dev/.kage/x'));
  const rows: readonly (readonly [dir: string, what: RegExp, env?: object])[] = [
    [w.path('file'), /file: cannot be a folder of devices: EEXIST/],
    [w.path('dev'), /dev\/\.kage\/x: something else is mounted there/],
    [w.path('dev2'), /nbdfuse cannot be started: ENOENT\n {2}devices need nbdfuse/, { PATH: '/-' }],
  ];
  for (const [dir, what, env = {}] of rows) {
    const ended = await w.run(['serve', '--devices', dir], { env: { ...other.env, ...env } });
    assert.equal([ended.status, ended.stdout], [12, ''], ended.stderr);
    assert.match(ended.stderr, what);
    assert.not.ok(exists(w.path('home2/control.sock')) || exists(w.path('home2/nbd.sock')));
  }
  assert.is(mountsIn(w.folder).length, 1, 'the foreign one');
});

check(['mkfs.ext3'], 'a command gets device files, too', async (w) => {
  unmountAtEnd(w);
  w.image('vm.img', SIZE);
  await w.ok(['add', w.path('vm.img')]);
  const text = 'mkfs.ext3 -q "$KAGE_DEVICE_VM" && echo "$KAGE_DEVICE"';
  const args = ['run', 'vm', '--devices', w.path('dev'), '--', 'sh', '-c', text];
  const ended = await w.run(args);
  assert.equal([ended.status, ended.stdout], [0, `${deviceOf(w, 'vm')}\n`], ended.stderr);
  await run('fsck.ext3', '-fn', w.path('vm.img'));
  assert.not.ok(exists(w.path('dev')));
});

test.run();
