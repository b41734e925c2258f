#!/usr/bin/env node
/** Builds the kernel and the bundles: build/kernel.wasm, dist/kage.js (one file), dist/index.mjs. */

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('.', import.meta.url));
const quiet = process.argv.includes('--quiet');
const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));

function run(command, ...args) {
  const { status } = spawnSync(process.execPath, [`${root}node_modules/${command}`, ...args], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}

/**
 * `import text from './x.ts?bundled'` gives x.ts with all it imports as the text of one script, for
 * a thread that is started from text. Scripts have no `import`, and a thread made of text has no
 * `require` on Deno: builtins come from the process.
 */
const bundledText = {
  name: 'bundled-text',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /\?bundled$/ }, ({ path, resolveDir }) => ({
      path: resolve(resolveDir, path.replace(/\?bundled$/, '')),
      namespace: 'bundled-text',
    }));
    onLoad({ filter: /./, namespace: 'bundled-text' }, async ({ path }) => {
      const { outputFiles, metafile } = await build({
        ...bundleOptions,
        entryPoints: [path],
        format: 'cjs',
        minify: true,
        write: false,
        metafile: true,
        banner: { js: '((require) => {' },
        footer: { js: '})(process.getBuiltinModule);' },
      });
      const watchFiles = Object.keys(metafile.inputs).map((input) => resolve(root, input));
      return { contents: outputFiles[0].text, loader: 'text', watchFiles };
    });
  },
};

/**
 * Builtin modules by call instead of by import: an import loads them before the first line runs, with
 * all they bring along (streams, assert), which is a third of the time of a short command on Bun.
 */
const builtinsByCall = {
  name: 'builtins-by-call',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(node:)?[a-z_]+(\/[a-z]+)?$/ }, ({ path }) => {
      const name = path.replace(/^node:/, '');
      if (builtinModules.includes(name)) return { path: name, namespace: 'builtin' };
    });
    onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule('node:${path}')`,
    }));
  },
};

/** Options that every bundle shares, the tests' too. */
export const bundleOptions = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  loader: { '.wasm': 'binary' },
  // The library of yargs reads its locales from files, which a single bundle does not have.
  // Its width of strings costs some 30 ms at each start for emoji that our help does not have.
  alias: {
    y18n: `${root}src/cli/y18n.ts`,
    'string-width': `${root}src/cli/string-width.ts`,
  },
  define: { KAGE_VERSION: JSON.stringify(version) },
  plugins: [bundledText],
  legalComments: 'none',
  logLevel: 'warning',
};

const BANNER =
  "import { createRequire as __createRequire } from 'node:module';" +
  'const require = __createRequire(import.meta.url);';

export function buildKernel() {
  mkdirSync(`${root}build`, { recursive: true });
  run(
    'assemblyscript/bin/asc.js',
    'assembly/index.ts',
    '--config',
    'asconfig.json',
    '--target',
    'release',
  );
}

/**
 * The command has neither imports nor exports, so it is a script of either kind. A package that says nothing
 * makes it CommonJS on Node: it starts a tenth faster, and the loader has not used the pool of threads
 * before it. On Deno it is an ES module then, and must be: Deno 2.9 takes cached code of a CommonJS file for
 * that of another one of the same length in its place.
 */
export async function buildBundles() {
  mkdirSync(`${root}dist`, { recursive: true });
  writeFileSync(`${root}dist/package.json`, '{}\n');
  await build({
    ...bundleOptions,
    entryPoints: ['src/kage.ts'],
    outfile: 'dist/kage.js',
    format: 'iife',
    minify: true,
    // Yargs wants to know where it lies, for files that it does not need in a bundle.
    define: { ...bundleOptions.define, 'import.meta.url': '"file:///kage.js"' },
    plugins: [...bundleOptions.plugins, builtinsByCall],
    banner: { js: '#!/usr/bin/env node\nvar KAGE_COMMONJS = typeof require === "function";' },
  });
  chmodSync(`${root}dist/kage.js`, 0o755);
  await build({
    ...bundleOptions,
    entryPoints: ['src/index.ts'],
    outfile: 'dist/index.mjs',
    banner: { js: BANNER },
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  buildKernel();
  await buildBundles();
  if (process.argv.includes('--types')) run('typescript/bin/tsc', '-p', 'tsconfig.types.json');
  if (!quiet) console.log('built dist/kage.js, dist/index.mjs');
}
