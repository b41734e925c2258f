/**
 * Edge: asynchronous transfers of one open file. Node and Bun make them in threads, any number of them
 * on one descriptor. Deno makes one call of a descriptor at a time (a sync keeps reads waiting, too), and
 * positional writes of `node:fs` in the calling thread; its own files write in others, from their current
 * position. So there a file gets further descriptors, each for one call at a time.
 */

import fs from 'node:fs';
import { runtime } from './pool.ts';

/** Of one file at most on Deno: half of the calls that run at a time. */
const MOST = 8;

export interface Descriptor {
  /** Up to the length of `into`, from byte `offset` of the file on; how many bytes. */
  read(into: Uint8Array, offset: number): Promise<number>;
  write(from: Uint8Array, offset: number): Promise<number>;
  close(): void;
}

export class Descriptors {
  readonly #first: Descriptor;
  readonly #open: (() => Descriptor | undefined) | undefined;
  readonly #idle: Descriptor[] = [];
  readonly #waiting: ((descriptor: Descriptor) => void)[] = [];
  #count = 0;
  #most = MOST;

  /**
   * `first` serves all calls when `open` is missing or gives nothing. Those that `open` gives are closed
   * with this, `first` is not.
   */
  constructor(first: Descriptor, open?: () => Descriptor | undefined) {
    this.#first = first;
    this.#open = open;
  }

  /** Runs `call` on a descriptor that nobody uses meanwhile, if there can be such. */
  async use(call: (descriptor: Descriptor) => Promise<number>): Promise<number> {
    const descriptor = this.#take() ?? (await this.#next());
    try {
      return await call(descriptor);
    } finally {
      if (descriptor !== this.#first) this.#give(descriptor);
    }
  }

  /** No call is under way any more. */
  close(): void {
    for (const descriptor of this.#idle.splice(0)) descriptor.close();
  }

  /** Undefined when all are in use. */
  #take(): Descriptor | undefined {
    if (this.#open === undefined) return this.#first;
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#count < this.#most) {
      const another = this.#open();
      if (another !== undefined) {
        this.#count++;
        return another;
      }
      this.#most = this.#count;
    }
    return this.#count === 0 ? this.#first : undefined;
  }

  #next(): Promise<Descriptor> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #give(descriptor: Descriptor): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#idle.push(descriptor);
    else next(descriptor);
  }
}

/** Those of an open file, which is found by its path again. */
export function descriptorsOf(fd: number, path: string, readOnly: boolean): Descriptors {
  if (runtime() !== 'Deno') return new Descriptors(ofNumber(fd));
  return new Descriptors(ofNumber(fd), () => {
    const file = denoFile(path, readOnly);
    if (file === undefined || isSame(fd, file.statSync())) return file && ofDeno(file);
    file.close();
  });
}

/** The same where files of Deno cannot be opened as `open` does. They are read only. */
export function readersOf(fd: number, open: () => number): Descriptors {
  if (runtime() !== 'Deno') return new Descriptors(ofNumber(fd));
  return new Descriptors(ofNumber(fd), () => {
    const another = open();
    if (another < 0 || isSame(fd, fs.fstatSync(another))) {
      return another < 0 ? undefined : ofNumber(another);
    }
    fs.closeSync(another);
  });
}

/** Whether a stat is that of an open file: its path may lead to another one by now. */
function isSame(fd: number, stat: { dev: number; ino: number | null }): boolean {
  const { dev, ino } = fs.fstatSync(fd);
  return stat.dev === dev && stat.ino === ino;
}

function ofNumber(fd: number): Descriptor {
  return {
    read: (into, offset) => called(fs.read, fd, into, offset),
    write: (from, offset) => called(fs.write, fd, from, offset),
    close: () => fs.closeSync(fd),
  };
}

type Transfer = (
  fd: number,
  buffer: Uint8Array,
  start: number,
  length: number,
  position: number,
  done: (error: Error | null, bytes: number) => void,
) => void;

function called(
  transfer: Transfer,
  fd: number,
  buffer: Uint8Array,
  position: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    transfer(fd, buffer, 0, buffer.byteLength, position, (error, bytes) => {
      if (error) reject(error);
      else resolve(bytes);
    });
  });
}

/** What is used of Deno's `FsFile`. */
type DenoFile = {
  seekSync(offset: number, whence: 0): number;
  read(into: Uint8Array): Promise<number | null>;
  write(from: Uint8Array): Promise<number>;
  statSync(): { dev: number; ino: number | null };
  close(): void;
};

type DenoGlobal = { openSync(path: string, options: { read: true; write: boolean }): DenoFile };

function denoFile(path: string, readOnly: boolean): DenoFile | undefined {
  try {
    const { Deno } = globalThis as unknown as { Deno: DenoGlobal };
    return Deno.openSync(path, { read: true, write: !readOnly });
  } catch {
    return undefined; // Too many are open, or the file is gone: the first one serves.
  }
}

function ofDeno(file: DenoFile): Descriptor {
  return {
    async read(into, offset) {
      file.seekSync(offset, 0);
      return (await file.read(into)) ?? 0;
    },
    async write(from, offset) {
      file.seekSync(offset, 0);
      return await file.write(from);
    },
    close: () => file.close(),
  };
}
