/**
 * Whole programs side by side: the contenders of a work take turns within each round, in rotating
 * order, so that a busy moment of the machine hits all of them. Minimum and median, no more.
 */

import { type Entry, isRate, type Unit } from './report/result.ts';

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
  values: readonly number[],
  checksum: string,
  unit: Unit = 'ms',
): Entry {
  const sorted = [...values].sort((a, b) => (isRate(unit) ? b - a : a - b));
  const rounds = sorted.length;
  return {
    work,
    runtime,
    name,
    unit,
    best: sorted[0],
    median: medianOf(values),
    rounds,
    checksum,
    params,
  };
}

export function medianOf(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** What a contender found out by itself, and figures that are shown beside it (their medians). */
export interface Figure {
  work: string;
  unit: Unit;
  value: number;
  beside?: Readonly<Record<string, number>>;
}

/** A contender that measures: one that is a server, and is asked by a client that counts. */
export interface Meter {
  name: string;
  runtime: string;
  /** The same works each time. */
  measure(): Promise<readonly Figure[]>;
}

/** As `takeTurns`, for meters. `before`: before each turn, in nobody's time. */
export async function measureInTurns(
  meters: readonly Meter[],
  options: {
    rounds: number;
    params?: Record<string, string | number>;
    before?: () => void | Promise<void>;
    /** All of a round at once, where the figures mean nothing. */
    smoke?: boolean;
  },
): Promise<Entry[]> {
  const found: Figure[][] = meters.map(() => []);
  const turn = async (at: number) => {
    await options.before?.();
    found[at].push(...(await meters[at].measure()));
  };
  for (let round = 0; round < options.rounds; round++) {
    if (options.smoke) await Promise.all(meters.map((_, i) => turn(i)));
    else for (let i = 0; i < meters.length; i++) await turn((i + round) % meters.length);
  }
  return meters.flatMap(({ name, runtime }, i) => {
    const works = [...new Set(found[i].map(({ work }) => work))];
    return works.map((work) => {
      const figures = found[i].filter((figure) => figure.work === work);
      const params = { ...options.params, ...mediansBeside(figures) };
      const values = figures.map(({ value }) => value);
      return entryOf({ work, runtime, params }, name, values, '', figures[0].unit);
    });
  });
}

function mediansBeside(figures: readonly Figure[]): Record<string, number> {
  const names = Object.keys(figures[0].beside ?? {});
  return Object.fromEntries(
    names.map((name) => [name, medianOf(figures.map(({ beside }) => beside![name]))]),
  );
}
