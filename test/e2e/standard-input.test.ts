/** `kage write` and what its standard input can be: data, nothing, or no input at all. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RUNTIMES } from '../support/runtimes.ts';
import { inWorld, type Runtime, type World } from '../support/world.ts';

const test = suite('e2e: standard input');
const MIB = 1024 * 1024;

/** Runs `write vm` with the input that a redirection of the shell gives it. */
function write(w: World, runtime: Runtime, redirection: string, ...more: string[]) {
  const line = `exec "$@" ${redirection}`;
  const args = ['-c', line, 'sh', ...runtime, 'write', 'vm', ...more];
  const env = { ...process.env, KAGE_HOME: w.home, KAGE_FAULT: undefined };
  return spawnSync('sh', args, { cwd: w.folder, env, encoding: 'utf8' });
}

async function withVolume(work: (w: World) => Promise<void> | void): Promise<void> {
  await inWorld(async (w) => {
    w.image('vm.img', 3 * MIB, 1);
    await w.engine((disks) => disks.add([{ path: w.path('vm.img') }]));
    await work(w);
  });
}

for (const { name, command } of RUNTIMES) {
  test(`${name}: what cannot be read is an error, and nothing is written`, () =>
    withVolume((w) => {
      fs.mkdirSync(w.path('folder'));
      const before = w.photograph();
      for (const [redirection, status, says] of [
        ['< folder', 2, /^kage: standard input is a directory: there is nothing to read\n/],
        ['<&-', 2, /^kage: standard input is closed: there is nothing to read\n/],
        ['0> output', 20, /^kage: standard input: reading failed: EBADF\n/],
      ] as const) {
        const ended = write(w, command, redirection);
        assert.is(ended.status, status, `${redirection}: ${ended.stdout}${ended.stderr}`);
        assert.match(ended.stderr, says);
        assert.is(ended.stdout, '');
        const json = write(w, command, redirection, '--json');
        assert.is(JSON.parse(json.stdout).error.exitStatus, status);
        fs.rmSync(w.path('output'), { force: true });
        assert.equal(w.photograph(), before);
      }
      assert.is(write(w, command, '< folder', '--dry-run').status, 2);
    }));

  test(`${name}: an input that is empty is fine, and a file is read from where it stands`, () =>
    withVolume((w) => {
      fs.writeFileSync(w.path('empty'), '');
      const before = w.hash('vm.img');
      for (const redirection of ['< /dev/null', '< empty', '< /dev/null --dry-run']) {
        const ended = write(w, command, redirection);
        assert.is(ended.status, 0, `${redirection}: ${ended.stderr}`);
        assert.is(w.hash('vm.img'), before);
      }
      assert.match(write(w, command, '< empty').stdout, /^vm: 0 B written/);
      fs.writeFileSync(w.path('data'), 'skip this and write that');
      const line = '{ dd bs=14 count=1 of=/dev/null 2> /dev/null; exec "$@"; } < data';
      const args = ['-c', line, 'sh', ...command, 'write', 'vm'];
      const env = { ...process.env, KAGE_HOME: w.home };
      assert.is(spawnSync('sh', args, { cwd: w.folder, env }).status, 0);
      assert.is(w.read('vm.img').toString('latin1', 0, 10), 'write that');
    }));
}

test.run();
