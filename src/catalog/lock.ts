/**
 * One process at a time, on any of the runtimes, without anything to clean up after a kill -9.
 *
 * A holder listens on a unix socket of its own (the kernel closes it when the process dies, however it
 * dies) and then claims `lock.N`, a file made together with its content, N above every epoch seen so
 * far. Whoever finds a lock file asks its socket: an answer means in use, a refusal means dead.
 * After claiming, the claimant looks again: if another living holder is there too, it steps
 * back. Both publish before they look, so at least one sees the other. The epoch also goes into
 * the catalog, so that a claimant who slept through somebody's whole session notices.
 */

import { KageError } from '../base/errors.ts';
import type { Folder, Host } from '../device/host.ts';

export type Holder = {
  readonly pid: number;
  readonly command: string;
  /** ms since 1970. */
  readonly since: number;
  readonly boot: string | null;
  readonly machine: string | null;
  readonly beacon: string;
};

export type Identity = Pick<Holder, 'pid' | 'command' | 'machine'>;

export type Lock = {
  readonly epoch: number;
  /** Throws `in-use` if the lock was taken over: another process found this one dead. */
  check(): Promise<void>;
  release(): Promise<void>;
};

const TRIES = 8;

/** Takes the lock of a folder. `lastEpoch` reads the epoch of the newest commit in it. */
export async function acquireLock(
  folder: Folder,
  host: Host,
  identity: Identity,
  lastEpoch: () => Promise<number>,
): Promise<Lock> {
  const beacon = `lock-${host.randomId()}.sock`;
  const putOut = await folder.beacon(beacon);
  try {
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const lock = await tryAcquire(folder, host, { ...identity, beacon }, putOut, lastEpoch);
      if (lock !== undefined) return lock;
      await host.sleep(5 + (Number.parseInt(host.randomId().slice(0, 4), 16) % 40));
    }
    throw inUse(folder, undefined);
  } catch (error) {
    await putOut();
    throw error;
  }
}

async function tryAcquire(
  folder: Folder,
  host: Host,
  identity: Identity & { beacon: string },
  putOut: () => Promise<void>,
  lastEpoch: () => Promise<number>,
): Promise<Lock | undefined> {
  const seen = await lockFiles(folder);
  for (const { name } of seen) {
    const holder = await readHolder(folder, name);
    if (holder !== undefined && (await lives(folder, host, holder, identity))) {
      throw inUse(folder, holder);
    }
  }
  const epoch = Math.max(await lastEpoch(), ...seen.map((file) => file.epoch)) + 1;
  const name = `lock.${epoch}`;
  const holder: Holder = { ...identity, since: host.now(), boot: host.boot() };
  const bytes = new TextEncoder().encode(`${JSON.stringify(holder, null, 1)}\n`);
  if (!(await folder.claim(name, bytes))) return undefined;
  for (const other of await lockFiles(folder)) {
    if (other.name === name) continue;
    const rival = await readHolder(folder, other.name);
    if (rival !== undefined && (await lives(folder, host, rival, identity))) {
      await folder.remove(name);
      return undefined;
    }
    await folder.remove(other.name);
    if (/^lock-\w+\.sock$/.test(rival?.beacon ?? '')) await folder.remove(rival!.beacon);
  }
  if ((await lastEpoch()) >= epoch) {
    await folder.remove(name);
    return undefined;
  }
  // Who is taken for dead must not sweep: by then another one may hold the lock.
  if (await folder.alive(identity.beacon)) await sweep(folder, identity.beacon);
  // Whoever swept while our socket was being made may have taken it for a dead one.
  if (!(await folder.alive(identity.beacon))) {
    await folder.remove(name);
    throw inUse(folder, undefined);
  }
  return {
    epoch,
    async check() {
      const now = await readHolder(folder, name);
      if (now?.beacon !== identity.beacon) throw inUse(folder, now);
    },
    async release() {
      await folder.remove(name);
      await putOut();
    },
  };
}

/** What processes left that were killed before they had claimed anything. */
async function sweep(folder: Folder, own: string): Promise<void> {
  for (const name of await folder.list()) {
    if (/^lock\.\d+\./.test(name)) await folder.remove(name);
    if (!/^lock-\w+\.sock$/.test(name) || name === own) continue;
    if (!(await folder.alive(name))) await folder.remove(name);
  }
}

/** The process that holds the lock of a folder now, if any. */
export async function currentHolder(folder: Folder): Promise<Holder | undefined> {
  for (const { name } of await lockFiles(folder)) {
    const holder = await readHolder(folder, name);
    if (holder !== undefined && (await folder.alive(holder.beacon))) return holder;
  }
  return undefined;
}

async function lives(
  folder: Folder,
  host: Host,
  holder: Holder,
  self: Pick<Holder, 'machine'>,
): Promise<boolean> {
  if (await folder.alive(holder.beacon)) return true;
  const otherBoot = holder.boot !== null && host.boot() !== null && holder.boot !== host.boot();
  const otherName =
    holder.machine !== null && self.machine !== null && holder.machine !== self.machine;
  if (!otherBoot || !otherName) return false;
  throw new KageError(
    'in-use',
    `${folder.path}: locked by process ${holder.pid} of another machine, ${holder.machine}, which cannot be asked from here`,
    { hint: `if that machine is gone, remove the file lock.* in that folder` },
  );
}

async function lockFiles(folder: Folder): Promise<{ name: string; epoch: number }[]> {
  const files = [];
  for (const name of await folder.list()) {
    const match = /^lock\.(\d+)$/.exec(name);
    if (match) files.push({ name, epoch: Number(match[1]) });
  }
  return files;
}

async function readHolder(folder: Folder, name: string): Promise<Holder | undefined> {
  const bytes = await folder.read(name);
  if (bytes === undefined) return undefined;
  try {
    const holder = JSON.parse(new TextDecoder().decode(bytes)) as Partial<Holder> | null;
    if (typeof holder?.beacon !== 'string') return undefined;
    return { boot: null, machine: null, ...holder } as Holder;
  } catch {
    return undefined;
  }
}

function inUse(folder: Folder, holder: Holder | undefined): KageError {
  const who = holder ? `process ${holder.pid} (${holder.command})` : 'another process';
  return new KageError('in-use', `${folder.path}: in use by ${who}`, {
    hint: 'wait until it has ended, or ask it to stop',
    data: holder ? { pid: holder.pid, command: holder.command } : {},
  });
}
