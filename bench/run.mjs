#!/usr/bin/env node
/**
 * `npm run bench`: builds, bundles the benches and runs them; results in docs/bench.
 * `npm run bench -- copy nbd` runs the works whose name contains a word, and only prints.
 * Works over NBD need fio; what else is missing (peers, FUSE) is named where their figures would be.
 *
 *   --dir FOLDER    where the images lie (60 GiB free, a real file system; default: the system's
 *                   folder for temporary files)
 *   --out FOLDER    where results.json, results.md and results.svg go
 *   --smoke         tiny sizes, seconds: shows that every row still runs, its figures mean nothing
 *   --no-build      with the dist/ that is there
 */

import { mkdirSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { buildBundles, buildKernel, bundleOptions } from '../build.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dir: { type: 'string' },
    out: { type: 'string' },
    smoke: { type: 'boolean', default: false },
    'no-build': { type: 'boolean', default: false },
  },
});

if (!values['no-build']) {
  buildKernel();
  await buildBundles();
}
// The benches of a smoke run beside a real one must not replace its code.
const folder = `${root}build/bench${values.smoke ? '-smoke' : ''}`;
mkdirSync(folder, { recursive: true });
await build({
  ...bundleOptions,
  entryPoints: {
    kernel: 'bench/kernel/main.ts',
    unsynced: 'bench/copy/unsynced.ts',
    rejoin: 'bench/pair/rejoin.ts',
    main: 'bench/main.ts',
  },
  outdir: folder,
  outExtension: { '.js': '.mjs' },
});
const { main } = await import(pathToFileURL(`${folder}/main.mjs`).href);
await main({
  root,
  code: folder,
  smoke: values.smoke,
  patterns: positionals,
  dir: values.dir,
  out: values.out ?? (values.smoke || positionals.length > 0 ? undefined : `${root}docs/bench`),
});
