/**
 * A class that is open: its record, pairs, devices, intent log, and the one way to commit. Holds the
 * lock when it may change anything. Knows the order of a commit (DESIGN section 5, rule 6), not
 * what is committed.
 */

import { assert } from '../base/assert.ts';
import { KageError } from '../base/errors.ts';
import { reach } from '../base/faults.ts';
import { EXTENT_SIZE, EXTENTS_MAX } from '../base/limits.ts';
import { nearest, plural } from '../base/units.ts';
import { IntentLog } from '../bitmap/intent-log.ts';
import { MapFile } from '../bitmap/map-file.ts';
import type { Lock } from '../catalog/lock.ts';
import {
  type ClassRecord,
  type DiskRecord,
  MAP_NAMES,
  type MapName,
  mapFileName,
  type PairRecord,
  type VolumeRecord,
} from '../catalog/records.ts';
import { commitRoot } from '../catalog/root.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Folder, Host } from '../device/host.ts';
import { OffsetLayer } from '../device/layers/offset.ts';
import { RightOfWay } from '../device/right-of-way.ts';
import type { Stamp } from '../device/stamp.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { type Durably, type Pair, viewOf } from '../proxy/pair.ts';
import type { Side } from '../proxy/states.ts';
import { type PairView, sourceOf, targetOf } from '../proxy/transitions.ts';
import type { ClassEvent } from './api.ts';
import { CopyBook } from './copy-book.ts';
import { requireWritable } from './examine.ts';

/** Sizes that only a simulation wants different, and then in every session of a class. */
export type Tuning = {
  readonly extentSize: number;
  readonly extentsMax: number;
  /** Bytes that a copy keeps from clients at once. */
  readonly pieceSize?: number;
  /** Is given what a session believes, to be looked at between its steps. */
  readonly watch?: (state: State) => void;
};

type CommitOptions = {
  readonly clean?: boolean;
  readonly switched?: (next: ClassRecord) => void | Promise<void>;
  /**
   * What the change does is in force though it cannot be written down: it only adds to what will be copied,
   * the intent log says as much until then, and the next commit writes it.
   */
  readonly cautious?: boolean;
};

type WrittenMap = { pair: Pair; name: MapName; added: number; file: MapFile };

export class State {
  readonly host: Host;
  readonly kernel: Kernel;
  readonly folder: Folder;
  readonly lock: Lock | undefined;
  readonly tuning: Tuning;
  record: ClassRecord;
  readonly pairs = new Map<number, Pair>();
  /** Disks that cannot be used now, and why. */
  readonly problems = new Map<string, KageError>();
  /** Identities at the last moment at which this process looked, by disk. */
  readonly seen = new Map<string, Stamp>();
  /** Disks that this process has written since `seen`. */
  readonly written = new Set<string>();
  readonly #writes = new Map<string, number>();
  /** Clients use volumes while verbs run and copies go on in the background (a server). */
  live = false;
  readonly copies = new CopyBook();
  /** Told of what its callers are not told. Must not throw. */
  tell: (event: ClassEvent) => void = () => {};
  /** How many users each volume has, by its number. */
  readonly #users = new Map<number, number>();
  /** How many each volume has had so far. */
  readonly #everUsed = new Map<number, number>();
  /** How many copies write to a disk now. */
  readonly #copyTargets = new Map<string, number>();
  /** Why the intent log cannot be believed, or null. */
  logDoubt: string | null = null;
  #log: IntentLog | undefined;
  readonly #devices = new Map<string, BlockDevice>();
  readonly #opening = new Map<string, Promise<BlockDevice>>();
  readonly #parts = new Map<string, OffsetLayer>();
  readonly #ways = new Map<string, RightOfWay>();
  /** What the commit that is being written makes of the record. */
  #next: ClassRecord | undefined;
  #broken: unknown;
  #whyBroken: string | null = null;
  #committed = false;
  #turns: Promise<unknown> = Promise.resolve();

  constructor(parts: {
    host: Host;
    kernel: Kernel;
    folder: Folder;
    record: ClassRecord;
    lock?: Lock;
    tuning?: Tuning;
  }) {
    this.host = parts.host;
    this.kernel = parts.kernel;
    this.folder = parts.folder;
    this.record = parts.record;
    this.lock = parts.lock;
    this.tuning = parts.tuning ?? { extentSize: EXTENT_SIZE, extentsMax: EXTENTS_MAX };
  }

  /** True once this process has committed anything. */
  get changed(): boolean {
    return this.#committed;
  }

  /** True when a commit failed half-way: nothing more may be written down. */
  get broken(): boolean {
    return this.#broken !== undefined;
  }

  /** Why it is broken, for people, or null. */
  get whyBroken(): string | null {
    return this.#whyBroken;
  }

  /** The record that the maps in memory belong to. */
  get latest(): ClassRecord {
    return this.#next ?? this.record;
  }

  /** Throws why, if it did. */
  requireIntact(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  // Finding things

  disk(name: string): DiskRecord {
    const disk = this.record.disks.find((d) => d.name === name);
    if (!disk) throw this.noSuch('disk', name, this.record.disks);
    return disk;
  }

  volume(name: string): VolumeRecord {
    const volume = this.record.volumes.find((v) => v.name === name);
    if (!volume) throw this.noSuch('volume', name, this.record.volumes);
    return volume;
  }

  volumeById(id: number): VolumeRecord {
    const volume = this.record.volumes.find((v) => v.id === id);
    assert(volume !== undefined, `volume id ${id} is in no record`);
    return volume;
  }

  diskOf(volume: VolumeRecord): DiskRecord {
    return this.disk(volume.disk);
  }

  pairRecord(id: number): PairRecord {
    const pair = this.record.pairs.find((p) => p.id === id);
    assert(pair !== undefined, `pair id ${id} is in no record`);
    return pair;
  }

  pair(record: PairRecord): Pair {
    const pair = this.pairs.get(record.id);
    assert(pair !== undefined, `pair id ${record.id} is not open`);
    return pair;
  }

  pairOfProxy(volume: VolumeRecord): PairRecord | undefined {
    return this.record.pairs.find((p) => p.proxy === volume.id);
  }

  pairsOf(volume: VolumeRecord): PairRecord[] {
    return this.record.pairs.filter((p) => p.master === volume.id || p.proxy === volume.id);
  }

  siblings(record: PairRecord): PairRecord[] {
    return this.record.pairs.filter((p) => p.master === record.master && p.id !== record.id);
  }

  view(record: PairRecord): PairView {
    return viewOf(record, this.pair(record), {
      master: this.volumeById(record.master).invalid === null,
      proxy: this.volumeById(record.proxy).invalid === null,
    });
  }

  sideVolume(record: PairRecord, side: Side): VolumeRecord {
    return this.volumeById(side === 'master' ? record.master : record.proxy);
  }

  noSuch(kind: string, name: string, among: readonly { name: string }[]): KageError {
    const near = nearest(
      name,
      among.map((o) => o.name),
    );
    return new KageError('no-such-object', `no ${kind} '${name}' in class ${this.record.class}`, {
      hint: near === undefined ? undefined : `did you mean '${near}'?`,
      data: { kind, name },
    });
  }

  // Users of volumes

  /** True when any volume of the class has users. */
  get inUse(): boolean {
    return this.#users.size > 0;
  }

  addUser(volume: number): void {
    this.#users.set(volume, this.usersOf(volume) + 1);
    this.#everUsed.set(volume, (this.#everUsed.get(volume) ?? 0) + 1);
  }

  removeUser(volume: number): void {
    const count = this.usersOf(volume);
    assert(count > 0, 'a volume has fewer users than none');
    if (count === 1) this.#users.delete(volume);
    else this.#users.set(volume, count - 1);
  }

  /** Something of ours is being written to the disk, or has just been. */
  noteWrite(disk: string): void {
    this.written.add(disk);
    this.#writes.set(disk, this.writesTo(disk) + 1);
  }

  /** Grows with each `noteWrite`: a look at the disk between two equal answers has seen all of ours. */
  writesTo(disk: string): number {
    return this.#writes.get(disk) ?? 0;
  }

  /** Runs a copy that writes to the disk all the time. */
  async whileWriting<T>(disk: string, work: () => Promise<T>): Promise<T> {
    const count = (by: 1 | -1) => this.#copyTargets.set(disk, this.#copiesTo(disk) + by);
    count(1);
    try {
      return await work();
    } finally {
      count(-1);
    }
  }

  #copiesTo(disk: string): number {
    return this.#copyTargets.get(disk) ?? 0;
  }

  /** True when clients or copies may be writing to the disk: then nobody can tell who wrote what. */
  isUsed(disk: string): boolean {
    if (this.#copiesTo(disk) > 0) return true;
    if (this.#users.size === 0) return false;
    return this.#relatives(disk).some((id) => this.#users.has(id));
  }

  /** Grows with each user of a volume whose writes may go to the disk. */
  timesUsed(disk: string): number {
    return this.#relatives(disk).reduce((sum, id) => sum + (this.#everUsed.get(id) ?? 0), 0);
  }

  /** Volumes that are on the disk, or in a family with one that is. */
  #relatives(disk: string): number[] {
    const family = (id: number) => this.record.pairs.find((p) => p.proxy === id)?.master ?? id;
    const { volumes } = this.record;
    const families = new Set(volumes.filter((v) => v.disk === disk).map((v) => family(v.id)));
    return volumes.map((v) => v.id).filter((id) => families.has(family(id)));
  }

  usersOf(volume: number): number {
    return this.#users.get(volume) ?? 0;
  }

  /** Throws `wrong-state` while somebody uses the volume. */
  requireUnused({ id, name }: VolumeRecord, hint = 'disconnect its clients first'): void {
    const count = this.usersOf(id);
    if (count === 0) return;
    throw new KageError('wrong-state', `${name}: is in use (${plural(count, 'user')})`, {
      hint,
      data: { volume: name, users: count },
    });
  }

  // Devices

  /** Throws what is wrong with a volume's image, if anything is. */
  usable(volume: VolumeRecord): void {
    const problem = this.problems.get(volume.disk);
    if (problem) throw problem;
  }

  /** The volume as a device. `write`: noted, so that the identity is taken anew. */
  async device(volume: VolumeRecord, access: 'read' | 'write'): Promise<BlockDevice> {
    this.usable(volume);
    const disk = this.diskOf(volume);
    const key = `${access} ${disk.name}`;
    if (!this.#devices.has(key)) {
      let opening = this.#opening.get(key);
      if (opening === undefined) {
        opening = this.#open(volume, access).finally(() => this.#opening.delete(key));
        this.#opening.set(key, opening);
      }
      this.#devices.set(key, await opening);
    }
    return this.openDevice(volume, access)!;
  }

  /** The same, if it is open already. */
  openDevice(volume: VolumeRecord, access: 'read' | 'write'): BlockDevice | undefined {
    const device = this.#devices.get(`${access} ${volume.disk}`);
    if (device === undefined) return undefined;
    if (access === 'write') this.noteWrite(volume.disk);
    const key = `${access} ${volume.id}`;
    let part = this.#parts.get(key);
    if (part?.below !== device || part.offset !== volume.offset) {
      part = new OffsetLayer(device, volume.offset, volume.size);
      this.#parts.set(key, part);
    }
    return part;
  }

  async #open(volume: VolumeRecord, access: 'read' | 'write'): Promise<BlockDevice> {
    const disk = this.diskOf(volume);
    if (access === 'write') await this.requireWritable(volume);
    const device = await this.host.openDevice(disk.path, {
      readOnly: access === 'read',
      clients: this.rightOfWay(disk.name),
      // It may come to the disk after somebody has looked at that.
      written: () => this.noteWrite(disk.name),
    });
    if (device.size >= disk.size) return device;
    await device.close();
    throw new KageError(
      'image-changed',
      `disk ${disk.name}: ${disk.path} shrank from ${disk.size} to ${device.size} bytes`,
      { data: { path: disk.path, disk: disk.name } },
    );
  }

  /** Whose writes to a disk go before those of copy threads; undefined where there are no clients. */
  rightOfWay(disk: string): RightOfWay | undefined {
    if (!this.live) return undefined;
    let way = this.#ways.get(disk);
    if (way === undefined) {
      way = new RightOfWay();
      this.#ways.set(disk, way);
    }
    return way;
  }

  /** Throws unless the volume's image may be written now. */
  async requireWritable(volume: VolumeRecord): Promise<void> {
    const disk = this.diskOf(volume);
    const facts = await this.host.inspect(disk.path);
    if (facts === undefined) {
      throw new KageError('image-missing', `${disk.path}: no such file`, {
        data: { path: disk.path },
      });
    }
    requireWritable(facts, disk.path);
  }

  /** Source and target of the pair's direction. */
  async ends(record: PairRecord): Promise<{ source: BlockDevice; target: BlockDevice }> {
    const source = this.sideVolume(record, sourceOf(record.direction));
    const target = this.sideVolume(record, targetOf(record.direction));
    return {
      source: await this.device(source, 'read'),
      target: await this.device(target, 'write'),
    };
  }

  /** Makes all that was written to this volume's disk durable, by whichever device. */
  async flushVolume(volume: VolumeRecord): Promise<void> {
    // One sync is for the whole file, and costs the disk as much as any. Writers are told of what failed.
    const open = this.#devices.get(`write ${volume.disk}`) ?? (await this.device(volume, 'read'));
    await open.flush();
  }

  isOpen({ disk }: VolumeRecord): boolean {
    return [...this.#devices.keys()].some((key) => key.endsWith(` ${disk}`));
  }

  async closeDevices(disk?: string): Promise<void> {
    const closing = [...this.#devices].filter(([key]) => !disk || key.endsWith(` ${disk}`));
    for (const [key] of closing) this.#devices.delete(key);
    for (const [, device] of closing) await device.close();
  }

  // The intent log

  async log(): Promise<IntentLog> {
    if (this.#log === undefined) await this.openLog(false);
    this.#log ??= await IntentLog.create(this.folder, this.kernel, this.tuning.extentsMax);
    return this.#log;
  }

  /** Opens the log if the class has one, to see what it holds. */
  async openLog(readOnly: boolean): Promise<void> {
    if (!(await this.folder.list()).includes('intent')) {
      // It is made with the first pair: without it nobody knows what was being written.
      const { clean, pairs } = this.record;
      if (!clean && pairs.length > 0) this.logDoubt = 'the intent log is missing';
      return;
    }
    const { extentsMax } = this.tuning;
    const opened = await IntentLog.open(this.folder, this.kernel, extentsMax, readOnly);
    this.#log = opened.log;
    this.logDoubt = opened.doubt;
  }

  get logIsOpen(): boolean {
    return this.#log !== undefined;
  }

  /** True when clients may have written the volume in a session that did not end in order. */
  isHot(volume: number): boolean {
    return this.logDoubt !== null || (this.#log?.extents ?? []).some((e) => e.volume === volume);
  }

  // Committing

  /**
   * Applies `change` to the record and makes it durable, with new generations of every stale map. One
   * after the other: `change` is the place to alter maps as a whole, since no other commit can write
   * them down half-changed. On failure the last commit stands on disk. If memory is ahead of it then (maps
   * were altered, or nobody knows whether the new root is durable), nothing may be written any more and
   * the class has to be opened anew; else it is as if nothing had been tried.
   *
   * `switched`: the change is in force at once, in memory; this is called then, and waited for before
   * anything is written. It may alter the record further.
   */
  async commit(change: (record: ClassRecord) => void, options: CommitOptions = {}): Promise<void> {
    await this.turn(() => this.#commit(change, options));
  }

  /** Runs `work` while nothing is committed by others. It must not commit, nor wait for a hold. */
  turn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turns.then(work);
    this.#turns = result.catch(() => {});
    return result;
  }

  async #commit(change: (record: ClassRecord) => void, options: CommitOptions): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken;
    await this.lock?.check();
    const before = this.record;
    const next = structuredClone(before);
    const staleBefore = this.#staleMarks();
    change(next);
    // Only a new open knows what is true once memory is ahead of the disk.
    const altered = options.switched !== undefined || this.#staleMarks() !== staleBefore;
    this.#next = next;
    try {
      await this.#write(next, options, altered && !options.cautious);
    } finally {
      this.#next = undefined;
      // In force, also if it could not be written down.
      if (this.record === next) for (const event of newsIn(before, next)) this.tell(event);
    }
  }

  /** `ahead`: memory is ahead of the disk already. */
  async #write(next: ClassRecord, options: CommitOptions, ahead: boolean): Promise<void> {
    next.clean = options.clean ?? false;
    next.boot = this.host.boot();
    next.epoch = this.lock?.epoch ?? next.epoch;
    let isAhead = ahead;
    const { generation } = next;
    let written: WrittenMap[] = [];
    try {
      if (options.switched) {
        this.record = next;
        await options.switched(next);
      }
      written = await this.#writeMaps(next);
      await commitRoot(this.folder, this.kernel, next, this.host.now(), () => {
        isAhead = true;
      });
    } catch (error) {
      for (const { file } of written) await file.close();
      next.generation = generation;
      if (isAhead) this.#break(error);
      throw this.#broken ?? error;
    }
    this.record = next;
    this.#committed = true;
    for (const { pair, name, added, file } of written) {
      await pair.replaceFile(name, file);
      pair.stale.written(name, added);
    }
    await this.#sweep();
  }

  /** Changes whenever any map of any pair becomes stale. */
  #staleMarks(): number {
    let marks = 0;
    for (const pair of this.pairs.values()) marks += pair.stale.marks;
    return marks;
  }

  #break(error: unknown): void {
    const { class: name } = this.record;
    const reason = error instanceof Error ? error.message : String(error);
    // A command ends with its class: it is told what happened, and run again.
    this.#broken = this.live
      ? new KageError('failed', `class ${name}: its state could not be written down: ${reason}`, {
          hint: 'nothing that was flushed is lost: mend the cause, then restart the server',
          data: { class: name },
          cause: error,
        })
      : error;
    this.#whyBroken = reason;
    this.tell({ kind: 'broken', reason });
  }

  /** Makes what was changed of one map durable: by its file, or by a commit if that has to be new. */
  readonly saveMap: Durably = async (pair, name) => {
    if (pair.canSave(name)) await pair.save(name);
    else if (this.pairs.get(pair.id) === pair) await this.commit(() => {});
  };

  async #writeMaps(next: ClassRecord): Promise<WrittenMap[]> {
    const written: WrittenMap[] = [];
    try {
      for (const record of next.pairs) {
        const pair = this.pairs.get(record.id);
        if (!pair) continue;
        for (const [name, added] of pair.stale.now()) {
          record.maps[name] = next.generation + 1;
          const facts = {
            name: mapFileName(record, name),
            regions: pair.regions,
            regionSize: pair.regionSize,
          };
          const file = await MapFile.create(this.folder, facts, pair.maps[name]);
          written.push({ pair, name, added, file });
        }
      }
      if (written.length > 0) await this.folder.sync();
    } catch (error) {
      for (const { file } of written) await file.close();
      throw error;
    }
    reach('commit:maps-written');
    return written;
  }

  /** Removes map files that no pair names. A leftover harms nobody, so errors are not ours. */
  async #sweep(): Promise<void> {
    const named = new Set(
      this.record.pairs.flatMap((pair) => MAP_NAMES.map((name) => mapFileName(pair, name))),
    );
    for (const name of await this.folder.list().catch(() => [])) {
      if (/^pair\d+-/.test(name) && !named.has(name))
        await this.folder.remove(name).catch(() => {});
    }
  }

  /** Gives up everything that is open, in order, writing nothing. */
  async dispose(): Promise<void> {
    for (const pair of this.pairs.values()) await pair.close();
    this.pairs.clear();
    await this.#log?.close();
    this.#log = undefined;
    await this.closeDevices();
    await this.lock?.release();
    // Nothing was ever committed: a command that failed leaves no empty class behind.
    if (this.lock && this.record.generation === 0) await this.folder.removeSelf();
  }
}

/** What a commit makes worse: data or maps that cannot be believed any more. */
function* newsIn(before: ClassRecord, after: ClassRecord): Generator<ClassEvent> {
  const nameOf = (id: number) => after.volumes.find((v) => v.id === id)?.name ?? '';
  for (const { id, name, invalid } of after.volumes) {
    const then = before.volumes.find((v) => v.id === id);
    if (invalid !== null && then?.invalid == null) {
      yield { kind: 'invalid', volume: name, problem: invalid.reason };
    }
  }
  for (const { id, master, proxy, doubt } of after.pairs) {
    const then = before.pairs.find((p) => p.id === id);
    if (doubt === null || then === undefined || then.doubt !== null) continue;
    yield { kind: 'doubt', master: nameOf(master), proxy: nameOf(proxy), reason: doubt };
  }
}
