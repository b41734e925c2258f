/** Files as devices on Deno and Bun: their tests pass there, and a disk that does not answer stops nobody. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RUNTIMES } from '../support/runtimes.ts';
import { inWorld, Running, until, World } from '../support/world.ts';

const test = suite('runtimes: files');
const root = process.env.KAGE_ROOT ?? process.cwd();
const SUITES = ['file', 'file-direct', 'patient-file', 'right-of-way', 'descriptors'];
const PROGRAM = 'test/runtimes/held-disk-program.ts';

const { bundleOptions } = await import(pathToFileURL(path.join(root, 'build.mjs')).href);
const place = new World();
await build({
  ...bundleOptions,
  entryPoints: [PROGRAM, ...SUITES.map((name) => `test/device/${name}.test.ts`)],
  outbase: root,
  outdir: place.folder,
  outExtension: { '.js': '.mjs' },
  external: ['esbuild'],
  banner: {
    js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
  },
});
const bundle = (file: string) => place.path(file.replace(/\.ts$/, '.mjs'));

for (const { name, command } of RUNTIMES) {
  // The other words of the command run the bundle of kagemusha.
  const run = (...words: string[]) =>
    new Running([...command.slice(0, -1), ...words], { ...process.env, KAGE_ROOT: root }, '');

  if (name !== 'Node') {
    for (const device of SUITES) {
      test(`${name}: ${device}`, async () => {
        const { status, stdout, stderr } = await run(bundle(`test/device/${device}.test.ts`)).ended;
        assert.is(status, 0, stdout + stderr);
        assert.match(stdout, /Passed: {4}[1-9]/);
      });
    }
  }

  const tools = ['nbdkit', 'nbdfuse'].filter((tool) => spawnSync(tool, ['--version']).status !== 0);
  const canMount = fs.existsSync('/dev/fuse');
  if (!canMount) tools.push('/dev/fuse');
  const what = `${name}: nobody waits for a disk that does not answer`;
  if (tools.length > 0) console.log(`SKIP ${what}: needs ${tools.join(', ')}`);
  const check = canMount && (tools.length === 0 || process.env.CI === 'true') ? test : test.skip;
  check(what, () =>
    inWorld(async (w) => {
      const folder = w.path('fuse');
      fs.mkdirSync(folder);
      const held = `until [ -e ${w.path('go')} ]; do sleep 0.01; done`;
      const mount = new Running(
        [
          ...['nbdfuse', `${folder}/disk`, '--command', 'nbdkit', '-s', 'eval'],
          ...['get_size=echo 4M', 'thread_model=echo parallel'],
          ...[`pread=${held}; head -c $3 /dev/zero`, `pwrite=${held}; cat >/dev/null`],
        ],
        process.env,
        '',
      );
      w.atEnd(() => spawnSync('fusermount3', ['-u', '-z', folder]));
      await until('nbdfuse has mounted', () => fs.existsSync(`${folder}/disk`));
      const ended = run(bundle(PROGRAM), `${folder}/disk`, w.path('go'));
      let over = false;
      void ended.ended.then(() => {
        over = true;
      });
      try {
        await until('it went on', () => over);
      } catch (error) {
        // Only the answer lets go of who waits in the kernel.
        fs.writeFileSync(w.path('go'), '');
        ended.child.kill('SIGKILL');
        await ended.ended;
        throw error;
      }
      const { status, stdout, stderr } = await ended.ended;
      assert.is(status, 0, stderr);
      assert.is(stdout, 'went on\n');
      spawnSync('fusermount3', ['-u', '-z', folder]);
      await mount.ended;
    }),
  );
}

test.after(() => place.remove());
test.run();
