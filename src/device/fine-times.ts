/**
 * Times of a file to the nanosecond where the runtime rounds them: Deno gives change times in whole
 * seconds. There `stat` of coreutils is asked, if this process may run it.
 */

const STAT = '/usr/bin/stat';

export type Times = { readonly mtimeNs: bigint; readonly ctimeNs: bigint };

/** The part of Deno that is used. Its `child_process` would want to read the whole environment. */
type DenoLike = {
  permissions: { querySync(query: { name: 'run'; command: string }): { state: string } };
  Command: new (
    command: string,
    options: { args: string[]; clearEnv: boolean; stdout: 'piped'; stderr: 'null' },
  ) => { outputSync(): { stdout: Uint8Array } };
};

/** The same times, finer if that can be had; unchanged when the file is another one by now. */
export function fineTimes(file: string, stat: Times & { readonly ino: bigint }): Times {
  const deno = (globalThis as { Deno?: DenoLike }).Deno;
  if (deno === undefined) return stat;
  const match = /^(\d+) (\d+)\.(\d{9}) (\d+)\.(\d{9})\n$/.exec(ask(deno, file));
  if (match === null) return stat;
  const [ino, mtimeNs, ctimeNs] = [match[1], match[2] + match[3], match[4] + match[5]].map(BigInt);
  const same =
    ino === stat.ino &&
    mtimeNs / 1_000_000n === stat.mtimeNs / 1_000_000n &&
    ctimeNs / 1_000_000_000n === stat.ctimeNs / 1_000_000_000n;
  return same ? { mtimeNs, ctimeNs } : stat;
}

/** What `stat` says, or nothing. The right is looked up first: to try without it asks the user. */
function ask(deno: DenoLike, file: string): string {
  try {
    if (deno.permissions.querySync({ name: 'run', command: STAT }).state !== 'granted') return '';
    const args = ['-L', '-c', '%i %.9Y %.9Z', '--', file];
    const options = { args, clearEnv: true, stdout: 'piped', stderr: 'null' } as const;
    return new TextDecoder().decode(new deno.Command(STAT, options).outputSync().stdout);
  } catch {
    return '';
  }
}
