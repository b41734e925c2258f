/**
 * Whole programs side by side: the contenders of a work take turns within each round, in rotating
 * order, so that a busy moment of the machine hits all of them. Minimum and median, no more.
 */

import type { Entry } from './report/result.ts';

export interface Contender {
  name: string;
  /** The work once, to the end; throws when it fails. `turn` counts over all contenders. */
  run(turn: number): void;
  /** Checksum of what its last run left behind; without it nothing is compared. */
  checksum?(turn: number): string;
}

export interface Work {
  work: string;
  runtime: string;
  rounds: number;
  params: Record<string, string | number>;
  contenders: readonly Contender[];
  /** Before each run, not timed. */
  before?(): void;
}

/** Throws when contenders leave different things behind: nobody gets faster by doing less. */
export function takeTurns(work: Work): Entry[] {
  const { contenders, rounds } = work;
  const times: number[][] = contenders.map(() => []);
  const checksums: string[] = contenders.map(() => '');
  let turn = 0;
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < contenders.length; i++) {
      const at = (i + round) % contenders.length;
      work.before?.();
      const began = performance.now();
      contenders[at].run(turn);
      times[at].push(performance.now() - began);
      if (round === rounds - 1) checksums[at] = contenders[at].checksum?.(turn) ?? '';
      turn++;
    }
  }
  contenders.forEach(({ name, checksum }, i) => {
    if (checksum === undefined || checksums[i] === checksums[0]) return;
    throw new Error(`${work.work}: ${name} leaves ${checksums[i]}, not ${checksums[0]}`);
  });
  return contenders.map(({ name }, i) => entryOf(work, name, times[i], checksums[i]));
}

export function entryOf(
  { work, runtime, params }: Pick<Work, 'work' | 'runtime' | 'params'>,
  name: string,
  times: readonly number[],
  checksum: string,
): Entry {
  const sorted = [...times].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const rounds = sorted.length;
  return { work, runtime, name, unit: 'ms', best: sorted[0], median, rounds, checksum, params };
}
