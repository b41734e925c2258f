/** Edge: what the system tells of mounts, loop devices and open files. What it does not tell is unknown. */

import fs from 'node:fs/promises';
import path from 'node:path';

export type Mount = { readonly point: string; readonly source: string };

/** Mounts at a path and below it, in the order in which they were made. */
export async function mountsBelow(folder: string): Promise<Mount[]> {
  const inside = (point: string) => point === folder || point.startsWith(`${folder}/`);
  return (await allMounts()).filter(({ point }) => inside(point));
}

async function allMounts(): Promise<Mount[]> {
  const text = await read('/proc/self/mountinfo');
  return text.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ');
    const point = before.split(' ')[4];
    const source = after?.split(' ')[1];
    return source === undefined ? [] : [{ point: plain(point), source: plain(source) }];
  });
}

/** Blanks and backslashes are written as octal numbers there. */
function plain(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** The file behind a loop device; undefined for whatever is none. */
export async function backedBy(device: string): Promise<string | undefined> {
  const name = /^\/dev\/(loop\d+)$/.exec(device)?.[1];
  if (name === undefined) return undefined;
  return (await read(`/sys/block/${name}/loop/backing_file`)).trim() || undefined;
}

/** Who has a file open, for people: where it is mounted, else a process; undefined: nobody knows. */
export async function whoUses(file: string): Promise<string | undefined> {
  for (const name of await namesIn('/sys/block')) {
    if ((await backedBy(`/dev/${name}`)) !== file) continue;
    const mount = (await allMounts()).find(({ source }) => source === `/dev/${name}`);
    return mount === undefined ? `/dev/${name} is on it` : `it is mounted on ${mount.point}`;
  }
  for (const pid of (await namesIn('/proc')).filter((n) => /^\d+$/.test(n))) {
    for (const fd of await namesIn(`/proc/${pid}/fd`)) {
      const target = await fs.readlink(path.join('/proc', pid, 'fd', fd)).catch(() => '');
      if (target !== file) continue;
      return `${(await read(`/proc/${pid}/comm`)).trim()} (process ${pid}) has it open`;
    }
  }
  return undefined;
}

async function read(file: string): Promise<string> {
  return await fs.readFile(file, 'utf8').catch(() => '');
}

async function namesIn(folder: string): Promise<string[]> {
  return await fs.readdir(folder).catch(() => []);
}
