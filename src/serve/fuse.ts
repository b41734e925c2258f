/**
 * Edge: volumes as files `DIR/CLASS/dsk/VOLUME`, each shown by a process `nbdfuse` of its own. What has
 * that path is a link to a file below `DIR/.kage`: while the volume is away it leads nowhere, so that
 * nobody writes into a plain file by mistake. A file that somebody has open, or mounted by a loop
 * device, cannot be unmounted: that is how the system tells whether a device is in use.
 */

import { spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, KageError } from '../base/errors.ts';
import { startProgram } from './children.ts';
import { backedBy, mountsBelow, whoUses } from './mounts.ts';

/** Of our mounts, in `/proc/self/mountinfo` and `df`: how those that a dead server left are known. */
const MOUNT_NAME = 'kagemusha';
/** From the start of `nbdfuse` until its file is there, ms. */
const MOUNT_MS = 20_000;
/** A device that somebody has just closed is tried again for so long, ms. */
const BUSY_MS = 500;
/** From the unmount until `nbdfuse` has ended, ms. */
const END_MS = 10_000;
/** Names below which the manual has block and raw devices; here they are the same. */
const KINDS = ['dsk', 'rdsk'] as const;

/** A volume that is there as a file. */
export type Device = {
  /** `DIR/CLASS/dsk/VOLUME` */
  readonly path: string;
  /** Takes it away, unless somebody has it open: then says who, and all stays as it is. */
  unmount(): Promise<string | undefined>;
  /** Takes it away from everybody: those who have it open get I/O errors. */
  detach(): Promise<void>;
};

/** The folder of all devices of one server. */
export type DeviceFolder = {
  /** Absolute, without links. */
  readonly path: string;
  /** For the socket that `nbdfuse` connects to; whoever listens there has the folder. */
  readonly socket: string;
  /** Takes away what a dead server left. To be called by the one that has the folder. */
  clean(): Promise<void>;
  /** Resolves when the file can be opened. `lost`: it went away without being asked to. */
  mount(name: string, uri: string, lost: Lost): Promise<Device>;
  /** `CLASS/VOLUME` leads nowhere any more. */
  unlink(name: string): Promise<void>;
  /** A file, or a loop device, behind which one of these devices is. */
  holds(image: string): Promise<boolean>;
  /** Removes what is left of the folder's content, and the folder if it was made for this. */
  close(): Promise<void>;
};

/** Throws `not-permitted` when there can be no devices in `dir`, which is made if it is missing. */
export async function openDeviceFolder(dir: string): Promise<DeviceFolder> {
  for (const tool of ['nbdfuse', 'fusermount3']) await requireTool(tool);
  await fs.access('/dev/fuse', fs.constants.R_OK | fs.constants.W_OK).catch((error) => {
    throw notPermitted(`/dev/fuse cannot be opened: ${reasonOf(error)}`, 'devices need FUSE');
  });
  const made = await makeFolders(dir);
  const top = await fs.realpath(dir);
  const below = path.join(top, '.kage');
  const place = (name: string) => path.join(below, name);
  const links = (name: string) => {
    const [className, volume] = name.split('/');
    return KINDS.map((kind) => path.join(top, className, kind, volume));
  };
  /** One at a time: who leaves a folder empty removes it, and not under the feet of who comes. */
  let turns: Promise<unknown> = Promise.resolve();
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const result = turns.then(work);
    turns = result.catch(() => {});
    return result;
  };
  return {
    path: top,
    socket: path.join(below, 'nbd.sock'),
    async clean() {
      for (const { point, source } of (await mountsBelow(below)).reverse()) {
        if (source !== MOUNT_NAME) {
          throw notPermitted(`${point}: something else is mounted there`, 'choose another folder');
        }
        await run('fusermount3', '-u', '-z', point);
      }
      await removeLinks(top);
      await removeFolders(below, 2);
    },
    async mount(name, uri, lost) {
      const at = place(name);
      const file = path.join(at, path.basename(name));
      await inTurn(() => makePoint(at));
      try {
        const nbdfuse = startNbdfuse(file, uri);
        await shown(file, nbdfuse);
        const device = deviceOf(links(name)[0], file, nbdfuse, lost);
        for (const link of links(name)) {
          await inTurn(() => makeLink(link, file)).catch(async (error) => {
            await device.detach();
            throw error;
          });
        }
        return device;
      } catch (error) {
        await fs.rmdir(at).catch(() => {});
        throw error;
      }
    },
    unlink: (name) =>
      inTurn(async () => {
        for (const link of links(name)) {
          if (await isOurLink(link)) await fs.unlink(link).catch(() => {});
          await fs.rmdir(path.dirname(link)).catch(() => {});
        }
        await fs.rmdir(path.join(top, path.dirname(name))).catch(() => {});
        await fs.rmdir(path.dirname(place(name))).catch(() => {});
      }),
    async holds(image) {
      const behind = await backedBy(image);
      return [image, behind].some((file) => file?.startsWith(`${top}${path.sep}`));
    },
    async close() {
      await removeLinks(top);
      await removeFolders(below, 2);
      for (const folder of made.reverse()) await fs.rmdir(folder).catch(() => {});
    },
  };
}

/** Makes the folder and the hidden one in it; those that had to be made, outermost first. */
async function makeFolders(dir: string): Promise<string[]> {
  try {
    const made: string[] = [];
    const first = await fs.mkdir(dir, { recursive: true });
    const whole = path.resolve(dir);
    for (let at = whole; first !== undefined; at = path.dirname(at)) {
      made.unshift(at);
      if (at === first || at === path.dirname(at)) break;
    }
    await fs.mkdir(path.join(whole, '.kage'), { mode: 0o700 }).catch((error) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
    await fs.access(path.join(whole, '.kage'), fs.constants.W_OK | fs.constants.X_OK);
    return made;
  } catch (error) {
    throw notPermitted(`${dir}: cannot be a folder of devices: ${reasonOf(error)}`);
  }
}

async function requireTool(tool: string): Promise<void> {
  const { missing } = await run(tool, '--version');
  if (missing === undefined) return;
  const hint = 'devices need nbdfuse (libnbd) and fusermount3 (FUSE 3) on the PATH';
  throw notPermitted(`${tool} cannot be started: ${missing}`, hint);
}

type Lost = (why: string) => void;

type Nbdfuse = {
  readonly ended: Promise<void>;
  /** Why it has ended; undefined: it runs. */
  why(): string | undefined;
  /** From now on called when it ends, unless that is expected. */
  onEnd: Lost | undefined;
  kill(): void;
};

/** In a session of its own: Ctrl-C, which goes to all of ours, must not unmount what is in use. */
function startNbdfuse(file: string, uri: string): Nbdfuse {
  const options = ['-o', `fsname=${MOUNT_NAME}`, '-o', 'umask=0177'];
  const child = startProgram('nbdfuse', [...options, file, uri], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  let said = '';
  child.stderr!.on('data', (data) => {
    said = `${said}${data}`.slice(-1000);
  });
  let why: string | undefined;
  let resolve = () => {};
  const nbdfuse: Nbdfuse = {
    ended: new Promise((done) => {
      resolve = done;
    }),
    why: () => why,
    onEnd: undefined,
    kill: () => void child.kill('SIGKILL'),
  };
  const end = (how: string) => {
    if (why !== undefined) return;
    why = said.trim().split('\n').at(-1) || how;
    resolve();
    nbdfuse.onEnd?.(why);
  };
  child.on('error', (error) => end(reasonOf(error)));
  child.on('exit', (status, signal) => end(`nbdfuse ended (${signal ?? status})`));
  // It is no reason for this process to stay.
  child.unref();
  (child.stderr as { unref?: () => void }).unref?.();
  return nbdfuse;
}

/** Resolves when the file is there. Throws when it will not be. */
async function shown(file: string, nbdfuse: Nbdfuse): Promise<void> {
  const isThere = () =>
    fs.stat(file).then(
      () => true,
      () => false,
    );
  for (let left = MOUNT_MS; !(await isThere()); left -= 5) {
    const why = nbdfuse.why();
    if (why !== undefined) throw failed(file, why);
    if (left <= 0) {
      nbdfuse.kill();
      await run('fusermount3', '-u', '-z', path.dirname(file));
      throw failed(file, 'nbdfuse does not show it');
    }
    await sleep(5);
  }
}

function deviceOf(link: string, file: string, nbdfuse: Nbdfuse, lost: Lost): Device {
  const point = path.dirname(file);
  nbdfuse.onEnd = lost;
  const isMounted = async () => (await mountsBelow(point)).length > 0;
  const away = async () => {
    await within(END_MS, nbdfuse.ended);
    await fs.rmdir(point).catch(() => {});
    return undefined;
  };
  return {
    path: link,
    async unmount() {
      nbdfuse.onEnd = undefined;
      for (let left = BUSY_MS; ; left -= 50) {
        const { status, said } = await run('fusermount3', '-u', point);
        if (status === 0 || !(await isMounted())) return await away();
        if (left > 0) {
          await sleep(50);
          continue;
        }
        nbdfuse.onEnd = lost;
        return (await whoUses(file)) ?? said.replace(/^.*: /, '');
      }
    },
    async detach() {
      nbdfuse.onEnd = undefined;
      await run('fusermount3', '-u', '-z', point);
      await fs.rmdir(point).catch(() => {});
    },
  };
}

/** An empty folder to mount on. */
async function makePoint(at: string): Promise<void> {
  await fs.mkdir(path.dirname(at), { recursive: true });
  try {
    await fs.mkdir(at);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw failed(at, reasonOf(error));
    // One that could not be removed.
    const isFree = (await mountsBelow(at)).length === 0 && (await fs.rmdir(at).then(yes, no));
    if (!isFree) throw failed(at, 'something is in the way');
    await fs.mkdir(at);
  }
}

/** Relative, so that it holds wherever the folder is seen. */
async function makeLink(link: string, file: string): Promise<void> {
  const target = path.relative(path.dirname(link), file);
  await fs.mkdir(path.dirname(link), { recursive: true });
  try {
    await fs.symlink(target, link);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw failed(link, reasonOf(error));
    if ((await fs.readlink(link).catch(() => '')) === target) return;
    throw failed(link, 'something is in the way');
  }
}

async function isOurLink(link: string): Promise<boolean> {
  return (await fs.readlink(link).catch(() => '')).startsWith('../../.kage/');
}

/** All links of ours in `TOP/CLASS/dsk` and `rdsk`, and the folders that are empty then. */
async function removeLinks(top: string): Promise<void> {
  for (const className of await namesIn(top)) {
    if (className.startsWith('.')) continue;
    for (const kind of KINDS) {
      const folder = path.join(top, className, kind);
      for (const volume of await namesIn(folder)) {
        const link = path.join(folder, volume);
        if (await isOurLink(link)) await fs.unlink(link).catch(() => {});
      }
      await fs.rmdir(folder).catch(() => {});
    }
    await fs.rmdir(path.join(top, className)).catch(() => {});
  }
}

/** Empty folders only, so many levels of them: nothing that is mounted is entered. */
async function removeFolders(folder: string, levels: number): Promise<void> {
  for (const name of levels > 0 ? await namesIn(folder) : []) {
    await removeFolders(path.join(folder, name), levels - 1);
  }
  await fs.rmdir(folder).catch(() => {});
}

async function namesIn(folder: string): Promise<string[]> {
  return await fs.readdir(folder).catch(() => []);
}

type Ran = {
  readonly status: number | null;
  readonly said: string;
  /** Why it could not be started. */
  readonly missing: string | undefined;
};

function run(command: string, ...args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    const failedToStart = (error: unknown) =>
      resolve({ status: null, said: '', missing: reasonOf(error) });
    try {
      const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      let said = '';
      child.stderr.on('data', (data) => {
        said += data;
      });
      child.on('error', failedToStart);
      child.on('close', (status) => resolve({ status, said: said.trim(), missing: undefined }));
    } catch (error) {
      failedToStart(error);
    }
  });
}

function reasonOf(error: unknown): string {
  return errnoOf(error) || (error instanceof Error ? error.message : String(error));
}

function failed(file: string, why: string): KageError {
  return new KageError('failed', `${file}: ${why}`, { data: { path: file } });
}

function notPermitted(message: string, hint?: string): KageError {
  return new KageError('not-permitted', message, hint === undefined ? {} : { hint });
}

const yes = () => true;
const no = () => false;

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits, but not longer than that. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, limit]);
  clearTimeout(timer);
}
