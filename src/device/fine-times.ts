/**
 * Times of a file to the nanosecond where the runtime rounds them: Deno gives change times in whole
 * seconds. There `stat` of coreutils is asked, if this process may run it.
 */

import { spawnSync } from 'node:child_process';

const STAT = '/usr/bin/stat';

export type Times = { readonly mtimeNs: bigint; readonly ctimeNs: bigint };

type DenoLike = {
  permissions?: { querySync?(query: { name: 'run'; command: string }): { state: string } };
};

/** The same times, finer if that can be had; unchanged when the file is another one by now. */
export function fineTimes(file: string, stat: Times & { readonly ino: bigint }): Times {
  if (!mayAsk()) return stat;
  const match = /^(\d+) (\d+)\.(\d{9}) (\d+)\.(\d{9})\n$/.exec(ask(file));
  if (match === null) return stat;
  const [ino, mtimeNs, ctimeNs] = [match[1], match[2] + match[3], match[4] + match[5]].map(BigInt);
  const same =
    ino === stat.ino &&
    mtimeNs / 1_000_000n === stat.mtimeNs / 1_000_000n &&
    ctimeNs / 1_000_000_000n === stat.ctimeNs / 1_000_000_000n;
  return same ? { mtimeNs, ctimeNs } : stat;
}

function ask(file: string): string {
  try {
    // An environment of its own: to hand on ours takes the right to read all of it.
    const options = { env: { LC_ALL: 'C' }, encoding: 'utf8' } as const;
    return spawnSync(STAT, ['-L', '-c', '%i %.9Y %.9Z', '--', file], options).stdout ?? '';
  } catch {
    return '';
  }
}

/** Only Deno rounds; looking without the permission would ask the user. */
function mayAsk(): boolean {
  const { permissions } = (globalThis as { Deno?: DenoLike }).Deno ?? {};
  try {
    return permissions?.querySync?.({ name: 'run', command: STAT }).state === 'granted';
  } catch {
    return false;
  }
}
