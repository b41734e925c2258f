/**
 * A file system on a volume of `kage serve`, by way of FUSE and a loop device as root would use it:
 * made, mounted, filled, trimmed and checked; the snapshot of it is mounted from the proxy's image.
 */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Server, serve } from '../e2e/serve-support.ts';
import { hashOf, randomBytes, until, type World } from '../support/world.ts';
import { type Case, cases, leaveOut, MIB, run, tell } from './support.ts';
import { storageDaemon } from './support-qmp.ts';

const test = suite('interop: kage serve, file systems');
const AREA = 'interop: kage serve, file systems';
const SIZE = 96 * MIB;
const TOOLS = ['losetup', 'mkfs.ext4', 'e2fsck', 'mount', 'umount', 'fstrim'];

/** Why loop devices and FUSE cannot be had here; undefined: they can. */
function lacking(): string | undefined {
  if (process.getuid?.() !== 0) return 'root';
  if (!fs.existsSync('/dev/fuse')) return '/dev/fuse';
  return spawnSync('losetup', ['-f']).status === 0 ? undefined : 'a loop device';
}

const lack = lacking();
const check: Case =
  lack === undefined
    ? cases(test, AREA)
    : (_tools, name) => leaveOut(test, `${AREA}: ${name}`, name, `needs ${lack}`);

/** The joined pair `vm` and `vm-proxy`, empty, and a server. */
async function joined(w: World): Promise<Server> {
  await w.ok(['create', 'vm', '--size', `${SIZE}`, w.path('vm.img')]);
  await w.ok(['join', 'vm', w.path('vm.proxy.img')]);
  return serve(w);
}

/** The export as a file; nbdfuse has to end well when it is unmounted. */
async function fuseFile(w: World, uri: string) {
  const folder = w.path('fuse');
  fs.mkdirSync(folder);
  let ended: number | null | undefined;
  void tell('nbdfuse', `${folder}/disk`, uri).then(({ status }) => {
    ended = status;
  });
  w.atEnd(() => spawnSync('umount', ['-l', folder]));
  await until('nbdfuse has mounted', () => ended !== undefined || fs.existsSync(`${folder}/disk`));
  assert.is(ended, undefined, 'nbdfuse runs');
  return {
    file: `${folder}/disk`,
    async close() {
      await run('umount', folder);
      await until('nbdfuse has ended', () => ended !== undefined);
      assert.is(ended, 0);
    },
  };
}

/** Attaches a loop device and gives its path; detached at the end of the world at the latest. */
async function attachLoop(w: World, file: string, ...words: string[]): Promise<string> {
  const loop = (await run('losetup', '-f', '--show', ...words, file)).trim();
  w.atEnd(() => spawnSync('losetup', ['-d', loop]));
  return loop;
}

async function mounted(
  w: World,
  loop: string,
  options: string,
  work: (folder: string) => void | Promise<void>,
): Promise<void> {
  const folder = w.path('mnt');
  fs.mkdirSync(folder, { recursive: true });
  await run('mount', '-o', options, loop, folder);
  w.atEnd(() => spawnSync('umount', ['-l', folder]));
  try {
    await work(folder);
  } finally {
    await run('umount', folder);
  }
}

type Files = Record<string, string>;

/** Writes files whose content depends on `seed`, some of which are gone again. */
function fill(folder: string, seed: number): void {
  for (let i = 0; i < 60; i++) {
    const below = path.join(folder, `d${i % 7}`);
    fs.mkdirSync(below, { recursive: true });
    const file = path.join(below, `f${i}-${seed}`);
    fs.writeFileSync(file, randomBytes(((i * 7919) % 300) * 1024 + i, seed * 100 + i));
    if (i % 3 === 2) fs.rmSync(file);
  }
}

/** The files below a folder with a hash of each. */
function photograph(folder: string): Files {
  const names = fs.readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile());
  return Object.fromEntries(
    files.map((entry) => {
      const at = path.join(entry.parentPath ?? entry.path, entry.name);
      return [path.relative(folder, at), hashOf(at)];
    }),
  );
}

/** A life of a file system on `file`, which is the master: what the proxy must hold is looked at. */
async function live(w: World, file: string): Promise<void> {
  const loop = await attachLoop(w, file);
  await run('mkfs.ext4', '-q', loop);
  let first: Files = {};
  await mounted(w, loop, 'defaults', async (folder) => {
    fill(folder, 1);
    await run('fstrim', folder);
    fill(folder, 2);
    first = photograph(folder);
  });
  assert.ok(Object.keys(first).length >= 80);
  await run('e2fsck', '-fn', loop);
  assert.ok(fs.statSync(w.path('vm.img')).blocks * 512 < SIZE / 2, 'fstrim filled no holes');
  await w.ok(['part', 'vm-proxy']);
  await mounted(w, loop, 'discard', (folder) => {
    fs.rmSync(path.join(folder, 'd1'), { recursive: true });
    fill(folder, 3);
  });
  const snapshot = await attachLoop(w, w.path('vm.proxy.img'), '-r');
  await run('e2fsck', '-fn', snapshot);
  await mounted(w, snapshot, 'ro,noload', (folder) => {
    assert.equal(photograph(folder), first, 'the snapshot has the files of its moment');
  });
  await run('losetup', '-d', snapshot);
  await mounted(w, loop, 'ro', (folder) => {
    assert.not.equal(photograph(folder), first);
  });
  await run('losetup', '-d', loop);
}

/** The end of each case: nothing but what was tracked is copied, and the proxy is a whole file system. */
async function endsEqual(w: World, server: Server): Promise<void> {
  await w.ok(['verify', 'vm-proxy']);
  const { pairs } = await w.ok(['rejoin', 'vm-proxy']);
  assert.is(pairs[0].copy.method, 'differential');
  await server.stop();
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
  await run('e2fsck', '-fn', w.path('vm.proxy.img'));
}

check(['nbdfuse', ...TOOLS], 'ext4 by way of nbdfuse, its snapshot mounted', async (w) => {
  const server = await joined(w);
  const disk = await fuseFile(w, server.uri('default/vm'));
  await live(w, disk.file);
  await disk.close();
  await endsEqual(w, server);
});

check(['qemu-storage-daemon', ...TOOLS], 'the same by way of QEMU', async (w) => {
  const server = await joined(w);
  const file = w.path('f.img');
  fs.writeFileSync(file, '');
  const node = `driver=nbd,node-name=n,export=default/vm,discard=unmap,server.type=unix,server.path=${w.path('home', 'nbd.sock')}`;
  const fuse = `type=fuse,id=e,node-name=n,mountpoint=${file},writable=on`;
  w.atEnd(() => spawnSync('umount', ['-l', file]));
  const qmp = await storageDaemon(w, ['--blockdev', node, '--export', fuse]);
  assert.is(fs.statSync(file).size, SIZE);
  await live(w, file);
  await qmp.quit();
  await endsEqual(w, server);
});

test.run();
