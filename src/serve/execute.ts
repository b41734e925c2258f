/** Edge: runs a command with our streams and our folder, as a shell would, and gives its exit status. */

import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { errnoOf } from '../base/errors.ts';
import { startProgram } from './children.ts';

/** What a shell answers when it cannot start a command. */
const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;

export type Signal = 'SIGINT' | 'SIGTERM';

/**
 * `variables` are added to ours. `onStart` gets the function that passes a signal on. Resolves to the
 * exit status, 128 + N for a command that ended by signal N.
 */
export async function execute(
  [command, ...args]: readonly string[],
  variables: Readonly<Record<string, string>>,
  onStart: (pass: (signal: Signal) => void) => void,
): Promise<{ status: number; problem?: string }> {
  return await new Promise((resolve) => {
    const failed = (error: unknown) => {
      const status = errnoOf(error) === 'ENOENT' ? NOT_FOUND : NOT_EXECUTABLE;
      const message = error instanceof Error ? error.message : String(error);
      const problem = errnoOf(error) === 'ENOENT' ? 'no such command' : errnoOf(error) || message;
      resolve({ status, problem: `${command}: ${problem}` });
    };
    try {
      const env = { ...process.env, ...variables };
      const child = startProgram(command, args, { env, stdio: 'inherit' });
      child.on('error', failed);
      child.on('exit', (status, signal) => {
        const number = signal === null ? 0 : constants.signals[signal];
        resolve({ status: status ?? 128 + number });
      });
      onStart((signal) => {
        if (signal === 'SIGINT' && isTyped()) return;
        try {
          // Deno takes `child.kill` for the cause of the end, whatever the command makes of the signal.
          process.kill(child.pid!, signal);
        } catch {
          // It has just ended by itself.
        }
      });
    } catch (error) {
      failed(error);
    }
  });
}

/**
 * Ctrl-C on a terminal goes to all that run in its foreground, and so to the command already: a second
 * one would tell many programs to give up at once.
 */
function isTyped(): boolean {
  try {
    // The name, in brackets, may hold anything; behind it: state, parent, group, session, terminal, its group.
    const facts = readFileSync('/proc/self/stat', 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const [, , group, , terminal, foreground] = facts;
    return terminal !== '0' && group === foreground;
  } catch {
    return false;
  }
}
