/**
 * A file or block device with positional I/O straight between the disk and the given view, without a
 * copy in between. Reads and writes are synchronous system calls (on warm data three times the
 * speed of the asynchronous API of the runtimes); long work belongs in a worker thread, and what
 * clients wait for in a `PatientFile`. Only `flush` and what is called `Later` leave the thread.
 *
 * With `direct`, reads whose address, offset and length are multiples of 4096 pass the page cache:
 * in a sparse image a hole then costs a fill of the buffer and no page. Other reads take the cache.
 */

import fs from 'node:fs';
import { assert } from '../base/assert.ts';
import { ioError, KageError } from '../base/errors.ts';
import { type Descriptors, descriptorsOf, readersOf } from './descriptors.ts';
import type { BlockDevice } from './device.ts';

const DIRECT_ALIGNMENT = 4096;

export type FileDeviceOptions = {
  readonly readOnly: boolean;
  readonly direct?: boolean;
  /** Bytes; without it the file's own size. */
  readonly size?: number;
};

export class FileDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly #fd: number;
  readonly #directFd: number;
  /** For what leaves the thread. */
  readonly #later: Descriptors;
  readonly #laterDirect: Descriptors;
  #open = true;
  #syncing: Promise<void> | undefined;
  /** The sync after that one, for all who came meanwhile. */
  #nextSync: Promise<void> | undefined;
  /** Of a sync that failed: the kernel may have dropped what it could not write, and says so once. */
  #fault: KageError | undefined;

  constructor(path: string, options: FileDeviceOptions) {
    this.name = path;
    this.readOnly = options.readOnly;
    this.#fd = openFile(path, options.readOnly ? fs.constants.O_RDONLY : fs.constants.O_RDWR);
    this.#directFd = options.direct ? openDirect(path) : -1;
    this.#later = descriptorsOf(this.#fd, path, options.readOnly);
    this.#laterDirect = readersOf(this.#directFd, () => openDirect(path));
    this.size = options.size ?? sizeOf(this.#fd);
  }

  read(into: Uint8Array, offset: number): void {
    this.#check(offset, into.byteLength);
    const fd = this.#directFd >= 0 && aligned(into, offset) ? this.#directFd : this.#fd;
    let done = 0;
    while (done < into.byteLength) {
      let got: number;
      try {
        got = fs.readSync(fd, into, done, into.byteLength - done, offset + done);
      } catch (error) {
        if (fd === this.#directFd) {
          this.#readCached(into, offset);
          return;
        }
        throw ioError(`reading at byte ${offset + done}`, this.name, error);
      }
      if (got === 0) throw this.#shrunk(offset + done);
      done += got;
      if (fd === this.#directFd && done < into.byteLength && done % DIRECT_ALIGNMENT !== 0) {
        this.#readCached(into, offset);
        return;
      }
    }
  }

  write(from: Uint8Array, offset: number): void {
    assert(!this.readOnly, 'write on a read-only device');
    this.#check(offset, from.byteLength);
    let done = 0;
    while (done < from.byteLength) {
      try {
        done += fs.writeSync(this.#fd, from, done, from.byteLength - done, offset + done);
      } catch (error) {
        throw ioError(`writing at byte ${offset + done}`, this.name, error);
      }
    }
  }

  zero(offset: number, length: number): void {
    this.checkZero(offset, length);
    const piece = new Uint8Array(Math.min(length, 1024 * 1024));
    for (let done = 0; done < length; done += piece.byteLength) {
      this.write(piece.subarray(0, Math.min(piece.byteLength, length - done)), offset + done);
    }
  }

  /** Faults unless the range can be made zero. */
  checkZero(offset: number, length: number): void {
    assert(!this.readOnly, 'zero on a read-only device');
    this.#check(offset, length);
  }

  /** `read` by the runtime's own threads. */
  async readLater(into: Uint8Array, offset: number): Promise<void> {
    this.#check(offset, into.byteLength);
    let source = this.#directFd >= 0 && aligned(into, offset) ? this.#laterDirect : this.#later;
    for (let done = 0; done < into.byteLength; ) {
      // Direct I/O that stopped within a page, or that this memory is not good for.
      if (done % DIRECT_ALIGNMENT !== 0) source = this.#later;
      const rest = into.subarray(done);
      const at = offset + done;
      let got: number;
      try {
        got = await source.use((descriptor) => descriptor.read(rest, at));
      } catch (error) {
        if (source === this.#later) {
          throw ioError(`reading at byte ${at}`, this.name, error);
        }
        source = this.#later;
        continue;
      }
      if (got === 0) throw this.#shrunk(offset + done);
      done += got;
    }
  }

  /** `write` by the runtime's own threads; `from` must not change until it is done. */
  async writeLater(from: Uint8Array, offset: number): Promise<void> {
    assert(!this.readOnly, 'write on a read-only device');
    this.#check(offset, from.byteLength);
    for (let done = 0; done < from.byteLength; ) {
      const rest = from.subarray(done);
      const at = offset + done;
      const written = this.#later.use((descriptor) => descriptor.write(rest, at));
      done += await written.catch((error) => {
        throw ioError(`writing at byte ${at}`, this.name, error);
      });
    }
  }

  /** One sync runs at a time; those who come meanwhile share the next one. */
  flush(): Promise<void> {
    // The number of a closed descriptor may be another file's by now.
    assert(this.#open, 'device used after close');
    if (this.#syncing === undefined) {
      this.#syncing = this.#sync().finally(() => {
        this.#syncing = undefined;
      });
      return this.#syncing;
    }
    this.#nextSync ??= this.#syncing
      .catch(() => {})
      .then(() => {
        this.#nextSync = undefined;
        return this.flush();
      });
    return this.#nextSync;
  }

  #sync(): Promise<void> {
    if (this.#fault !== undefined) return Promise.reject(this.#fault);
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#fd, (error) => {
        if (error) {
          this.#fault ??= ioError('sync', this.name, error);
          reject(this.#fault);
        } else resolve();
      });
    });
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    for (const descriptors of [this.#later, this.#laterDirect]) descriptors.close();
    if (this.#directFd >= 0) fs.closeSync(this.#directFd);
    fs.closeSync(this.#fd);
  }

  #readCached(into: Uint8Array, offset: number): void {
    let done = 0;
    while (done < into.byteLength) {
      let got: number;
      try {
        got = fs.readSync(this.#fd, into, done, into.byteLength - done, offset + done);
      } catch (error) {
        throw ioError(`reading at byte ${offset + done}`, this.name, error);
      }
      if (got === 0) throw this.#shrunk(offset + done);
      done += got;
    }
  }

  #shrunk(offset: number): KageError {
    return new KageError(
      'image-changed',
      `${this.name}: ends at byte ${offset}, it had ${this.size} bytes when it was opened`,
      { data: { path: this.name } },
    );
  }

  #check(offset: number, length: number): void {
    assert(this.#open, 'device used after close');
    assert(
      Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size,
      () => `range ${offset}+${length} outside ${this.name}`,
    );
  }
}

function aligned(into: Uint8Array, offset: number): boolean {
  return (
    into.byteOffset % DIRECT_ALIGNMENT === 0 &&
    into.byteLength % DIRECT_ALIGNMENT === 0 &&
    offset % DIRECT_ALIGNMENT === 0
  );
}

function openFile(path: string, flags: number): number {
  try {
    return fs.openSync(path, flags);
  } catch (error) {
    throw ioError('opening', path, error);
  }
}

function openDirect(path: string): number {
  const flag = fs.constants.O_DIRECT;
  if (flag === undefined) return -1;
  try {
    return fs.openSync(path, fs.constants.O_RDONLY | flag);
  } catch {
    return -1; // The file system has no direct I/O: the cached path serves as well.
  }
}

/** A file with more holes than data, as far as can be seen. */
export function isSparse(path: string): boolean {
  try {
    const stat = fs.statSync(path);
    return stat.isFile() && stat.blocks * 512 < stat.size / 2;
  } catch {
    return false; // Whoever opens it is told why.
  }
}

function sizeOf(fd: number): number {
  const stat = fs.fstatSync(fd);
  return stat.isFile() ? stat.size : probeSize(fd);
}

/**
 * Size of a block device: a stat shows 0 and no portable call tells, so the last readable byte is
 * found by doubling and bisection (about 80 reads of one byte).
 */
export function probeSize(fd: number): number {
  const byte = new Uint8Array(1);
  const readable = (offset: number) => {
    try {
      return fs.readSync(fd, byte, 0, 1, offset) === 1;
    } catch {
      return false;
    }
  };
  if (!readable(0)) return 0;
  let low = 0;
  let high = 1024 * 1024;
  while (high < 2 ** 52 && readable(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (readable(middle)) low = middle;
    else high = middle;
  }
  return low + 1;
}
