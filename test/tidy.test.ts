/** The rules of the house that a machine can hold: who imports whom, and who touches the outside. */

import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EXIT } from '../src/base/errors.ts';

const test = suite('tidy');
const root = process.env.KAGE_ROOT ?? process.cwd();

/** Imports go from a folder to those before it. What lies in `src` itself stands on top. */
const ORDER = [
  'base',
  'kernel',
  'device',
  'bitmap',
  'copy',
  'catalog',
  'proxy',
  'nbd',
  'engine',
  'control',
  'serve',
  'cli',
];

/** The state table is read by the engine, the brute-force model and the documents: it needs nothing. */
const PURE = ['proxy/states', 'proxy/transitions', 'proxy/recovery'];

/** All of the engine and its server that the command line knows. */
const ENGINE_FOR_CLI = [
  'engine/api',
  'engine/open',
  'engine/images',
  'control/client',
  'serve/captive',
  'serve/execute',
  'serve/serve',
];

/** Our portability layer: who imports modules of the runtime, and which. */
const EDGES: Readonly<Record<string, readonly string[]>> = {
  'cli/family': ['node:fs'],
  'cli/main': ['node:fs', 'node:os', 'node:path'],
  'cli/shell': ['node:child_process'],
  'cli/y18n': ['node:util'],
  'control/client': ['node:fs', 'node:net', 'node:path'],
  'control/server': ['node:net'],
  'copy/crew': ['node:os', 'node:worker_threads'],
  'copy/worker': ['node:fs', 'node:worker_threads'],
  'device/descriptors': ['node:fs'],
  'device/file': ['node:fs'],
  'device/file-folder': ['node:fs', 'node:net', 'node:path'],
  'device/file-host': ['node:fs', 'node:os', 'node:path'],
  'device/pool': ['node:fs', 'node:os'],
  'nbd/client-connection': ['node:net'],
  'nbd/client-tls': ['node:fs', 'node:net', 'node:tls'],
  'nbd/places': ['node:fs', 'node:net', 'node:path'],
  'nbd/server': ['node:net'],
  'nbd/tls': ['node:crypto', 'node:fs', 'node:net', 'node:tls'],
  'serve/captive': ['node:fs', 'node:os', 'node:path'],
  'serve/children': ['node:child_process', 'node:fs'],
  'serve/execute': ['node:fs', 'node:os'],
  'serve/fuse': ['node:child_process', 'node:fs/promises', 'node:path'],
  'serve/mounts': ['node:fs/promises', 'node:path'],
};

const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  'cli/arguments': ['yargs', 'yargs/yargs'],
  'kernel/wasm': ['@assemblyscript/loader'],
};

type Source = { readonly name: string; readonly code: string };

function filesBelow(folder: string, end: string): string[] {
  return fs
    .readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(end))
    .map((name) => path.join(folder, name))
    .sort();
}

/** Without comments: they may say what they like. */
function codeOf(file: string): string {
  const text = fs.readFileSync(path.join(root, file), 'utf8');
  return text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/^\s*\/\/.*$/gm, '')
    .replace(/\s\/\/ .*$/gm, '');
}

/** `base/errors`, `cli/verbs/add`, `index`. */
const SOURCES: readonly Source[] = filesBelow('src', '.ts')
  .filter((file) => !file.endsWith('.d.ts'))
  .map((file) => ({ name: file.slice('src/'.length, -'.ts'.length), code: codeOf(file) }));

function importsOf({ name, code }: Source): string[] {
  const statement =
    /^(?:import|export)\s[^'"]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm;
  const found = [...code.matchAll(statement)].map((m) => m[1] ?? m[2] ?? m[3]);
  return found.map((to) => {
    if (!to.startsWith('.')) return to;
    const target = path.join(path.dirname(name), to.replace(/\?bundled$/, ''));
    return target.replace(/\.ts$/, '');
  });
}

/** Sources that break a rule, with what they do. */
function broken(rule: (source: Source, imported: string) => boolean): string[] {
  return SOURCES.flatMap((source) =>
    importsOf(source)
      .filter((imported) => !rule(source, imported))
      .map((imported) => `${source.name} imports ${imported}`),
  );
}

const levelOf = (name: string) =>
  name.includes('/') ? ORDER.indexOf(name.split('/')[0]) : ORDER.length;
const isOurs = (imported: string) => /^[a-z]+(?:\/|$)/.test(imported) && !isPackage(imported);
const isPackage = (imported: string) => Object.values(PACKAGES).flat().includes(imported);
const isRuntime = (imported: string) => imported.startsWith('node:');

test('there is something to look at, and every folder has its place', () => {
  assert.ok(SOURCES.length > 50);
  const folders = new Set(
    SOURCES.filter((s) => s.name.includes('/')).map((s) => s.name.split('/')[0]),
  );
  assert.equal([...folders].sort(), [...ORDER].sort());
  assert.ok(SOURCES.flatMap(importsOf).filter(isOurs).length > 100);
});

test('imports go downwards only', () => {
  const bad = broken(
    ({ name }, imported) => !isOurs(imported) || levelOf(imported) <= levelOf(name),
  );
  assert.equal(bad, []);
});

test('the state table imports nothing but itself', () => {
  const bad = broken(
    ({ name }, imported) =>
      !PURE.includes(name) || PURE.includes(imported) || imported.startsWith('base/'),
  );
  assert.equal(bad, []);
});

test('the command line knows the interface of the engine, and nothing beneath it', () => {
  const bad = broken(({ name }, imported) => {
    if (!name.startsWith('cli/') || !isOurs(imported)) return true;
    return /^(?:cli|base)\//.test(imported) || ENGINE_FOR_CLI.includes(imported);
  });
  assert.equal(bad, []);
});

test('every import is one of ours, of the runtime at the edges, or a package in its one place', () => {
  const wasm = path.join('..', 'build', 'kernel.wasm');
  const bad = broken(({ name }, imported) => {
    if (isRuntime(imported)) return EDGES[name]?.includes(imported) ?? false;
    if (isPackage(imported)) return PACKAGES[name]?.includes(imported) ?? false;
    if (imported === wasm) return name === 'kernel/wasm';
    return SOURCES.some((source) => source.name === imported);
  });
  assert.equal(bad, []);
});

test('the list of edges is no longer than it must be', () => {
  const modules = (code: string) => [...code.matchAll(/'(node:[a-z_/]+)'/g)].map((m) => m[1]);
  const found = SOURCES.map(
    ({ name, code }) => [name, [...new Set(modules(code))].sort()] as const,
  );
  assert.equal(Object.fromEntries(found.filter(([, used]) => used.length > 0)), EDGES);
});

/** Names of the sources in which a pattern occurs. */
function using(pattern: RegExp): string[] {
  return SOURCES.filter(({ code }) => pattern.test(code)).map(({ name }) => name);
}

test('the command is CommonJS on Node and not on Deno, by a package that says nothing', () => {
  assert.equal(JSON.parse(fs.readFileSync(path.join(root, 'dist/package.json'), 'utf8')), {});
});

test('only the kernel touches linear memory itself', () => {
  assert.equal(using(/memory\.buffer/i), ['kernel/wasm']);
});

test('time and chance come from the host', () => {
  assert.equal(using(/Math\.random|randomBytes|getRandomValues|randomUUID/), ['device/file-host']);
  assert.equal(using(/Date\.now|new Date\(\)/), ['device/file-host']);
  // The server's clock, an argument of it; a name for a file that exists for a moment; and how long a
  // real disk takes.
  const clocks = ['cli/main', 'device/file-folder', 'device/patient-file'];
  assert.equal(using(/performance\.now/), clocks);
});

test('only the command line prints and ends the process', () => {
  assert.equal(
    using(/console\.|process\.(?:stdout|stderr|exit)/).filter((n) => !n.startsWith('cli/')),
    [],
  );
});

test('every test file runs its suite: it would pass silently', () => {
  const files = [...filesBelow('test', '.test.ts'), ...filesBelow('test', '.sim.ts')];
  assert.ok(files.length > 30);
  const silent = files.filter((file) => {
    const lines = fs.readFileSync(path.join(root, file), 'utf8').trimEnd().split('\n');
    return !/^\w+\.run\(\);$/.test(lines.at(-1)!);
  });
  assert.equal(silent, []);
});

test('no test is left alone or left out by hand', () => {
  const files = filesBelow('test', '.ts').filter((file) => file !== 'test/tidy.test.ts');
  assert.equal(
    files.filter((file) => /\.only\(/.test(codeOf(file))),
    [],
  );
});

test('nothing is left over', () => {
  const sources = filesBelow('src', '.ts');
  const text = (file: string) => fs.readFileSync(path.join(root, file), 'utf8');
  assert.equal(
    sources.filter((file) => /\b(?:TODO|FIXME|XXX)\b/.test(text(file))),
    [],
  );
});

test('source and documents agree on the exit statuses', () => {
  const readme = fs.readFileSync(path.join(root, 'README.md'), 'utf8');
  const [, line] = /## Exit statuses\n\n([\s\S]*?)`kage/.exec(readme) ?? [];
  assert.ok(line, 'the README has the line');
  for (const status of Object.values(EXIT)) {
    assert.match(line, new RegExp(`(^|[^0-9])${status} `), `${status}`);
  }
});

test('nothing names a place or a host of the machine it was made on', () => {
  const folders = ['src', 'assembly', 'test', 'bench', 'docs'];
  const tops = fs.readdirSync(root).filter((name) => /\.(md|mjs|json)$/.test(name));
  const files = folders.flatMap((folder) => filesBelow(folder, ''));
  const text = [...files, ...tops].filter((file) => /\.(ts|mjs|md|json|svg)$/.test(file));
  // Written so that this file does not match itself.
  const places = /[^\w.](?:[/]work|[/]root|[/]home[/](?!classes))[/]/;
  // `kage` is what requests on the control socket call their host.
  const hosts =
    /https?:[/][/](?!(?:kage|www\.w3\.org|github\.com|nodejs\.org|www\.apache\.org)[/"'])/;
  const bad: string[] = [];
  for (const file of text) {
    const lines = fs.readFileSync(path.join(root, file), 'utf8').split('\n');
    for (const [i, line] of lines.entries()) {
      const isLock = file === 'package-lock.json' && /"(?:url|funding)"/.test(line);
      if (!isLock && (places.test(line) || hosts.test(line)))
        bad.push(`${file}:${i + 1}: ${line.trim()}`);
    }
  }
  assert.equal(bad, []);
});

test.run();
