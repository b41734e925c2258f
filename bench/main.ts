/** All benches in order: kernel, start, copy, sparse, rejoin, NBD; then the ratios and the report. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { equalPair, fullCopies, PEERS } from './copy/copy.bench.ts';
import { sparseJoin } from './copy/sparse.bench.ts';
import type { Row } from './harness.ts';
import { header } from './harness.ts';
import { amplification } from './nbd/amplification.bench.ts';
import { killAll } from './nbd/background.ts';
import { copying } from './nbd/copying.bench.ts';
import { memory } from './nbd/memory.bench.ts';
import { pause } from './nbd/pause.bench.ts';
import { SERVER_PEERS } from './nbd/peers.ts';
import { restart } from './nbd/restart.bench.ts';
import { cold, random, sequential } from './nbd/speed.bench.ts';
import { stall } from './nbd/stall.bench.ts';
import { tracked } from './nbd/tracked.bench.ts';
import { rejoin } from './pair/rejoin.bench.ts';
import type { Place } from './place.ts';
import { ratiosOf, WORKS } from './report/floors.ts';
import { machine } from './report/machine.ts';
import type { Absence, Entry, Results } from './report/result.ts';
import { picture } from './report/svg.ts';
import { markdown, plain } from './report/table.ts';
import { findRuntimes, runProgram, versionOf } from './runtimes.ts';
import { info } from './start/info.bench.ts';

export interface MainOptions {
  root: string;
  code: string;
  smoke: boolean;
  patterns: readonly string[];
  /** Parent of the working folder; undefined: the system's. */
  dir: string | undefined;
  /** Folder of the results; undefined: they are only printed. */
  out: string | undefined;
}

type Outcome = { entries: Entry[]; absences?: Absence[] };

const BENCHES: readonly {
  name: string;
  run: (place: Place) => Outcome | Promise<Outcome>;
}[] = [
  { name: 'kernel', run: kernel },
  { name: `start ${WORKS.info}`, run: info },
  { name: `copy ${WORKS.equal}`, run: equalPair },
  { name: 'copy full copy 2 GiB', run: fullCopies },
  { name: `copy sparse ${WORKS.sparse}`, run: sparseJoin },
  { name: `pair ${WORKS.rejoin}`, run: rejoin },
  { name: 'nbd random', run: random },
  { name: 'nbd cold', run: cold },
  { name: 'nbd sequential', run: sequential },
  { name: 'nbd tracked', run: tracked },
  { name: 'nbd copying', run: copying },
  { name: 'nbd stall', run: stall },
  { name: 'nbd pause', run: pause },
  { name: 'nbd memory', run: memory },
  { name: 'nbd restart', run: restart },
  { name: 'nbd amplification', run: amplification },
];

export async function main(options: MainOptions): Promise<void> {
  const { patterns, smoke, out } = options;
  const wanted = BENCHES.filter(
    ({ name }) => patterns.length === 0 || patterns.some((p) => name.includes(p)),
  );
  if (wanted.length === 0) {
    console.error(
      `no bench of that name; there are:\n  ${BENCHES.map((b) => b.name).join('\n  ')}`,
    );
    process.exit(2);
  }
  const dir = fs.mkdtempSync(path.join(options.dir ?? os.tmpdir(), 'kage-bench-'));
  const clean = () => fs.rmSync(dir, { recursive: true, force: true });
  // A stopped bench leaves no gigabytes and no servers behind. It hears of Ctrl-C once a program that
  // it waits for has ended.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      killAll();
      clean();
      process.exit(130);
    });
  }
  try {
    // Without a package.json beside it a script is CommonJS, as the command is when it is installed.
    const [kage, library] = ['kage.js', 'index.mjs'].map((name) => {
      const copy = path.join(dir, name);
      fs.copyFileSync(path.join(options.root, 'dist', name), copy);
      return copy;
    });
    const { code } = options;
    const place = { dir, kage, library, code, smoke, runtimes: findRuntimes(options.root) };
    const versions = [...PEERS, ...SERVER_PEERS].map((peer) => [
      peer,
      versionOf(peer) ?? 'not installed',
    ]);
    const { commit } = header('');
    const results: Results = {
      machine: machine(dir, place.runtimes, Object.fromEntries(versions), commit),
      smoke,
      entries: [],
      absences: [],
      ratios: [],
    };
    for (const { name, run } of wanted) {
      const began = performance.now();
      process.stderr.write(`${name} … `);
      try {
        const { entries, absences } = await run(place);
        results.entries.push(...entries);
        results.absences.push(...(absences ?? []));
      } catch (error) {
        // The minutes that the others took are not lost; but this is no result to keep.
        process.exitCode = 1;
        console.error(error);
      }
      process.stderr.write(`${((performance.now() - began) / 1000).toFixed(1)} s\n`);
    }
    results.ratios = ratiosOf(results.entries);
    console.log(plain(results));
    if (out !== undefined && process.exitCode !== 1) write(out, results);
  } finally {
    clean();
  }
}

function write(out: string, results: Results): void {
  fs.mkdirSync(out, { recursive: true });
  fs.writeFileSync(path.join(out, 'results.json'), `${JSON.stringify(results, null, 2)}\n`);
  fs.writeFileSync(path.join(out, 'results.md'), markdown(results));
  fs.writeFileSync(path.join(out, 'results.svg'), picture(results));
}

/** The kernel bench on every runtime; the works that have floors under their own names. */
function kernel({ code, smoke, runtimes }: Place): { entries: Entry[] } {
  const names: Record<string, string> = {
    'kernel/diff-hot': WORKS.diffHot,
    'kernel/diff-large': WORKS.diffLarge,
  };
  const entries = runtimes.flatMap(({ name: runtime, command }) => {
    const text = runProgram([...command, `${code}/kernel.mjs`, ...(smoke ? ['--smoke'] : [])]);
    const { rows }: { rows: Row[] } = JSON.parse(text);
    return rows.map(({ bench, row, unit, value, min, median, reps, params }): Entry => {
      const { checksum, ...rest } = params;
      return {
        work: names[bench] ?? bench,
        runtime,
        name: row,
        unit,
        best: value,
        median: (value * min) / median,
        rounds: reps,
        checksum: `${checksum}`,
        params: rest,
      };
    });
  });
  return { entries };
}
