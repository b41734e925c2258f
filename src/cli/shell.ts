/**
 * Edge: commands of the user in `/bin/sh`, each in a process group of its own, with the environment,
 * the folder and the rights of this process. What they print goes to standard error, for standard output
 * is for results; they read nothing.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { KageError } from '../base/errors.ts';
import type { Shell, ShellCommand, ShellVariables } from './environment.ts';
import { descendantsOf, type Relative, runs } from './family.ts';

/** What a command gets to end by itself when it is told to, ms. */
const GRACE_MS = 2000;
/** How often it is looked whether all that it has started has ended, ms. */
const LOOK_MS = 20;
const IO: ['ignore', number, number] = ['ignore', 2, 2];

export const shell: Shell = {
  start(text, variables) {
    try {
      const words = wordsOf(text, variables);
      return commandOf(spawn('/bin/sh', words, { detached: true, stdio: IO }));
    } catch (error) {
      // Deno without the right to run it.
      throw new KageError('failed', `${text}: cannot be run: ${(error as Error).message}`);
    }
  },

  runNow(text, variables, limitMs) {
    spawnSync('/bin/sh', wordsOf(text, variables), { stdio: IO, timeout: limitMs });
  },

  atEnd(work) {
    const ignore = () => {};
    process.on('exit', work);
    // A terminal that goes away is no reason to leave the work undone.
    process.on('SIGHUP', ignore);
    return () => {
      process.removeListener('exit', work);
      process.removeListener('SIGHUP', ignore);
    };
  },
};

/** The variables are set by a shell in between: to add them here, all of the others had to be read. */
function wordsOf(text: string, variables: ShellVariables): string[] {
  const names = Object.keys(variables);
  const sets = names.map((name, i) => `${name}="$${i + 1}"`).join(' ');
  return ['-c', `export ${sets}; exec /bin/sh -c "$0"`, text, ...Object.values(variables)];
}

function commandOf(child: ChildProcess): ShellCommand {
  const timers: ReturnType<typeof setTimeout>[] = [];
  let over = (_problem?: string) => {};
  let isOver = false;
  const ended = new Promise<string | undefined>((resolve) => {
    over = (problem) => {
      isOver = true;
      for (const timer of timers) clearTimeout(timer);
      resolve(problem);
    };
  });
  child.once('error', (error) => over(`cannot be run: ${error.message}`));
  // Not `close`: what it leaves in the background may keep its descriptors open.
  child.once('exit', (status, signal) => {
    const how = signal === null ? `ended with status ${status}` : `was ended by ${signal}`;
    const problem = status === 0 ? undefined : how;
    if (started.length === 0) over(problem);
    else timers.push(setInterval(() => started.some(runs) || over(problem), LOOK_MS));
  });
  /** Of a command that was told to end: what it had started. */
  let started: readonly Relative[] = [];
  const send = (signal: 'SIGTERM' | 'SIGKILL') => {
    if (isOver || child.pid === undefined) return;
    const known = new Map(descendantsOf(child.pid).map((one) => [one.pid, one]));
    for (const one of started) if (runs(one)) known.set(one.pid, one);
    started = [...known.values()];
    for (const pid of [-child.pid, ...known.keys()]) {
      try {
        process.kill(pid, signal);
      } catch {
        // It has ended, and we shall hear of it.
      }
    }
  };
  return {
    ended,
    stop() {
      if (isOver || timers.length > 0) return;
      send('SIGTERM');
      timers.push(setTimeout(() => send('SIGKILL'), GRACE_MS));
      // A command may hang in the kernel.
      timers.push(setTimeout(() => over('does not end'), 1.5 * GRACE_MS));
    },
    kill: () => send('SIGKILL'),
  };
}
