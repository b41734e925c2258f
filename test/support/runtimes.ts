/** The runtimes that are here: Node runs the tests, Deno and Bun come with the packages. */

import { spawnSync } from 'node:child_process';
import { BUN, DENO, NODE, type Runtime } from './world.ts';

export type NamedRuntime = { readonly name: 'Node' | 'Deno' | 'Bun'; readonly command: Runtime };

const ALL: readonly NamedRuntime[] = [
  { name: 'Node', command: NODE },
  { name: 'Deno', command: DENO },
  { name: 'Bun', command: BUN },
];

/** Those that start; the others are named in a line that the test runner shows. */
export const RUNTIMES: readonly NamedRuntime[] = ALL.filter(({ name, command }) => {
  const starts = spawnSync(command[0], ['--version']).status === 0;
  if (!starts) console.log(`SKIP ${name}: ${command[0]} does not start here`);
  return starts;
});

export function runtime(name: NamedRuntime['name']): NamedRuntime | undefined {
  return RUNTIMES.find((r) => r.name === name);
}
