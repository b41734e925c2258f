/**
 * The outside world as the engine sees it: images by path, folders for its own state, time and
 * chance. `file-host.ts` is the real one; `memory-host.ts` is one that can lose power.
 */

import type { BlockDevice } from './device.ts';
import type { RightOfWay } from './right-of-way.ts';
import type { Stamp } from './stamp.ts';

export type ImageFacts = {
  /** Canonical path, symlinks resolved. */
  readonly path: string;
  readonly kind: 'file' | 'block' | 'remote' | 'directory' | 'other';
  /** Bytes. */
  readonly size: number;
  /** Same string for every name of one file (device and inode), for this boot only. */
  readonly identity: string;
  /** Identity of the file behind a loop device. */
  readonly behind?: string;
  readonly readable: boolean;
  readonly writable: boolean;
  /** A block device that the system itself uses: mounted, swap, part of another device. */
  readonly busy?: boolean;
  /** Bytes that have blocks on disk; far fewer than `size` in a sparse image. */
  readonly allocated: number;
};

export type OpenOptions = {
  readonly readOnly: boolean;
  /** Clients share the thread: no call may keep the others waiting for the disk. */
  readonly clients?: RightOfWay | undefined;
  /** Called when a write has ended that was not over when its call returned. */
  readonly written?: () => void;
};

export interface Host {
  /** Wall clock, ms since 1970. */
  now(): number;
  sleep(ms: number): Promise<void>;
  /** A fresh identifier, 16 hex digits. */
  randomId(): string;
  /** This process, as others see it; the machine's name or null where it may not be read. */
  self(): { pid: number; machine: string | null };
  /** Boot id, or null where it cannot be read. */
  boot(): string | null;
  /** Absolute form of a path, symlinks of the part that exists resolved. */
  resolve(path: string): Promise<string>;
  /** What is at a path; undefined when nothing is. */
  inspect(path: string): Promise<ImageFacts | undefined>;
  /** Waits until the stamp can exclude later writes when `settle` is set (`stampDelay`). */
  stamp(path: string, settle: boolean): Promise<Stamp>;
  openDevice(path: string, options: OpenOptions): Promise<BlockDevice>;
  /** Throws unless an image can be made at the path: its folder is there and may be written. */
  checkPlace(path: string): Promise<void>;
  /** Makes a sparse image of `size` bytes, exclusively, and syncs its folder. */
  createImage(path: string, size: number): Promise<void>;
  /** Removes an image that `createImage` made and syncs its folder; nothing if it is not there. */
  removeImage(path: string): Promise<void>;
  /**
   * Gives an image another name in its folder and syncs that. Throws `image-exists` if the name is
   * taken when it looks.
   */
  renameImage(from: string, to: string): Promise<void>;
  /** Paths of everything in the folder of a canonical path whose path begins with that, sorted. */
  namesFrom(path: string): Promise<string[]>;
  /** True when a process is seen to have the file open; false also where nobody may look. */
  hasOpen(pid: number, path: string): boolean;
  folder(path: string): Folder;
  /** True where a copy worker in a thread can open the same paths. */
  readonly threads: boolean;
}

/** One folder of the engine's own state. Names are plain file names. */
export interface Folder {
  readonly path: string;
  /** Makes the folder and its parents (mode 0700) and syncs them; nothing if it exists. */
  create(): Promise<void>;
  /** Names in it, sorted; empty when it does not exist or is no folder. */
  list(): Promise<string[]>;
  /** Whole content, or undefined when there is no such file. */
  read(name: string): Promise<Uint8Array | undefined>;
  /** Writes a whole file anew and syncs it. */
  write(name: string, bytes: Uint8Array): Promise<void>;
  /**
   * Makes a file with this content only if the name is free, both at once; false when it is taken.
   * Not synced: what it is for does not outlive the machine.
   */
  claim(name: string, bytes: Uint8Array): Promise<boolean>;
  /** Renames over whatever has the new name. Durable after `sync`. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file; nothing if it is not there. Durable after `sync`. */
  remove(name: string): Promise<void>;
  /** Removes the folder itself, and the parents that `create` made, as far as they are empty. */
  removeSelf(): Promise<void>;
  /** Opens a file as a device; `create`: makes it anew with that many zero bytes. */
  open(name: string, options: { create?: number; readOnly?: boolean }): Promise<BlockDevice>;
  sync(): Promise<void>;
  /** Resolves once other work had its turn: for who writes much and keeps nobody waiting. */
  turn(): Promise<void>;
  folder(name: string): Folder;
  /**
   * Declares this process alive under `name` until the returned function is called or the process
   * ends, however it ends. `alive` asks for it: true when that process lives; what a dead one left
   * under the name is removed.
   */
  beacon(name: string): Promise<() => Promise<void>>;
  alive(name: string): Promise<boolean>;
}
