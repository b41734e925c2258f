/** Where a bench works, and the images it makes there. */

import fs from 'node:fs';
import path from 'node:path';
import { HASH_STATE_BYTES } from '../src/kernel/kernel.ts';
import { createKernel } from '../src/kernel/select.ts';
import { fillNoise } from './harness.ts';
import type { Runtime } from './runtimes.ts';

export interface Place {
  /** Folder of its own, on the file system that is measured. */
  readonly dir: string;
  /** The command and the library under test: copies, so that a build beside us changes nothing. */
  readonly kage: string;
  readonly library: string;
  /** The bundled benches. */
  readonly code: string;
  readonly smoke: boolean;
  readonly runtimes: readonly Runtime[];
}

const MIB = 2 ** 20;
const NOISE_BYTES = 16 * MIB;
const PAGE = 4096;

/** Writes noise over ranges of a new image, no two pages alike; reads nothing back. */
export function makeImage(
  file: string,
  size: number,
  seed: number,
  ranges: readonly { offset: number; length: number }[] = [{ offset: 0, length: size }],
): void {
  const noise = Buffer.alloc(Math.min(NOISE_BYTES, size));
  fillNoise(noise, seed);
  const fd = fs.openSync(file, 'wx');
  try {
    fs.ftruncateSync(fd, size);
    for (const { offset, length } of ranges) {
      for (let at = offset; at < offset + length; at += noise.length) {
        const bytes = Math.min(noise.length, offset + length - at);
        for (let page = 0; page + 8 <= bytes; page += PAGE) noise.writeDoubleLE(at + page, page);
        fs.writeSync(fd, noise, 0, bytes, at);
      }
    }
    fs.fdatasyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** XXH64 of a range of a file; reading it also brings it into the cache. */
export function hashOf(file: string, offset = 0, length = fs.statSync(file).size): string {
  const kernel = createKernel('wasm');
  const window = kernel.allocate(MIB);
  const state = kernel.allocate(HASH_STATE_BYTES);
  const view = kernel.bytes(window, MIB);
  const fd = fs.openSync(file, 'r');
  try {
    kernel.hashReset(state);
    for (let at = offset; at < offset + length; ) {
      const got = fs.readSync(fd, view, 0, Math.min(MIB, offset + length - at), at);
      if (got === 0) throw new Error(`${file}: ends at ${at}`);
      kernel.hashUpdate(state, window, got);
      at += got;
    }
    return kernel.hashDigest(state);
  } finally {
    fs.closeSync(fd);
  }
}

export function sync(file: string): void {
  const fd = fs.openSync(file, 'r');
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

/** Throws before a disk is filled to the brim. */
export function requireSpace(dir: string, bytes: number): void {
  const { bavail, bsize } = fs.statfsSync(dir);
  if (bavail * bsize >= bytes) return;
  const gib = (n: number) => `${Math.ceil(n / 2 ** 30)} GiB`;
  throw new Error(`${dir}: ${gib(bytes)} wanted, ${gib(bavail * bsize)} free; see --dir`);
}

/** Runs `work` in a folder of its own and removes it. */
export function within<T>(place: Place, name: string, work: (dir: string) => T): T {
  const dir = path.join(place.dir, name);
  fs.mkdirSync(dir);
  try {
    return work(dir);
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}
