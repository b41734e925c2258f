/** What a figure has to be quoted with: the machine, its systems and the versions of all that ran. */

import { readFileSync, realpathSync } from 'node:fs';
import os from 'node:os';
import type { Runtime } from '../runtimes.ts';

export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  system: string;
  /** Where the images lay. */
  fileSystem: string;
  runtimes: Record<string, string>;
  peers: Record<string, string>;
  commit: string;
  /** ISO 8601, UTC. */
  date: string;
  /** Processes wanting a core, over the last minute: above 0 at the start, somebody else worked. */
  loadAtStart: number;
}

export function machine(
  dir: string,
  runtimes: readonly Runtime[],
  peers: Record<string, string>,
  commit: string,
): Machine {
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model.trim() ?? 'unknown',
    cores: cpus.length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    fileSystem: fileSystemOf(dir),
    runtimes: Object.fromEntries(runtimes.map(({ name, version }) => [name, version])),
    peers,
    commit,
    date: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
    loadAtStart: Math.round(os.loadavg()[0] * 100) / 100,
  };
}

/** Type of the mount that holds `dir`; the longest mount point that is a prefix of it. */
function fileSystemOf(dir: string): string {
  const real = `${realpathSync(dir)}/`;
  let best = { point: '', type: 'unknown' };
  try {
    for (const line of readFileSync('/proc/mounts', 'utf8').split('\n')) {
      const [, point, type] = line.split(' ');
      if (point === undefined || point.length < best.point.length) continue;
      if (real.startsWith(point === '/' ? '/' : `${point}/`)) best = { point, type };
    }
  } catch {
    // Not Linux: unknown it is.
  }
  return best.type;
}
