/** What works over NBD need from the machine; a work that lacks something is left out by name. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { SIDES } from '../report/floors.ts';
import type { Absence, Entry } from '../report/result.ts';
import { cleanEnv } from '../runtimes.ts';

export type Outcome = { entries: Entry[]; absences: Absence[] };

const succeeds = (...command: readonly string[]) =>
  spawnSync(command[0], command.slice(1), { env: cleanEnv(), stdio: 'ignore' }).status === 0;

const NEEDS = {
  'fio with its nbd engine': () => succeeds('fio', '--enghelp=nbd'),
  'nbdkit with its delay filter': () =>
    succeeds('nbdkit', '--filter=delay', '--dump-plugin', 'memory'),
  nbdfuse: () => succeeds('nbdfuse', '--version'),
  '/dev/fuse': () => fs.existsSync('/dev/fuse'),
  'accounting in /proc': () => fs.existsSync('/proc/self/io'),
} as const;

export type Need = keyof typeof NEEDS;

export const FIO = 'fio with its nbd engine';

/** Runs `work` if everything is here, else says what is not. */
export async function needing(
  needs: readonly Need[],
  works: readonly string[],
  work: () => Promise<Outcome>,
): Promise<Outcome> {
  const missing = needs.filter((need) => !NEEDS[need]());
  return missing.length === 0 ? await work() : leftOut(works, `not here: ${missing.join(', ')}`);
}

export function leftOut(works: readonly string[], reason: string): Outcome {
  const absences = works.map((work) => ({ work, runtime: '', name: SIDES.all, reason }));
  return { entries: [], absences };
}
