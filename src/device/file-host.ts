/** The real world: images on file systems and block devices, the system clock, node's file calls. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { errnoOf, ioError, KageError } from '../base/errors.ts';
import type { BlockDevice } from './device.ts';
import { FileDevice, isSparse, probeSize } from './file.ts';
import { FileFolder, synced, syncFolder } from './file-folder.ts';
import { fineTimes } from './fine-times.ts';
import type { Folder, Host, ImageFacts, OpenOptions } from './host.ts';
import { PatientFile } from './patient-file.ts';
import { type Stamp, stampDelay } from './stamp.ts';

/** File systems that note every write, mapped ones too, in the times of the file (statfs magic). */
const RELIABLE: Readonly<Record<number, string>> = {
  61267: 'ext2/3/4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  801189825: 'zfs',
  4076150800: 'f2fs',
  3393526350: 'bcachefs',
};
const UNRELIABLE: Readonly<Record<number, string>> = {
  16914836: 'lies on tmpfs, which does not note writes through mapped memory',
  2240043254: 'lies on ramfs, which does not note writes through mapped memory',
  1702057286: 'lies on a FUSE file system, which need not note every write',
  16914839: 'lies on 9p, which does not note every write at once',
  26985: 'lies on NFS, which notes writes of other machines late',
  4283649346: 'lies on SMB, which notes writes of other machines late',
  2035054128: 'lies on an overlay, whose lower layer cannot be seen',
};

export class FileHost implements Host {
  readonly threads = true;
  #boot: string | null | undefined;

  now(): number {
    return Date.now();
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  randomId(): string {
    return Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex');
  }

  self(): { pid: number; machine: string | null } {
    try {
      return { pid: process.pid, machine: os.hostname() };
    } catch {
      return { pid: process.pid, machine: null };
    }
  }

  boot(): string | null {
    if (this.#boot === undefined) this.#boot = readText('/proc/sys/kernel/random/boot_id') ?? null;
    return this.#boot;
  }

  async resolve(file: string): Promise<string> {
    const absolute = path.resolve(file);
    const real = realPath(absolute);
    // /dev/dm-3 may be another volume after the next start, /dev/vg0/data is not.
    if (real !== undefined && (real === absolute || !isBlockDevice(real))) return real;
    const folder = realPath(path.dirname(absolute));
    return folder === undefined ? absolute : path.join(folder, path.basename(absolute));
  }

  async inspect(file: string): Promise<ImageFacts | undefined> {
    const resolved = await this.resolve(file);
    const stat = statOf(resolved);
    if (stat === undefined) return undefined;
    const kind = stat.isFile()
      ? 'file'
      : stat.isBlockDevice()
        ? 'block'
        : stat.isDirectory()
          ? 'directory'
          : 'other';
    // Opening a pipe would wait for its other end.
    const isImage = kind === 'file' || kind === 'block';
    const readable = isImage && opens(resolved, READ) === '';
    const size = kind === 'block' && readable ? blockSize(resolved) : Number(stat.size);
    return {
      path: resolved,
      kind,
      size,
      identity: kind === 'block' ? `block ${stat.rdev}` : `${stat.dev}:${stat.ino}`,
      behind: kind === 'block' ? behindLoop(stat.rdev) : undefined,
      readable,
      writable: isImage && opens(resolved, WRITE) === '',
      busy: kind === 'block' && opens(resolved, WRITE | fs.constants.O_EXCL) === 'EBUSY',
      allocated: kind === 'file' ? Number(stat.blocks) * 512 : size,
    };
  }

  async stamp(file: string, settle: boolean): Promise<Stamp> {
    let stamp = await this.#stampNow(file);
    const wait = settle ? stampDelay(stamp) : 0;
    if (wait > 0) {
      await this.sleep(wait);
      const again = await this.#stampNow(file);
      // Somebody wrote while we waited: that stamp is young again, and the next open will see it.
      if (again.ctime === stamp.ctime) stamp = again;
    }
    return stamp;
  }

  async openDevice(file: string, options: OpenOptions): Promise<BlockDevice> {
    const { readOnly, clients, written } = options;
    const own = { readOnly, direct: isSparse(file) };
    return clients
      ? new PatientFile(file, { ...own, clients, written })
      : new FileDevice(file, own);
  }

  async checkPlace(file: string): Promise<void> {
    const folder = path.dirname(file);
    const data = { path: file };
    if (!statOf(folder)?.isDirectory()) {
      throw new KageError('image-missing', `${file}: no such folder: ${folder}`, { data });
    }
    if (isLink(file)) {
      throw new KageError('image-exists', `${file}: is a link to nowhere`, { data });
    }
    if (!may(folder, fs.constants.W_OK | fs.constants.X_OK)) {
      throw new KageError('image-readonly', `${folder}: no permission to make a file in it`, {
        data,
      });
    }
  }

  async createImage(file: string, size: number): Promise<void> {
    let fd: number;
    try {
      fd = fs.openSync(file, 'wx', 0o600);
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') throw imageExists(file);
      throw ioError('making the image', file, error);
    }
    try {
      fs.ftruncateSync(fd, size);
      await synced(fd);
      await syncFolder(path.dirname(file));
    } catch (error) {
      fs.rmSync(file, { force: true });
      throw ioError('making the image', file, error);
    } finally {
      fs.closeSync(fd);
    }
  }

  async removeImage(file: string): Promise<void> {
    try {
      fs.unlinkSync(file);
      await syncFolder(path.dirname(file));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw ioError('removing the image', file, error);
    }
  }

  async renameImage(from: string, to: string): Promise<void> {
    try {
      if (fs.lstatSync(to, { throwIfNoEntry: false }) !== undefined) throw imageExists(to);
      fs.renameSync(from, to);
      await syncFolder(path.dirname(to));
    } catch (error) {
      throw ioError(`renaming it to ${to}`, from, error);
    }
  }

  async namesFrom(file: string): Promise<string[]> {
    const folder = path.dirname(file);
    try {
      const names = fs.readdirSync(folder).map((name) => path.join(folder, name));
      return names.filter((name) => name.startsWith(file)).sort();
    } catch (error) {
      throw ioError('listing', folder, error);
    }
  }

  hasOpen(pid: number, file: string): boolean {
    const descriptors = `/proc/${pid}/fd`;
    try {
      return fs.readdirSync(descriptors).some((fd) => linkAt(`${descriptors}/${fd}`) === file);
    } catch {
      return false; // It has ended, or is another user's.
    }
  }

  folder(folder: string): Folder {
    return new FileFolder(folder);
  }

  /** Mapped pages move the times only when they are synced: sync, then stat (DESIGN section 9). */
  async #stampNow(file: string): Promise<Stamp> {
    const stat = statOf(file);
    const data = { path: file };
    if (stat === undefined) throw new KageError('image-missing', `${file}: no such file`, { data });
    // Opening a pipe would wait for its other end.
    if (!stat.isFile() && !stat.isBlockDevice()) {
      throw new KageError('image-changed', `${file}: is no file and no block device any more`, {
        data,
      });
    }
    try {
      const fd = fs.openSync(file, 'r');
      try {
        await synced(fd);
        return await this.#stampOf(file, fs.fstatSync(fd, { bigint: true }), fd);
      } finally {
        fs.closeSync(fd);
      }
    } catch (error) {
      if (errnoOf(error) === 'EACCES' || errnoOf(error) === 'EPERM') {
        throw new KageError('image-unreadable', `${file}: no permission to read it`, { data });
      }
      throw ioError('reading the identity', file, error);
    }
  }

  async #stampOf(file: string, stat: fs.BigIntStats, fd: number): Promise<Stamp> {
    const { mtimeNs, ctimeNs } = fineTimes(file, stat);
    const common = {
      birth: String(stat.birthtimeNs),
      mtime: String(mtimeNs),
      ctime: String(ctimeNs),
      takenAt: this.now(),
      boot: this.boot(),
    };
    if (!stat.isBlockDevice()) {
      return {
        ...common,
        kind: 'file',
        id: String(stat.ino),
        size: Number(stat.size),
        unreliable: unreliableAt(file),
      };
    }
    const number = deviceNumber(stat.rdev);
    const loop = readText(`/sys/dev/block/${number}/loop/backing_file`);
    return {
      ...common,
      kind: 'block',
      id: number,
      size: probeSize(fd),
      writes: writeCounters(number),
      backing: loop === undefined ? undefined : await this.#stampNow(loop),
      serial: serialOf(number),
      sequence: readText(`/sys/dev/block/${number}/diskseq`),
      unreliable: null,
    };
  }
}

/** Identity of the file behind a loop device, as `inspect` would give it. */
function behindLoop(rdev: bigint): string | undefined {
  const file = readText(`/sys/dev/block/${deviceNumber(rdev)}/loop/backing_file`);
  const stat = file === undefined ? undefined : statOf(file);
  return stat && `${stat.dev}:${stat.ino}`;
}

function statOf(file: string): fs.BigIntStats | undefined {
  try {
    return fs.statSync(file, { bigint: true });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    if (errno === 'EACCES' || errno === 'EPERM') {
      throw new KageError('image-unreadable', `${file}: no permission to reach it`, {
        data: { path: file },
        cause: error,
      });
    }
    throw ioError('looking', file, error);
  }
}

const READ = fs.constants.O_RDONLY;
const WRITE = fs.constants.O_RDWR;

/**
 * '' or the error code. Opening asks the file system itself (and moves no times): rights, read-only
 * mounts, Deno's permissions. A block device that is opened exclusively must not be mounted.
 */
function opens(file: string, flags: number): string {
  try {
    fs.closeSync(fs.openSync(file, flags));
    return '';
  } catch (error) {
    return errnoOf(error) || 'denied';
  }
}

function imageExists(file: string): KageError {
  return new KageError('image-exists', `${file}: a file is there already`, {
    data: { path: file },
  });
}

/** What a symbolic link says; undefined where there is none (any more). */
function linkAt(file: string): string | undefined {
  try {
    return fs.readlinkSync(file);
  } catch {
    return undefined;
  }
}

function isLink(file: string): boolean {
  return fs.lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}

function realPath(file: string): string | undefined {
  try {
    return fs.realpathSync(file);
  } catch {
    return undefined;
  }
}

function isBlockDevice(file: string): boolean {
  try {
    return fs.statSync(file).isBlockDevice();
  } catch {
    return false;
  }
}

/** Whether the folder's mode allows it. A runtime that may not ask (Deno) is told when it tries. */
function may(folder: string, mode: number): boolean {
  try {
    fs.accessSync(folder, mode);
    return true;
  } catch (error) {
    return errnoOf(error) === '';
  }
}

function blockSize(file: string): number {
  const fd = fs.openSync(file, 'r');
  try {
    return probeSize(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function readText(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function unreliableAt(file: string): string | null {
  let type: number;
  try {
    type = Number(fs.statfsSync(file).type);
  } catch {
    return 'lies on a file system whose kind cannot be read here';
  }
  if (RELIABLE[type] !== undefined) return null;
  return (
    UNRELIABLE[type] ??
    `lies on file system 0x${type.toString(16)}, which is not known to note every write`
  );
}

/** Where the kernel shows what is unique to a device, by its kind. */
const SERIALS = ['dm/uuid', 'wwid', 'device/wwid', 'serial', 'device/serial', 'loop/offset'];

/** Serial number or uuid of a block device; of a partition with its number, if the disk has one. */
function serialOf(number: string): string | undefined {
  const folder = `/sys/dev/block/${number}`;
  const partition = readText(`${folder}/partition`);
  for (const name of SERIALS) {
    const text = readText(`${folder}/${partition === undefined ? name : `../${name}`}`);
    if (text) return `${name} ${text}${partition === undefined ? '' : ` part ${partition}`}`;
  }
  return undefined;
}

/** `major:minor` of a Linux device number. */
function deviceNumber(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/**
 * Sectors written, discards and sectors discarded of a block device (not the number of writes: every
 * sync counts as one). A partition is judged by its whole disk too, whose writes may land in it.
 */
function writeCounters(number: string): string | undefined {
  const own = readText(`/sys/dev/block/${number}/stat`);
  if (own === undefined) return undefined;
  const isPartition = readText(`/sys/dev/block/${number}/partition`) !== undefined;
  const whole = isPartition ? readText(`/sys/dev/block/${number}/../stat`) : undefined;
  if (isPartition && whole === undefined) return undefined;
  return [own, whole]
    .filter((text) => text !== undefined)
    .map((text) => {
      const field = text.split(/\s+/);
      return [field[6], field[11], field[13]].join(',');
    })
    .join(';');
}
