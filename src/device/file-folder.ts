/**
 * A state folder on disk. Files are 0600, folders 0700. A file's content is durable when `write`
 * returns, its name when `sync` returns.
 */

import fs from 'node:fs';
import type net from 'node:net';
import path from 'node:path';
import { errnoOf, ioError, KageError } from '../base/errors.ts';
import type { BlockDevice } from './device.ts';
import type { Folder } from './host.ts';
import { PatientFile } from './patient-file.ts';

/** Longest path a unix socket can have (`sun_path`), bytes. */
const SOCKET_PATH_MAX = 100;

export class FileFolder implements Folder {
  readonly path: string;
  /** The topmost folder that `create` made. */
  #made: string | undefined;

  constructor(folder: string) {
    this.path = folder;
  }

  async create(): Promise<void> {
    if (fs.existsSync(this.path)) return;
    const made = this.#try('making the folder', () =>
      fs.mkdirSync(this.path, { recursive: true, mode: 0o700 }),
    );
    this.#made ??= made;
    try {
      await syncFolder(path.dirname(this.path));
    } catch (error) {
      if (errnoOf(error) === '') throw error;
    }
  }

  async list(): Promise<string[]> {
    try {
      return fs.readdirSync(this.path).sort();
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
      throw ioError('listing', this.path, error);
    }
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    try {
      return fs.readFileSync(this.#at(name));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
      throw ioError('reading', this.#at(name), error);
    }
  }

  async write(name: string, bytes: Uint8Array): Promise<void> {
    try {
      const fd = fs.openSync(this.#at(name), 'w', 0o600);
      try {
        let done = 0;
        while (done < bytes.byteLength) {
          done += fs.writeSync(fd, bytes, done, bytes.byteLength - done, done);
        }
        await synced(fd);
      } finally {
        fs.closeSync(fd);
      }
    } catch (error) {
      throw ioError('writing', this.#at(name), error);
    }
  }

  async claim(name: string, bytes: Uint8Array): Promise<boolean> {
    const own = `${name}.${process.pid}.${Math.floor(performance.now() * 1000)}`;
    return this.#try(
      'claiming',
      () => {
        fs.writeFileSync(this.#at(own), bytes, { mode: 0o600 });
        try {
          fs.linkSync(this.#at(own), this.#at(name));
          return true;
        } catch (error) {
          // Taken, or whoever took it has swept our draft away.
          if (errnoOf(error) === 'EEXIST' || errnoOf(error) === 'ENOENT') return false;
          throw error;
        } finally {
          fs.rmSync(this.#at(own), { force: true });
        }
      },
      name,
    );
  }

  async rename(from: string, to: string): Promise<void> {
    this.#try('renaming', () => fs.renameSync(this.#at(from), this.#at(to)), from);
  }

  async remove(name: string): Promise<void> {
    try {
      // A map of many pieces takes the file system up to a second, in which clients would wait.
      await fs.promises.unlink(this.#at(name));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw ioError('removing', this.#at(name), error);
    }
  }

  async removeSelf(): Promise<void> {
    const top = this.#made ?? this.path;
    try {
      for (let at = this.path; at.startsWith(top); at = path.dirname(at)) fs.rmdirSync(at);
    } catch {
      // Not empty or gone: nothing depends on it.
    }
  }

  async open(name: string, options: { create?: number; readOnly?: boolean }): Promise<BlockDevice> {
    const file = this.#at(name);
    const { create } = options;
    if (create !== undefined) {
      this.#try(
        'making',
        () => {
          const fd = fs.openSync(file, 'w', 0o600);
          try {
            fs.ftruncateSync(fd, create);
          } finally {
            fs.closeSync(fd);
          }
        },
        name,
      );
    }
    return new PatientFile(file, { readOnly: options.readOnly ?? false });
  }

  async sync(): Promise<void> {
    try {
      await syncFolder(this.path);
    } catch (error) {
      throw ioError('syncing the folder', this.path, error);
    }
  }

  turn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  folder(name: string): Folder {
    return new FileFolder(path.join(this.path, name));
  }

  async beacon(name: string): Promise<() => Promise<void>> {
    const socket = this.#socketAt(name);
    const { createServer } = await import('node:net');
    const server = createServer((client) => client.destroy());
    try {
      await listen(server, socket.path).catch(async (error) => {
        if (errnoOf(error) !== 'ENOENT') throw error;
        // Another process took the empty folder away after we had made it.
        await this.create();
        await listen(server, socket.path);
      });
    } catch (error) {
      socket.close();
      const reason = error instanceof Error ? error.message : String(error);
      const at = this.#at(name);
      throw new KageError('failed', `${at}: cannot listen on the lock's socket: ${reason}`, {
        cause: error,
      });
    }
    server.unref();
    return async () => {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      socket.close();
      fs.rmSync(this.#at(name), { force: true });
    };
  }

  async alive(name: string): Promise<boolean> {
    const socket = this.#socketAt(name);
    try {
      const errno = await connectionError(socket.path);
      // Its queue is full, or it is just closing: it lives.
      if (errno === '' || errno === 'EAGAIN' || errno === 'ECONNRESET') return true;
      if (errno !== 'ECONNREFUSED' && errno !== 'ENOENT') {
        throw new KageError(
          'io-error',
          `${this.#at(name)}: asking for the lock holder failed: ${errno}`,
          {
            data: { path: this.#at(name), errno },
          },
        );
      }
    } finally {
      socket.close();
    }
    // The socket stays: in a folder shared with another machine its owner may live over there.
    return false;
  }

  /**
   * Address of a socket in this folder. A path that is too long goes through the folder's descriptor;
   * a place elsewhere would not be the same for every process (TMPDIR, private /tmp).
   */
  #socketAt(name: string): { path: string; close(): void } {
    const at = this.#at(name);
    if (Buffer.byteLength(at) <= SOCKET_PATH_MAX) return { path: at, close() {} };
    if (process.platform !== 'linux') {
      throw new KageError('usage', `${this.path}: the path is too long for the lock's socket`, {
        hint: 'choose a shorter one with --home DIR or KAGE_HOME',
      });
    }
    let fd: number;
    try {
      fd = fs.openSync(this.path, 'r');
    } catch (error) {
      throw ioError('opening the folder', this.path, error);
    }
    return { path: `/proc/self/fd/${fd}/${name}`, close: () => fs.closeSync(fd) };
  }

  #at(name: string): string {
    return path.join(this.path, name);
  }

  #try<T>(what: string, action: () => T, name = ''): T {
    try {
      return action();
    } catch (error) {
      throw ioError(what, path.join(this.path, name), error);
    }
  }
}

function listen(server: net.Server, at: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(at, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** '' when somebody answers, else the error code of the connection. */
async function connectionError(at: string): Promise<string> {
  const { connect } = await import('node:net');
  return await new Promise((resolve) => {
    const socket = connect(at);
    socket.once('connect', () => {
      socket.destroy();
      resolve('');
    });
    socket.once('error', (error) => resolve(errnoOf(error) || error.message));
  });
}

/** Makes a file durable. Whoever shares the thread does not wait for the disk. */
export function synced(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.fsync(fd, (error) => (error ? reject(error) : resolve()));
  });
}

/** Makes the names in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const fd = fs.openSync(folder, 'r');
  try {
    await synced(fd);
  } finally {
    fs.closeSync(fd);
  }
}
