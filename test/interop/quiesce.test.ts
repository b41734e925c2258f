/** `fsfreeze` around the instant: the snapshot of a mounted file system under a writer needs no recovery. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serve } from '../e2e/serve-support.ts';
import { exists, sleep, until, type World } from '../support/world.ts';
import { cases, MIB, run, tell } from './support.ts';

const test = suite('interop: quiesce');
const check = cases(test, 'quiesce');

/** Mounts an export by way of nbdfuse and a loop device. False: that is not allowed here. */
async function mount(w: World, uri: string, at: string): Promise<boolean> {
  const file = w.path('fuse');
  fs.writeFileSync(file, '');
  let gone = false;
  const fuse = spawn('nbdfuse', [file, uri], { stdio: 'ignore' });
  fuse.once('close', () => {
    gone = true;
  });
  w.atEnd(() => spawnSync('umount', ['-l', file]));
  await until('nbdfuse shows the volume', () => gone || fs.statSync(file).size > 0);
  if (gone) return false;
  const loop = await tell('losetup', '-f', '--show', file);
  if (loop.status !== 0) return false;
  const device = loop.stdout.trim();
  w.atEnd(() => spawnSync('losetup', ['-d', device]));
  fs.mkdirSync(at);
  if ((await tell('mount', device, at)).status !== 0) return false;
  w.atEnd(() => spawnSync('umount', [at]));
  // A test that fails between must not leave it frozen.
  w.atEnd(() => spawnSync('fsfreeze', ['-u', at]));
  return true;
}

/** Writes files all the time. */
function writer(w: World, at: string): ChildProcess {
  const script =
    'i=0; while :; do i=$((i+1)); echo $i > a; mkdir d$((i%50)); rmdir d$((i%50)); done';
  const child = spawn('/bin/sh', ['-c', script], { cwd: at, stdio: 'ignore' });
  w.atEnd(() => child.kill('SIGKILL'));
  return child;
}

async function needsRecovery(w: World): Promise<boolean> {
  return /needs_recovery/.test(await run('dumpe2fs', '-h', w.path('vm.proxy.img')));
}

const TOOLS = ['nbdfuse', 'losetup', 'mount', 'mkfs.ext4', 'e2fsck', 'dumpe2fs', 'fsfreeze'];

check(TOOLS, 'fsfreeze makes the snapshot of a mounted ext4 whole', async (w) => {
  fs.writeFileSync(w.path('vm.img'), '');
  fs.truncateSync(w.path('vm.img'), 32 * MIB);
  await run('mkfs.ext4', '-q', w.path('vm.img'));
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  const server = await serve(w);
  const at = w.path('mnt');
  if (!(await mount(w, server.uri('default/vm'), at))) {
    console.log('SKIP interop: quiesce: fsfreeze: nothing can be mounted here');
    return;
  }
  const child = writer(w, at);
  await until('it writes', () => exists(`${at}/a`));
  await sleep(500);
  const { quiesce } = await w.ok([
    'part',
    'vm-proxy',
    ...['--freeze', `fsfreeze -f '${at}'`, '--thaw', `fsfreeze -u '${at}'`],
  ]);
  assert.is(quiesce.thawError, null);
  assert.not.ok(await needsRecovery(w));
  await run('e2fsck', '-fn', w.path('vm.proxy.img'));
  const before = fs.readFileSync(`${at}/a`, 'utf8');
  await until('the writer goes on', () => fs.readFileSync(`${at}/a`, 'utf8') !== before);
  await w.ok(['rejoin', 'vm-proxy']);
  await w.ok(['part', 'vm-proxy']);
  assert.ok(await needsRecovery(w), 'without a freeze it is as after a crash');
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('close', resolve));
  await run('umount', at);
});

test.run();
