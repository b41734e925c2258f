/**
 * Measures lines that do the same work side by side, and nothing more: no statistics beyond minimum
 * and median, no alarm. Runs bundled on Node, Deno and Bun.
 *
 * The lines of one bench take turns within each round, in rotating order, so that a busy moment of
 * the machine hits all of them. All must give the same checksum: nobody gets faster by doing less.
 */
import { execFileSync } from 'node:child_process';
import os from 'node:os';

/** A parameter has a value that keeps the bench from rotting and one that measures. */
export interface Parameter<T> {
  smoke: T;
  real: T;
}

export interface Options {
  smoke: boolean;
}

export interface Line {
  row: string;
  /** The work once. Its effect must not depend on how often it ran before. */
  run(): void;
  /** The result of the last run: equal for all lines of a bench. */
  checksum(): string | number;
}

export interface Bench {
  /** `<layer>/<thing>`. */
  bench: string;
  /** Bytes of input that one run goes through. */
  bytes: number;
  params: Record<string, string | number>;
  lines: Line[];
}

export interface Row {
  bench: string;
  row: string;
  unit: 'GB/s';
  /** 10^9 bytes a second, from the fastest round: what a busy machine disturbs least. */
  value: number;
  /** Milliseconds of one run, the fastest round. */
  min: number;
  /** Milliseconds of one run, the middle round. */
  median: number;
  /** Rounds measured, each of as many runs as fill a few milliseconds. */
  reps: number;
  params: Record<string, string | number>;
}

export interface Header {
  cpu: string;
  cores: number;
  runtime: string;
  version: string;
  kernel: string;
  commit: string;
}

/** Long enough for every engine to have compiled a hot loop for the last time. */
const WARM_UP_MS: Parameter<number> = { smoke: 0, real: 400 };
/** Short, so that some batches fall between two interruptions. */
const BATCH_MS: Parameter<number> = { smoke: 0, real: 4 };
const ROUNDS: Parameter<number> = { smoke: 2, real: 60 };
/** A slow line leaves the rounds after this time, but not before it had five turns. */
const LINE_MS: Parameter<number> = { smoke: 0, real: 400 };
const LINE_ROUNDS_MIN = 5;

export function pick<T>(parameter: Parameter<T>, options: Options): T {
  return options.smoke ? parameter.smoke : parameter.real;
}

/** Noise from a fixed seed: the same bytes on every machine and at every run. */
export function fillNoise(bytes: Uint8Array, seed: number): void {
  let state = seed | 1;
  for (let i = 0; i < bytes.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
}

/** Runs the line `runs` times; returns milliseconds in all. */
function time(line: Line, runs: number): number {
  const started = performance.now();
  for (let i = 0; i < runs; i++) line.run();
  return performance.now() - started;
}

/** Warms a line up and returns how many of its runs make a batch. */
function warmUp(line: Line, options: Options): number {
  const until = performance.now() + pick(WARM_UP_MS, options);
  let last = 0;
  do last = time(line, 1);
  while (performance.now() < until);
  return Math.max(1, Math.round(pick(BATCH_MS, options) / Math.max(last, 0.0001)));
}

export function measure(bench: Bench, options: Options): Row[] {
  const { lines, params } = bench;
  const runs = lines.map((line) => warmUp(line, options));
  const checksums = lines.map((line) => `${line.checksum()}`);
  lines.forEach(({ row }, i) => {
    if (checksums[i] === checksums[0]) return;
    throw new Error(`${bench.bench}: ${row} gives ${checksums[i]}, not ${checksums[0]}`);
  });
  const times: number[][] = lines.map(() => []);
  const spent = lines.map(() => 0);
  const rounds = pick(ROUNDS, options);
  const lineMs = pick(LINE_MS, options);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < lines.length; turn++) {
      const i = (turn + round) % lines.length;
      if (spent[i] > lineMs && times[i].length >= LINE_ROUNDS_MIN) continue;
      const elapsed = time(lines[i], runs[i]);
      spent[i] += elapsed;
      times[i].push(elapsed / runs[i]);
    }
  }
  return lines.map(({ row }, i) => {
    const sorted = times[i].sort((x, y) => x - y);
    return {
      bench: bench.bench,
      row,
      unit: 'GB/s',
      value: bench.bytes / sorted[0] / 1e6,
      min: sorted[0],
      median: sorted[Math.floor(sorted.length / 2)],
      reps: sorted.length,
      params: { ...params, checksum: checksums[i] },
    };
  });
}

function commitHash(): string {
  try {
    const git = ['describe', '--always', '--dirty', '--abbrev=12'];
    return execFileSync('git', git, { stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim();
  } catch {
    return 'unknown';
  }
}

/** What a figure has to be quoted with. `kernel`: the kind that ran, or all of them. */
export function header(kernel: string): Header {
  const { bun, deno, node } = process.versions;
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model.trim() ?? 'unknown',
    cores: cpus.length,
    runtime: deno ? 'deno' : bun ? 'bun' : 'node',
    version: deno ?? bun ?? node,
    kernel,
    commit: commitHash(),
  };
}
