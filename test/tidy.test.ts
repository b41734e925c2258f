/** Rules of the house that a reader cannot check at a glance: who imports whom, where the world begins. */

import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('tidy');
const root = process.env.KAGE_ROOT ?? process.cwd();

/** Downwards only: a folder imports itself and those before it. Changing this is a design decision. */
const ORDER = [
  'base',
  'kernel',
  'device',
  'bitmap',
  'copy',
  'catalog',
  'proxy',
  'engine',
  'cli',
] as const;

/** Files that may know the world outside: everything else runs in a simulation as it is. */
const EDGES = [
  'src/cli/', // a terminal, the environment, the shell's completion
  'src/copy/crew.ts', // threads
  'src/copy/worker.ts',
  'src/device/file-folder.ts',
  'src/device/file-host.ts',
  'src/device/file.ts',
  'src/device/fine-times.ts',
  'src/kage.ts',
];

function files(folder: string, ending: string): string[] {
  return fs
    .readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => `${folder}/${name}`)
    .filter((name) => name.endsWith(ending))
    .sort();
}

function read(file: string): string {
  return fs.readFileSync(path.join(root, file), 'utf8');
}

function importsOf(file: string): string[] {
  return [...read(file).matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]);
}

/** `src/proxy/link.ts` + `../bitmap/x.ts` → `bitmap`. */
function folderOf(file: string, specifier: string): string {
  const target = path.posix.join(path.posix.dirname(file), specifier);
  return target.split('/')[1];
}

const sources = files('src', '.ts');

test('imports go downwards only', () => {
  const wrong: string[] = [];
  for (const file of sources) {
    const own = file.split('/')[1];
    const at = ORDER.indexOf(own as (typeof ORDER)[number]);
    if (at < 0) continue; // index.ts and kage.ts stand on top of everything.
    for (const specifier of importsOf(file).filter((s) => s.startsWith('.'))) {
      const to = ORDER.indexOf(folderOf(file, specifier) as (typeof ORDER)[number]);
      if (to > at) wrong.push(`${file} imports ${specifier}`);
    }
  }
  assert.equal(wrong, []);
});

test('the state table stands alone, and the command line knows only the engine', () => {
  const allowed: Record<string, RegExp> = {
    'src/proxy/states.ts': /^$/,
    'src/proxy/transitions.ts': /^proxy$/,
  };
  for (const [file, folders] of Object.entries(allowed)) {
    for (const specifier of importsOf(file)) assert.match(folderOf(file, specifier), folders, file);
  }
  for (const file of sources.filter((name) => name.startsWith('src/cli/'))) {
    for (const specifier of importsOf(file).filter((s) => s.startsWith('.'))) {
      const folder = folderOf(file, specifier);
      const known = ['base', 'cli'].includes(folder) || /engine\/(api|open|images)\.ts$/.test(specifier);
      assert.ok(known, `${file} imports ${specifier}`);
    }
  }
});

test('only named files know the world outside', () => {
  for (const file of sources) {
    const outside = importsOf(file).filter((s) => s.startsWith('node:'));
    const edge = EDGES.some((name) => file.startsWith(name));
    assert.ok(edge || outside.length === 0, `${file} imports ${outside.join()}`);
    const chance = /Math\.random\(|Date\.now\(|performance\.now\(/.exec(read(file));
    assert.ok(edge || chance === null, `${file} uses ${chance?.[0]}`);
  }
});

test('only the kernel touches its memory', () => {
  for (const file of sources.filter((name) => !name.startsWith('src/kernel/'))) {
    assert.not.match(read(file), /memory\.buffer/, file);
  }
});

test('every test file runs its suite, and nothing is left over', () => {
  for (const file of files('test', '.test.ts')) {
    if (file === 'test/tidy.test.ts') continue;
    const text = read(file);
    assert.match(text, /\.run\(\)|[cC]onformance\(|[sS]uite\(/, file);
    assert.not.match(text, /\.only\(/, file);
  }
  for (const file of sources) assert.not.match(read(file), /\b(TODO|FIXME|XXX)\b/, file);
});

test('source and documents agree on the exit statuses', () => {
  const { EXIT } = { EXIT: /export const EXIT = \{([^}]+)\}/.exec(read('src/base/errors.ts'))! };
  const numbers = [...EXIT[1].matchAll(/: (\d+)/g)].map((match) => match[1]);
  const line = /## Exit statuses\n\n([\s\S]*?)\n\n?`kage|## Exit statuses\n\n([\s\S]*?)`kage/.exec(read('README.md'));
  assert.ok(line);
  const text = line[1] ?? line[2];
  for (const number of numbers) assert.match(text, new RegExp(`(^|[^0-9])${number} `), number);
});

test.run();
