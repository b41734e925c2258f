/** The example of docs/library.md, run as it is printed against the built library, on each runtime. */

import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BUN, DENO, inWorld } from '../support/world.ts';

const test = suite('library: the example of the documents');
const root = process.env.KAGE_ROOT ?? process.cwd();
const page = fs.readFileSync(path.join(root, 'docs/library.md'), 'utf8');

const RUNTIMES = [
  { name: 'Node', command: process.execPath, args: [] as string[] },
  { name: 'Deno', command: DENO[0], args: ['run', '-A'] },
  { name: 'Bun', command: BUN[0], args: [] as string[] },
];

function example(): string {
  const match = /## Example\n\n```js\n([\s\S]*?)```/.exec(page);
  assert.ok(match, 'docs/library.md has no example');
  const library = new URL(`file://${path.join(root, 'dist/index.mjs')}`);
  return match[1].replace("from 'kagemusha'", `from '${library}'`);
}

for (const { name, command, args } of RUNTIMES) {
  const there = fs.existsSync(command);
  if (!there) console.log(`SKIP library: the example of the documents: ${name} is not installed`);
  (there ? test : test.skip)(`runs on ${name}`, () =>
    inWorld(async (w) => {
      fs.writeFileSync(w.path('example.mjs'), example());
      const { stdout } = await promisify(execFile)(command, [...args, w.path('example.mjs')], {
        env: { ...process.env, TMPDIR: w.folder, NO_COLOR: '1', FORCE_COLOR: undefined },
      });
      assert.match(stdout, /^50000000 of 50000000 bytes, 0 s left$/m, stdout);
      assert.match(stdout, /^full first copy, to a new image$/m, stdout);
      assert.match(stdout, /^1 region changed; differential is next$/m, stdout);
      assert.match(stdout, /^65536 bytes read$/m, stdout);
      assert.match(stdout, /^restored$/m, stdout);
      assert.match(stdout, /^wrong-state 13 restore db-proxy: it is joined/m, stdout);
      assert.match(stdout, /^interrupted$/m, stdout);
      assert.match(stdout, /^joined$/m, stdout);
    }),
  );
}

test.run();
