#!/usr/bin/env node
/**
 * Runs the tests: builds, bundles each *.test.ts, runs every file in a process of its own, sums up.
 * `node test/run.mjs [pattern…]` runs the files whose path contains a pattern. The last line is
 * `N passed, N failed, N skipped`; a file that runs no test, or never ends, has failed.
 */

import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { buildBundles, buildKernel, bundleOptions } from '../build.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const words = process.argv.slice(2);
/** `--name value`, taken out of the words; for the simulation. */
function option(name) {
  const at = words.indexOf(`--${name}`);
  return at < 0 ? undefined : words.splice(at, 2)[1];
}
const seed = option('seed');
const minutes = option('minutes');
const patterns = words.filter((a) => !a.startsWith('--'));
const sim = process.argv.includes('--sim');
// Every kill of every scenario takes its time.
const FILE_MINUTES = sim ? 40 : 10;
const JOBS = 2;

const files = readdirSync(path.join(root, 'test'), { recursive: true })
  .map((name) => `test/${name}`)
  .filter((name) => name.endsWith(sim ? '.sim.ts' : '.test.ts'))
  .filter((name) => patterns.length === 0 || patterns.some((p) => name.includes(p)))
  .sort();

if (!process.argv.includes('--no-build')) {
  buildKernel();
  await buildBundles();
}
const out = path.join(root, 'build/test');
if (patterns.length === 0) rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({
  ...bundleOptions,
  entryPoints: files,
  outdir: 'build',
  outbase: '.',
  outExtension: { '.js': '.mjs' },
  external: ['uvu', 'uvu/*', 'fast-check', 'esbuild'],
  sourcemap: 'inline',
});

function runFile(name) {
  return new Promise((resolve) => {
    const started = Date.now();
    const child = spawn(
      process.execPath,
      ['--enable-source-maps', path.join(root, 'build', name.replace(/\.ts$/, '.mjs'))],
      {
        cwd: root,
        env: {
          ...process.env,
          KAGE_ROOT: root,
          FORCE_COLOR: '0',
          ...(seed === undefined ? {} : { KAGE_SEED: seed }),
          ...(minutes === undefined ? {} : { KAGE_MINUTES: minutes }),
        },
      },
    );
    let text = '';
    child.stdout.on('data', (data) => (text += data));
    child.stderr.on('data', (data) => (text += data));
    const timer = setTimeout(() => {
      text += `\n${name} did not end within ${FILE_MINUTES} minutes\n`;
      child.kill('SIGKILL');
    }, FILE_MINUTES * 60_000);
    child.on('close', (status) => {
      clearTimeout(timer);
      const number = (word) =>
        [...text.matchAll(new RegExp(`^\\s*${word}:\\s+(\\d+)`, 'gm'))].reduce(
          (s, m) => s + Number(m[1]),
          0,
        );
      const total = number('Total');
      const passed = number('Passed');
      const skipped = number('Skipped');
      // uvu counts a skipped test in neither figure, and prints nothing at all without .run().
      const failed = Math.max(total - passed, status === 0 && total + skipped > 0 ? 0 : 1);
      resolve({ name, text, passed, failed, skipped, seconds: (Date.now() - started) / 1000 });
    });
  });
}

const sum = { passed: 0, failed: 0, skipped: 0 };
const queue = [...files];
async function worker() {
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    const result = await runFile(name);
    const mark = result.failed ? 'FAIL' : 'ok  ';
    console.log(
      `${mark} ${name}  ${result.passed} passed` +
        `${result.skipped ? `, ${result.skipped} skipped` : ''}  ${result.seconds.toFixed(1)} s`,
    );
    if (result.failed || process.argv.includes('--verbose')) console.log(result.text);
    for (const line of result.text.matchAll(/^SKIP .*$/gm)) console.log(`     ${line[0]}`);
    for (const key of Object.keys(sum)) sum[key] += result[key];
  }
}
await Promise.all(Array.from({ length: JOBS }, worker));
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exit(sum.failed > 0 || sum.passed === 0 ? 1 : 0);
