/** The bench still runs: every row with tiny sizes, on every runtime that is here, equal results. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FLOORS, ON_NODE, ratiosOf, SIDES, WORKS } from '../../bench/report/floors.ts';
import type { Entry, Results } from '../../bench/report/result.ts';
import { formatRatio } from '../../bench/report/result.ts';
import { measureInTurns } from '../../bench/turns.ts';

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
      for (const work of name === 'results.md' ? worksOf(results) : withRatio(results)) {
        assert.ok(text.includes(work), `${name}: ${work}`);
      }
      assert.ok(!text.includes(dir) && !text.includes(root), `${name} names no place`);
    }
    assert.match(stdout, /SMOKE/);
    assert.equal(fs.readdirSync(dir), ['out'], 'nothing is left behind');
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
});

/** All works; each has an entry, or is left out by name. */
function worksOf({ entries, absences }: Results): readonly string[] {
  const works = Object.values(WORKS);
  for (const work of works) {
    const absent = absences.find((a) => a.work === work && a.name === SIDES.all);
    if (absent) {
      console.log(`SKIP bench: ${work}: ${absent.reason}`);
      const container = /fuse/i.test(absent.reason);
      assert.ok(process.env.CI !== 'true' || container, `${work}: ${absent.reason}`);
    }
    assert.ok(absent !== undefined || entries.some((entry) => entry.work === work), work);
  }
  return works;
}

function withRatio({ ratios }: Results): Set<string> {
  return new Set(ratios.map(({ work }) => work));
}

/** Each floor has its ratio on each runtime, or what it needs is reported as not installed. */
function requireRows({ ratios, absences, machine }: Results): void {
  for (const { work, ours, peers, called } of FLOORS) {
    for (const runtime of ON_NODE.has(work) ? ['node'] : Object.keys(machine.runtimes)) {
      const found = ratios.filter(
        (r) =>
          r.work === work &&
          r.runtime === runtime &&
          r.ours === ours &&
          r.peer === (called ?? peers[0]),
      );
      const absent = absences.some(
        (a) => a.work === work && (peers.includes(a.name) || a.name === SIDES.all),
      );
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

function entry(
  work: string,
  name: string,
  unit: Entry['unit'],
  best: number,
  more: Partial<Entry> = {},
): Entry {
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
    ...more,
  };
}

test('ratios: speeds and times, the best of several peers', () => {
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

test('ratios over NBD: the median round, and peers that run on no runtime of ours', () => {
  const peer = { runtime: '' };
  const ratios = ratiosOf([
    entry(WORKS.randomRead, SIDES.serve, 'IOPS', 99, { median: 90 }),
    entry(WORKS.randomRead, SIDES.serve, 'IOPS', 99, { median: 30, runtime: 'bun' }),
    entry(WORKS.randomRead, 'qemu-nbd', 'IOPS', 40, { median: 30, ...peer }),
    entry(WORKS.pause, SIDES.serve, 'ms', 1, { median: 10 }),
    entry(WORKS.pause, SIDES.limit, 'ms', 5, peer),
    // Another runtime's plain volume is no measure.
    entry(WORKS.copyingRead, SIDES.copying, 'ms', 4),
    entry(WORKS.copyingRead, SIDES.plain, 'ms', 1, { runtime: 'bun' }),
    entry(WORKS.copyingRead, SIDES.plain, 'ms', 2),
  ]);
  assert.equal(
    ratios.map(({ work, runtime, value, reached }) => [work, runtime, value, reached]),
    [
      [WORKS.randomRead, 'node', 3, true],
      [WORKS.randomRead, 'bun', 1, false],
      [WORKS.copyingRead, 'node', 2, true],
      [WORKS.pause, 'node', 2, false],
    ],
  );
});

test('turns: meters begin another one each round, figures of one work become one entry', async () => {
  const order: string[] = [];
  const meter = (name: string, values: number[]) => ({
    name,
    runtime: '',
    measure: async () => {
      order.push(name);
      const value = values.shift()!;
      return [
        { work: 'w', unit: 'IOPS', value, beside: { p50: -value } } as const,
        { work: 'v', unit: 'ms', value } as const,
      ];
    },
  });
  const meters = [meter('a', [3, 9, 5]), meter('b', [1, 1, 1])];
  const entries = await measureInTurns(meters, {
    rounds: 3,
    params: { depth: 4 },
    before: () => void order.push('-'),
  });
  assert.is(order.join(''), '-a-b-b-a-a-b');
  assert.equal(
    entries.map(({ work, name, best, median, rounds, params }) => [
      [work, name, best, median, rounds],
      params,
    ]),
    [
      [['w', 'a', 9, 5, 3], { depth: 4, p50: -5 }],
      [['v', 'a', 3, 5, 3], { depth: 4 }],
      [['w', 'b', 1, 1, 3], { depth: 4, p50: -1 }],
      [['v', 'b', 1, 1, 3], { depth: 4 }],
    ],
  );
});

test.run();
