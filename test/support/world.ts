/**
 * A folder of its own for one end-to-end case: images, a state folder, and `kage` as a real process
 * on them. Everything is gone after `remove`.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as assert from 'uvu/assert';
import type { ClassInfo, DiskClass, PairInfo } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';

const root = process.env.KAGE_ROOT ?? process.cwd();
/** The bundle as users run it. */
export const BUNDLE = path.join(root, 'dist/kage.js');

/** A command line that runs the bundle: runtime and its arguments. */
export type Runtime = readonly string[];
export const NODE: Runtime = [process.execPath, BUNDLE];
export const DENO: Runtime = [path.join(root, 'node_modules/.bin/deno'), 'run', '-A', BUNDLE];
export const BUN: Runtime = [path.join(root, 'node_modules/.bin/bun'), BUNDLE];

export type Ended = {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
};

export type SpawnOptions = {
  readonly runtime?: Runtime;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: Uint8Array | string;
};

/** A process that was started, and what it said once it has ended. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';

  /** Without `input` its standard input stays open. */
  constructor(command: readonly string[], env: NodeJS.ProcessEnv, input?: Uint8Array | string) {
    const child = spawn(command[0], command.slice(1), { env, stdio: 'pipe' });
    this.child = child;
    child.stdout.on('data', (data) => {
      this.stdout += data;
    });
    child.stderr.on('data', (data) => {
      this.stderr += data;
    });
    child.stdin.on('error', () => {});
    if (input !== undefined) child.stdin.end(input);
    this.ended = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status, signal) => {
        resolve({ status, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }
}

const worlds = new Set<World>();
process.on('exit', () => {
  for (const world of worlds) world.remove();
});

export class World {
  readonly folder: string;
  readonly home: string;
  #undo: (() => void)[] = [];

  constructor(below = os.tmpdir()) {
    this.folder = fs.realpathSync(fs.mkdtempSync(path.join(below, 'kage-test-')));
    this.home = this.path('home');
    worlds.add(this);
  }

  path(...names: string[]): string {
    return path.join(this.folder, ...names);
  }

  /** Runs first when the world is removed: unmounts, detaches. */
  atEnd(undo: () => void): void {
    this.#undo.unshift(undo);
  }

  remove(): void {
    for (const undo of this.#undo) {
      try {
        undo();
      } catch {
        // What was undone in the test itself cannot be undone again.
      }
    }
    this.#undo = [];
    fs.rmSync(this.folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    worlds.delete(this);
  }

  // Images

  /** Makes an image of random bytes that depend on `seed` only. */
  image(name: string, size: number, seed = 1): string {
    const file = this.path(name);
    fs.writeFileSync(file, randomBytes(size, seed));
    return file;
  }

  read(name: string): Buffer {
    return fs.readFileSync(this.path(name));
  }

  /** Overwrites a part of a file as any other program would. */
  scribble(name: string, offset: number, data: Uint8Array | string): void {
    const fd = fs.openSync(this.path(name), 'r+');
    try {
      const bytes = Buffer.from(data as Uint8Array);
      fs.writeSync(fd, bytes, 0, bytes.length, offset);
    } finally {
      fs.closeSync(fd);
    }
  }

  hash(name: string): string {
    return hashOf(this.path(name));
  }

  /** Every name below the folder with its kind, mode and content hash. */
  photograph(): Record<string, string> {
    const photo: Record<string, string> = {};
    const walk = (folder: string) => {
      for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
        const at = path.join(folder, entry.name);
        const name = path.relative(this.folder, at);
        const { mode } = fs.lstatSync(at);
        if (entry.isDirectory()) {
          photo[name] = `folder ${mode.toString(8)}`;
          walk(at);
        } else if (entry.isFile()) {
          photo[name] = `file ${mode.toString(8)} ${hashOf(at)}`;
        } else {
          photo[name] = entry.isSymbolicLink() ? `link ${fs.readlinkSync(at)}` : 'other';
        }
      }
    };
    walk(this.folder);
    return photo;
  }

  // Commands

  start(args: readonly string[], options: SpawnOptions = {}): Running {
    const command = [...(options.runtime ?? NODE), ...args];
    const env = { ...process.env, KAGE_HOME: this.home, KAGE_FAULT: undefined, ...options.env };
    return new Running(command, env as NodeJS.ProcessEnv, options.input ?? '');
  }

  run(args: readonly string[], options: SpawnOptions = {}): Promise<Ended> {
    return this.start(args, options).ended;
  }

  /** A command that must succeed; its JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: the JSON of any verb
  async ok(args: readonly string[], options: SpawnOptions = {}): Promise<any> {
    const ended = await this.run([...args, '--json'], options);
    assert.is(ended.status, 0, `${args.join(' ')}: ${ended.stdout}${ended.stderr}`);
    return JSON.parse(ended.stdout);
  }

  /** Works on a class in this process: quick set-up of a case. */
  async engine<T>(work: (disks: DiskClass) => Promise<T>, name = 'default'): Promise<T> {
    const disks = await openClass(name, { home: this.home, create: true });
    try {
      return await work(disks);
    } finally {
      await disks.close();
    }
  }

  async info(name = 'default'): Promise<ClassInfo> {
    return await this.ok(['info', '-c', name]);
  }

  async pair(proxy: string, name = 'default'): Promise<PairInfo> {
    const found = (await this.info(name)).pairs.find((p) => p.proxy === proxy);
    assert.ok(found, `${proxy} is in no pair`);
    return found;
  }
}

/** True for whatever is at a path, a link to nowhere left out. */
export function exists(file: string): boolean {
  return fs.existsSync(file);
}

export function hashOf(file: string): string {
  return createHash('sha1').update(fs.readFileSync(file)).digest('hex');
}

/** Bytes that depend on `seed` only. */
export function randomBytes(size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(size);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(size / 4));
  let a = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    a ^= a << 13;
    a ^= a >>> 17;
    a ^= a << 5;
    words[i] = a;
  }
  for (let i = words.length * 4; i < size; i++) bytes[i] = i + seed;
  return bytes;
}

/** Seeded chance: integers from 0 to `below - 1`. */
export function chance(seed: number): (below: number) => number {
  let a = seed >>> 0 || 1;
  return (below) => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** The seed of this run: printed, and taken from KAGE_SEED to repeat one. */
export function seedOf(what: string): number {
  const seed = Number(process.env.KAGE_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`${what}: KAGE_SEED=${seed}`);
  return seed;
}

/** Runs `work` on every item, `most` at a time; the first failure is thrown, with its item's name. */
export async function each<T>(
  items: readonly T[],
  name: (item: T) => string,
  work: (item: T) => Promise<void>,
  most = 2,
): Promise<void> {
  const queue = [...items];
  const failures: string[] = [];
  const member = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      try {
        await work(item);
      } catch (error) {
        const { message, details } = error as { message?: string; details?: unknown };
        const more = typeof details === 'string' ? details.slice(0, 1500) : '';
        failures.push(`${name(item)}: ${message ?? error}${more}`);
      }
    }
  };
  await Promise.all(Array.from({ length: most }, member));
  if (failures.length > 0)
    throw new Error(`${failures.length} cases failed\n${failures.join('\n')}`);
}

/** Fails with the names whose entries differ between two photographs. */
export function samePhotos(before: Record<string, string>, after: Record<string, string>): void {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  const differing = [...names]
    .filter((name) => before[name] !== after[name])
    .map((name) => `${name}: ${before[name] ?? 'absent'} -> ${after[name] ?? 'absent'}`);
  if (differing.length > 0) throw new Error(`changed on disk:\n  ${differing.join('\n  ')}`);
}

/** Runs `work` in a world that is removed afterwards. */
export async function inWorld<T>(work: (world: World) => Promise<T>): Promise<T> {
  const world = new World();
  try {
    return await work(world);
  } finally {
    world.remove();
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until `look` is true; fails after half a minute. */
export async function until(what: string, look: () => boolean): Promise<void> {
  for (let i = 0; i < 3000; i++) {
    if (look()) return;
    await sleep(10);
  }
  assert.unreachable(`waited in vain: ${what}`);
}
