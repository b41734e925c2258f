/** The bench still runs: every row with tiny sizes, on every runtime that is here, equal results. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FLOORS, ratiosOf, WORKS } from '../../bench/report/floors.ts';
import type { Entry, Results } from '../../bench/report/result.ts';
import { formatRatio } from '../../bench/report/result.ts';

const root = process.env.KAGE_ROOT!;
const test = suite('bench');

test('a smoke run measures every row', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'kage-bench-test-'));
  try {
    const out = path.join(dir, 'out');
    const words = ['bench/run.mjs', '--smoke', '--no-build', '--dir', dir, '--out', out];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, {
      cwd: root,
      encoding: 'utf8',
    });
    assert.is(status, 0, stderr);
    const results: Results = JSON.parse(fs.readFileSync(path.join(out, 'results.json'), 'utf8'));
    requireRows(results);
    requireEqualSums(results.entries);
    for (const name of ['results.md', 'results.svg']) {
      const text = fs.readFileSync(path.join(out, name), 'utf8');
      assert.ok(
        Object.values(WORKS).every((work) => text.includes(work)),
        name,
      );
      assert.ok(!text.includes(dir) && !text.includes(root), `${name} names no place`);
    }
    assert.match(stdout, /SMOKE/);
    assert.equal(fs.readdirSync(dir), ['out'], 'nothing is left behind');
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
});

/** Each floor has its ratio on each runtime, or its peer is reported as not installed. */
function requireRows({ ratios, absences, machine }: Results): void {
  for (const { work, ours, peers, called } of FLOORS) {
    const everywhere = ours === 'wasm' || work === WORKS.info;
    for (const runtime of everywhere ? Object.keys(machine.runtimes) : ['node']) {
      const found = ratios.filter(
        (r) => r.work === work && r.runtime === runtime && r.peer === (called ?? peers[0]),
      );
      const absent = absences.some((a) => a.work === work && peers.includes(a.name));
      assert.ok(found.length === 1 || absent, `${work} against ${peers} on ${runtime}`);
      assert.ok(found.every(({ value }) => value > 0 && Number.isFinite(value)));
    }
  }
  assert.ok('node' in machine.runtimes);
}

/** All sides of a kernel work answer the same, on all runtimes. */
function requireEqualSums(entries: readonly Entry[]): void {
  for (const entry of entries.filter(({ unit }) => unit === 'GB/s')) {
    const first = entries.find(({ work }) => work === entry.work)!;
    assert.is(entry.checksum, first.checksum, `${entry.work} ${entry.name} ${entry.runtime}`);
    assert.is.not(entry.checksum, '');
  }
}

test('ratios: speeds and times, the best of several peers', () => {
  const entry = (work: string, name: string, unit: Entry['unit'], best: number): Entry => {
    return {
      work,
      runtime: 'node',
      name,
      unit,
      best,
      median: best,
      rounds: 1,
      checksum: '',
      params: {},
    };
  };
  const ratios = ratiosOf([
    entry(WORKS.diffHot, 'wasm', 'GB/s', 10),
    entry(WORKS.diffHot, 'native', 'GB/s', 8),
    entry(WORKS.diffHot, 'Int32Array', 'GB/s', 4),
    entry(WORKS.diffHot, 'BigInt64Array', 'GB/s', 6),
    entry(WORKS.synced, 'kage copy', 'ms', 1000),
    entry(WORKS.synced, 'dd', 'ms', 500),
    entry(WORKS.synced, 'nbdcopy', 'ms', 4000),
    entry(WORKS.rejoin, 'rejoin', 'ms', 20),
    entry(WORKS.rejoin, 'our full copy', 'ms', 1000),
  ]);
  assert.equal(
    ratios.map(({ work, peer, value, reached }) => [work, peer, value, reached]),
    [
      [WORKS.diffHot, 'native', 1.25, true],
      [WORKS.diffHot, 'best typed array', 10 / 6, false],
      [WORKS.synced, 'best of dd, nbdcopy, qemu-img', 0.5, false],
      [WORKS.rejoin, 'our full copy', 0.02, true],
    ],
  );
  assert.is(formatRatio('time', 0.02), '2.0 %');
  assert.is(formatRatio('speed', 1.25), '1.25 ×');
});

test.run();
