/**
 * Edge: programs that may outlive this process. They must not inherit its listening sockets, which hold
 * locks and say that a server lives; Deno's do not close by themselves when a program is started.
 */

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Closes all but the standard streams, then becomes the program. The plain shell cannot do that. */
const BASH = '/bin/bash';
const CLEAN = 'for fd in $(ls /proc/$$/fd); do ((fd > 2)) && eval "exec $fd>&-"; done; exec "$@"';

/** As `spawn` of the runtime; whatever happens is told by events. */
export function startProgram(
  command: string,
  args: readonly string[],
  options: SpawnOptions,
): ChildProcess {
  const leaks = 'Deno' in globalThis && existsSync(BASH);
  if (!leaks) return spawn(command, args, options);
  return spawn(BASH, ['-c', CLEAN, 'kage', command, ...args], options);
}
