/**
 * A whole world in memory that can lose power: disks, folders, time and chance, all from one seed.
 * Tests and the simulation run the real engine in it.
 *
 * A disk keeps what was written since its last sync apart; a power cut keeps or drops each 512-byte
 * sector of each such write by chance. A folder's names are journalled in order: a cut keeps a
 * prefix of what was not synced. Faults: an operation on a device can be made to fail. With
 * `syncsFailForGood` a sync that fails loses by chance what it should have made durable, and no device
 * that was open then ever syncs again, as on Linux.
 */

import { assert } from '../base/assert.ts';
import { KageError } from '../base/errors.ts';
import type { BlockDevice } from './device.ts';
import type { Folder, Host, ImageFacts, OpenOptions } from './host.ts';
import type { Stamp } from './stamp.ts';

const SECTOR = 512;

/** Numbers from 0 (inclusive) to 1, the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type Operation = 'read' | 'write' | 'flush';
/** Called before each operation of a device; throws to make it fail. */
export type Fault = (operation: Operation, disk: MemoryDisk, offset: number) => void;

export class MemoryDisk {
  readonly name: string;
  content: Uint8Array;
  /** What survives a power cut for certain. */
  durable: Uint8Array;
  #unsynced: { offset: number; data: Uint8Array }[] = [];
  readOnly = false;
  /** Moves with every write: the mtime of this world. */
  writes = 0;
  fault: Fault | undefined;
  /** What was thrown by syncs that failed for good. */
  readonly failedSyncs: unknown[] = [];

  constructor(name: string, size: number) {
    this.name = name;
    this.content = new Uint8Array(size);
    this.durable = new Uint8Array(size);
  }

  write(from: Uint8Array, offset: number): void {
    this.content.set(from, offset);
    this.#unsynced.push({ offset, data: from.slice() });
    this.writes++;
  }

  flush(): void {
    for (const { offset, data } of this.#unsynced) this.durable.set(data, offset);
    this.#unsynced = [];
  }

  /** A sync has failed: nothing more will be written of what is unsynced; it may still be in the cache. */
  dropUnsynced(random: () => number): void {
    const { content } = this;
    const cached = random() < 0.5;
    this.cutPower(random);
    if (cached) this.content = content;
  }

  /** Each unsynced sector is kept or dropped; the sectors are cut at multiples of 512 of the disk. */
  cutPower(random: () => number): void {
    for (const { offset, data } of this.#unsynced) {
      for (let at = 0; at < data.byteLength; ) {
        const end = Math.min(
          data.byteLength,
          (Math.floor((offset + at) / SECTOR) + 1) * SECTOR - offset,
        );
        if (random() < 0.5) this.durable.set(data.subarray(at, end), offset + at);
        at = end;
      }
    }
    this.#unsynced = [];
    this.content = this.durable.slice();
  }
}

class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly #disk: MemoryDisk;
  readonly #world: MemoryHost;
  readonly #life: number;
  #open = true;
  /** Syncs of the disk that had failed when it was opened. */
  readonly #failedBefore: number;
  readonly #underWay = new Set<Promise<void>>();

  constructor(disk: MemoryDisk, readOnly: boolean, world: MemoryHost) {
    this.name = disk.name;
    this.size = disk.content.byteLength;
    this.readOnly = readOnly;
    this.#disk = disk;
    this.#world = world;
    this.#life = world.life;
    this.#failedBefore = disk.failedSyncs.length;
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    return this.#counted(this.#read(into, offset));
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    assert(!this.readOnly, 'write on a read-only device');
    return this.#counted(this.#write(from, offset));
  }

  async zero(offset: number, length: number): Promise<void> {
    assert(length >= 0 && offset + length <= this.size, () => `range outside ${this.name}`);
    await this.write(new Uint8Array(length), offset);
  }

  flush(): Promise<void> {
    return this.#counted(this.#flush());
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    this.#open = false;
    await Promise.allSettled(this.#underWay);
  }

  /** Remembers work until it is done. */
  #counted(work: Promise<void>): Promise<void> {
    this.#underWay.add(work);
    const done = () => this.#underWay.delete(work);
    work.then(done, done);
    return work;
  }

  async #read(into: Uint8Array, offset: number): Promise<void> {
    assert(this.#open, 'device used after close');
    await this.#world.latency?.(this.#disk);
    this.#enter('read', offset, into.byteLength);
    into.set(this.#disk.content.subarray(offset, offset + into.byteLength));
    await this.#world.latency?.(this.#disk);
  }

  async #write(from: Uint8Array, offset: number): Promise<void> {
    assert(this.#open, 'device used after close');
    await this.#world.latency?.(this.#disk);
    this.#enter('write', offset, from.byteLength);
    this.#disk.write(from, offset);
    await this.#world.latency?.(this.#disk);
  }

  async #flush(): Promise<void> {
    assert(this.#open, 'device used after close');
    await this.#world.latency?.(this.#disk);
    if (this.#disk.failedSyncs.length > this.#failedBefore) throw this.#disk.failedSyncs.at(-1);
    try {
      this.#enter('flush', 0, 0);
    } catch (error) {
      if (this.#world.syncsFailForGood && !(error instanceof PowerCut)) {
        this.#disk.failedSyncs.push(error);
        this.#disk.dropUnsynced(this.#world.random);
      }
      throw error;
    }
    this.#disk.flush();
    await this.#world.latency?.(this.#disk);
  }

  #enter(operation: Operation, offset: number, length: number): void {
    if (this.#world.life !== this.#life) throw new PowerCut();
    assert(
      Number.isSafeInteger(offset) && offset >= 0 && offset + length <= this.size,
      () => `range outside ${this.name}`,
    );
    this.#world.onOperation?.(operation);
    if (this.#world.life !== this.#life) throw new PowerCut();
    this.#disk.fault?.(operation, this.#disk, offset);
  }
}

/** What code sees that was running when the power went: nothing it does has an effect any more. */
export class PowerCut extends Error {
  constructor() {
    super('power cut');
  }
}

export class MemoryHost implements Host {
  readonly threads = false;
  readonly disks = new Map<string, MemoryDisk>();
  readonly folders = new Map<string, FolderContent>();
  readonly beacons = new Set<string>();
  /** Grows with every power cut; devices of an earlier life are dead. */
  life = 1;
  clock = 1_700_000_000_000;
  /** Called before each operation of any device, images and state files alike. */
  onOperation: ((operation: Operation) => void) | undefined;
  /** What an operation waits for before and after it takes effect: a test decides who goes on. */
  latency: ((disk?: MemoryDisk) => Promise<void>) | undefined;
  syncsFailForGood = false;
  /** Called before a file of a folder is written or read, or a folder synced; throws to make it fail. */
  stateFault: ((operation: Operation, name: string) => void) | undefined;
  readonly random: () => number;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  addDisk(path: string, size: number): MemoryDisk {
    const disk = new MemoryDisk(path, size);
    this.disks.set(path, disk);
    return disk;
  }

  /** All that was not synced is kept or lost by chance; every open device is dead. */
  cutPower(): void {
    this.life++;
    this.beacons.clear();
    for (const folder of this.folders.values()) folder.cutPower(this.random);
    for (const disk of this.disks.values()) disk.cutPower(this.random);
  }

  /** Every process dies, the machine goes on: what was written stays. */
  killProcesses(): void {
    this.life++;
    this.beacons.clear();
  }

  now(): number {
    return this.clock++;
  }

  async sleep(ms: number): Promise<void> {
    this.clock += ms;
  }

  randomId(): string {
    const half = () =>
      Math.floor(this.random() * 2 ** 32)
        .toString(16)
        .padStart(8, '0');
    return half() + half();
  }

  self(): { pid: number; machine: string } {
    return { pid: this.life, machine: 'memory' };
  }

  boot(): string {
    return 'memory';
  }

  async resolve(path: string): Promise<string> {
    return path;
  }

  async inspect(path: string): Promise<ImageFacts | undefined> {
    const disk = this.disks.get(path);
    if (!disk) return undefined;
    const size = disk.content.byteLength;
    return {
      path,
      kind: 'file',
      size,
      identity: path,
      readable: true,
      writable: !disk.readOnly,
      allocated: size,
    };
  }

  async stamp(path: string): Promise<Stamp> {
    const disk = this.disks.get(path);
    if (!disk) throw new KageError('image-missing', `${path}: no such file`);
    // It is synced first.
    await this.latency?.(disk);
    const time = String(1_700_000_000_000_000_000n + BigInt(disk.writes) * 1_000_000_001n);
    return {
      kind: 'file',
      id: path,
      birth: '1700000000000000001',
      size: disk.content.byteLength,
      mtime: time,
      ctime: time,
      takenAt: this.now(),
      boot: this.boot(),
      unreliable: null,
    };
  }

  async openDevice(path: string, options: OpenOptions): Promise<BlockDevice> {
    const disk = this.disks.get(path);
    if (!disk) throw new KageError('image-missing', `${path}: no such file`);
    return new MemoryDevice(disk, options.readOnly, this);
  }

  async checkPlace(): Promise<void> {}

  async createImage(path: string, size: number): Promise<void> {
    if (this.disks.has(path))
      throw new KageError('image-exists', `${path}: a file is there already`);
    this.addDisk(path, size);
  }

  async removeImage(path: string): Promise<void> {
    this.disks.delete(path);
  }

  async renameImage(from: string, to: string): Promise<void> {
    const disk = this.disks.get(from);
    assert(disk !== undefined, `rename of ${from}, which is not there`);
    if (this.disks.has(to)) throw new KageError('image-exists', `${to}: a file is there already`);
    this.disks.delete(from);
    this.disks.set(to, disk);
  }

  async namesFrom(path: string): Promise<string[]> {
    return [...this.disks.keys()].filter((name) => name.startsWith(path)).sort();
  }

  /** No process of this world outlives another. */
  hasOpen(): boolean {
    return false;
  }

  folder(path: string): Folder {
    return new MemoryFolder(path, this);
  }
}

/** Names and files of one folder, with the journal of names since the last sync. */
class FolderContent {
  names = new Map<string, MemoryDisk>();
  #durable = new Map<string, MemoryDisk>();
  #journal: ((names: Map<string, MemoryDisk>) => void)[] = [];

  change(step: (names: Map<string, MemoryDisk>) => void): void {
    step(this.names);
    this.#journal.push(step);
  }

  sync(): void {
    this.#durable = new Map(this.names);
    this.#journal = [];
  }

  cutPower(random: () => number): void {
    const kept = Math.floor(random() * (this.#journal.length + 1));
    for (const step of this.#journal.slice(0, kept)) step(this.#durable);
    this.names = this.#durable;
    for (const file of this.names.values()) file.cutPower(random);
    this.sync();
  }
}

class MemoryFolder implements Folder {
  readonly path: string;
  readonly #world: MemoryHost;
  readonly #life: number;

  constructor(path: string, world: MemoryHost) {
    this.path = path;
    this.#world = world;
    this.#life = world.life;
  }

  get #content(): FolderContent {
    if (this.#world.life !== this.#life) throw new PowerCut();
    let content = this.#world.folders.get(this.path);
    if (!content) {
      content = new FolderContent();
      this.#world.folders.set(this.path, content);
    }
    return content;
  }

  async create(): Promise<void> {
    this.#content.names.size;
  }

  async list(): Promise<string[]> {
    const below = [...this.#world.folders.keys()]
      .filter((path) => path.startsWith(`${this.path}/`))
      .map((path) => path.slice(this.path.length + 1).split('/')[0]);
    return [...new Set([...this.#content.names.keys(), ...below])].sort();
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    return this.#content.names.get(name)?.content.slice();
  }

  async write(name: string, bytes: Uint8Array): Promise<void> {
    this.#world.stateFault?.('write', name);
    const file = new MemoryDisk(name, bytes.byteLength);
    file.write(bytes, 0);
    file.flush();
    this.#content.change((names) => names.set(name, file));
  }

  async claim(name: string, bytes: Uint8Array): Promise<boolean> {
    if (this.#content.names.has(name)) return false;
    await this.write(name, bytes);
    return true;
  }

  async rename(from: string, to: string): Promise<void> {
    const file = this.#content.names.get(from);
    assert(file !== undefined, `rename of ${from}, which is not there`);
    this.#content.change((names) => {
      names.delete(from);
      names.set(to, file);
    });
  }

  async remove(name: string): Promise<void> {
    if (this.#content.names.has(name)) this.#content.change((names) => names.delete(name));
  }

  async removeSelf(): Promise<void> {
    if (this.#content.names.size === 0) this.#world.folders.delete(this.path);
  }

  async open(name: string, options: { create?: number; readOnly?: boolean }): Promise<BlockDevice> {
    const { create } = options;
    if (create !== undefined) {
      const file = new MemoryDisk(name, create);
      this.#content.change((names) => names.set(name, file));
    }
    const file = this.#content.names.get(name);
    if (!file) throw new KageError('io-error', `${this.path}/${name}: no such file`);
    file.fault ??= (operation) => this.#world.stateFault?.(operation, name);
    return new MemoryDevice(file, options.readOnly ?? false, this.#world);
  }

  async sync(): Promise<void> {
    this.#world.stateFault?.('flush', this.path);
    this.#content.sync();
  }

  async turn(): Promise<void> {}

  folder(name: string): Folder {
    return new MemoryFolder(`${this.path}/${name}`, this.#world);
  }

  async beacon(name: string): Promise<() => Promise<void>> {
    this.#world.beacons.add(`${this.path}/${name}`);
    return async () => {
      this.#world.beacons.delete(`${this.path}/${name}`);
    };
  }

  async alive(name: string): Promise<boolean> {
    return this.#world.beacons.has(`${this.path}/${name}`);
  }
}
