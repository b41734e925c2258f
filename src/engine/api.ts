/**
 * What the engine offers, as types: the command line, a server and the library know these shapes and
 * nothing beneath them. Sizes and offsets are bytes, times ms since 1970, unless a name says blocks
 * (512 bytes) or regions (the pair's tracking unit). Every call may throw `KageError`.
 */

import type { Direction } from '../proxy/states.ts';
import type { PairState } from '../proxy/transitions.ts';

/**
 * A volume by its name, or an image by its path: a reference with `/` or `.` is a path (relative to
 * the current folder).
 */
export type VolumeRef = string;

export type Method = 'differential' | 'compare' | 'full';

/** Told about twice a second while a copy or a comparison runs, and once at its end. */
export type Progress = {
  readonly verb: string;
  readonly master: string;
  readonly proxy: string;
  readonly direction: Direction;
  readonly method: Method;
  readonly reason: string;
  /** Bytes of the volume that are done, and of all that the copy has to look at. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly seconds: number;
  /** Bytes looked at per second over the last seconds; 0 at the start. */
  readonly rateBytesPerSec: number;
  /** Estimate; null while nothing is known. */
  readonly secondsLeft: number | null;
  readonly finished: boolean;
};

export type RunOptions = {
  /** Plans and reports, changes nothing. */
  readonly dryRun?: boolean;
  /** Stops at a safe point; the call then throws `interrupted`, and the next run continues. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
};

export type CopyOptions = RunOptions & {
  /** Upper bound of bytes looked at per second. */
  readonly rateBytesPerSec?: number;
  /** Pause between transfers, ms (the manual's `delay=`, 0 to 1000). */
  readonly delayMs?: number;
  /** Read both sides and write what differs, even if the map is trusted. */
  readonly compare?: boolean;
  /** Throw `differential-refused` instead of a compare or full copy. */
  readonly differentialOnly?: boolean;
  /** `false`: answer when the verb is committed, and copy beside other calls (a `live` class). */
  readonly wait?: boolean;
};

export type VerifyOptions = RunOptions & Pick<CopyOptions, 'rateBytesPerSec'>;

/**
 * Makes a service stand still around the instant of a verb. In a `live` class all that is slow is done
 * before `freeze`, and `thaw` comes right after the instant. Elsewhere nobody tracks what the service
 * writes: it stands still for the copy that a part needs, and an update is refused.
 */
export type Quiesce = {
  /** Called once, unless the verb is refused before. If it rejects, the verb does, too. */
  freeze(): Promise<void>;
  /**
   * Called once for each `freeze`, whatever happens, also after one that rejected. If it rejects, a verb
   * that was done rejects with `partly`.
   */
  thaw(): Promise<void>;
  /** The instant comes within this time after the freeze has begun, or not at all: ms, at most a day. */
  readonly limitMs: number;
};

export type CopyReport = {
  readonly direction: Direction;
  readonly method: Method;
  /** Why this method, for people. */
  readonly reason: string;
  /** Regions the copy had to look at, and how many of them it wrote (at least in part). */
  readonly regions: number;
  readonly regionsWritten: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly seconds: number;
};

export type PairReport = {
  readonly master: string;
  readonly proxy: string;
  /** State after the verb (in a dry run: after the verb had it run); 'unrelated' after break. */
  readonly state: PairState | 'unrelated';
  readonly copy?: CopyReport;
  /** Things a careful person wants to know: `made the image …`, `no server: copied to the end`. */
  readonly notes: readonly string[];
};

export type VerbReport = {
  readonly verb: string;
  readonly class: string;
  readonly dryRun: boolean;
  readonly pairs: readonly PairReport[];
};

export type VerifyReport = {
  readonly verb: 'verify';
  readonly class: string;
  readonly pairs: readonly {
    readonly master: string;
    readonly proxy: string;
    readonly state: PairState;
    readonly regions: number;
    /** Regions that differ now. */
    readonly differing: number;
    /** Those among them that the engine believed equal: 0 unless something is wrong. */
    readonly unexpected: number;
    /**
     * XXH64 of the whole volumes, 16 hex digits (`xxhsum -H1`). Null: it may have been written while it
     * was read.
     */
    readonly masterHash: string | null;
    readonly proxyHash: string | null;
    readonly seconds: number;
    readonly notes: readonly string[];
  }[];
};

export type DiskInfo = {
  readonly name: string;
  readonly type: 'keep' | 'single' | 'undef';
  readonly path: string;
  readonly size: number;
  readonly status: 'ENABLE' | 'DISABLE';
  /** Why it is DISABLE, for people. */
  readonly problem: string | null;
  /** Nobody else writes to it, by the user's word (`--exclusive`). */
  readonly exclusive: boolean;
  /** Bytes not taken by volumes. */
  readonly free: number;
};

export type VolumeInfo = {
  readonly name: string;
  readonly disk: string;
  readonly path: string;
  /** Of its first byte in the disk. */
  readonly offset: number;
  readonly size: number;
  readonly status: 'ACTIVE' | 'STOP' | 'INVALID';
  /** Why it is INVALID, for people. */
  readonly problem: string | null;
  readonly locked: boolean;
  /** It is started, and clients may not write to it. */
  readonly readOnly: boolean;
  readonly role: 'master' | 'proxy' | null;
};

export type PairInfo = {
  readonly master: string;
  readonly proxy: string;
  readonly state: PairState;
  readonly joined: boolean;
  readonly direction: Direction;
  readonly regionSize: number;
  readonly regions: number;
  readonly changedRegions: number;
  readonly pendingRegions: number;
  readonly incrementRegions: number;
  /** When it was joined, parted…, last. */
  readonly since: number;
  readonly lastVerb: string;
  /** Null when the maps are trusted; else why the next copy has to compare. */
  readonly doubt: string | null;
  /** What the next copy would be: `rejoin` of a parted pair, the rest of an unfinished copy. */
  readonly next: {
    readonly verb: string;
    readonly direction: Direction;
    readonly method: Method;
    readonly reason: string;
    /** Bytes it looks at. */
    readonly bytes: number;
  } | null;
  readonly lastCopy: (CopyReport & { readonly at: number }) | null;
};

export type ClassInfo = {
  readonly class: string;
  readonly folder: string;
  readonly generation: number;
  /** Null, or why the class is closed: its newest catalog root cannot be read. */
  readonly closed: string | null;
  /** The process that has the class open now, if any. */
  readonly holder: {
    readonly pid: number;
    readonly command: string;
    readonly since: number;
  } | null;
  readonly disks: readonly DiskInfo[];
  readonly volumes: readonly VolumeInfo[];
  readonly pairs: readonly PairInfo[];
};

/** How a copy ended; `stopped`: at a safe point, the rest is still pending. */
export type CopyEnd = 'done' | 'stopped' | 'failed';

/** A copy that runs. */
export type CopyNow = {
  readonly verb: string;
  readonly direction: Direction;
  readonly method: Method;
  readonly reason: string;
  /** Bytes of the volume that are done, and of all that the copy has to look at. */
  readonly doneBytes: number;
  readonly totalBytes: number;
};

/** How many copies of a pair ended so since the class was opened. */
export type CopyTally = {
  readonly method: Method;
  readonly end: CopyEnd;
  readonly count: number;
};

export type VolumeLook = Pick<VolumeInfo, 'name' | 'status' | 'role'> & {
  /** Why it is INVALID, or cannot be used; for people. */
  readonly problem: string | null;
  /** Clients that have it attached. */
  readonly users: number;
};

export type PairLook = Pick<PairInfo, 'master' | 'proxy' | 'state' | 'joined' | 'doubt'> & {
  readonly changedBytes: number;
  readonly pendingBytes: number;
  /** When the proxy became a snapshot last, by part or update; null: never. */
  readonly snapshotAt: number | null;
  /** When the last copy was completed. */
  readonly lastCopyAt: number | null;
  /** The last copy that was not differential. */
  readonly lastWhole: Pick<CopyReport, 'method' | 'reason'> | null;
  readonly copy: CopyNow | null;
  readonly copies: readonly CopyTally[];
};

/** A class at one moment, as its watchers want it. */
export type ClassLook = {
  readonly class: string;
  /** Null, or why nothing can be written down any more: the class has to be opened anew. */
  readonly broken: string | null;
  readonly volumes: readonly VolumeLook[];
  readonly pairs: readonly PairLook[];
};

/** What happens in an open class beside the answers that its callers get. */
export type ClassEvent =
  | (Pick<PairInfo, 'master' | 'proxy'> &
      Omit<CopyNow, 'doneBytes'> & { readonly kind: 'copy-begun' })
  | (Pick<PairInfo, 'master' | 'proxy'> &
      Omit<CopyNow, 'doneBytes' | 'totalBytes'> & {
        readonly kind: 'copy-ended';
        readonly end: CopyEnd;
        /** Of a copy that is done. */
        readonly report: CopyReport | null;
        /** Why it was stopped or has failed; for people. */
        readonly error: string | null;
      })
  /** Its data cannot be believed from now on. */
  | { readonly kind: 'invalid'; readonly volume: string; readonly problem: string }
  /** Its maps cannot be believed from now on: the next copy compares. */
  | (Pick<PairInfo, 'master' | 'proxy'> & { readonly kind: 'doubt'; readonly reason: string })
  /** `verify` has found regions that differ and were believed equal. */
  | (Pick<PairInfo, 'master' | 'proxy'> & { readonly kind: 'differs'; readonly regions: number })
  /** Nothing can be written down any more. */
  | { readonly kind: 'broken'; readonly reason: string };

export type StartOptions = {
  /** Also a volume that is locked. */
  readonly unlock?: boolean;
  /** Clients may read it and not write to it; without this they may do both. */
  readonly readOnly?: boolean;
};

export type AddRequest = {
  readonly path: string;
  /** Without it: from the file's name (`vm.proxy.img` gives `vm-proxy`). */
  readonly name?: string;
  readonly exclusive?: boolean;
};

/**
 * A volume in use. Offsets and lengths are bytes inside [0, size). `read`, `write` and `zero` answer
 * nothing when they are done at once, else a promise; they throw or reject with `KageError`.
 */
export interface AttachedVolume {
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  read(into: Uint8Array, offset: number): void | Promise<void>;
  /** Tracked. `from` must not change until it is done. */
  write(from: Uint8Array, offset: number): void | Promise<void>;
  /** Reads as zeros afterwards. */
  zero(offset: number, length: number): void | Promise<void>;
  /** Every write that was done before this call is durable afterwards, on all sides. */
  flush(): Promise<void>;
  /** Of a parted proxy that is started read-only. */
  readonly increment?: Increment;
  close(): Promise<void>;
}

/**
 * Where the content of a snapshot differs from that of the one before, which the part or update before
 * the last one made. What cannot be told differs. It says the same until the volume is closed.
 */
export interface Increment {
  /** Bytes: what is told of one byte of a region is told of all. */
  readonly regionSize: number;
  /** Runs of bytes that begin at `offset` and reach at least to `offset + length`, or to the end. */
  runs(offset: number, length: number): { length: number; differs: boolean }[];
}

/** An open class: this process alone may change it until `close`. */
export interface DiskClass {
  readonly name: string;

  /** Registers images as `keep` disks with one volume each, data kept; starts the volumes. */
  add(images: readonly AddRequest[], options?: RunOptions): Promise<readonly VolumeInfo[]>;
  /** Makes a sparse image and adds it. `size` bytes, at least 1. */
  create(name: string, size: number, path: string, options?: RunOptions): Promise<VolumeInfo>;
  /** Forgets unrelated volumes (of `keep` disks: the disk too). Never deletes an image. */
  remove(volumes: readonly VolumeRef[], options?: RunOptions): Promise<void>;

  /** `sdxdisk -M`: a disk without volumes. `single`: volumes are cut from it by `addVolume`. */
  addDisk(
    path: string,
    name: string,
    type: 'keep' | 'single' | 'undef',
    options?: RunOptions,
  ): Promise<DiskInfo>;
  /** `sdxdisk -R`: a disk that carries no volume. */
  removeDisk(name: string, options?: RunOptions): Promise<void>;
  /** `sdxvolume -M`: the first free range of a single disk, or the whole of a keep disk. `size` bytes. */
  addVolume(disk: string, name: string, size: number, options?: RunOptions): Promise<VolumeInfo>;
  /** `sdxclass -R`: a class without volumes. The class object is closed by it. */
  removeClass(options?: RunOptions): Promise<void>;

  /**
   * Starts volumes; those that are started already get the access mode that is asked for, unless they
   * are in use (`wrong-state`).
   */
  start(volumes: readonly VolumeRef[], options?: StartOptions): Promise<void>;
  /** `force`: also while clients use them; their next request is refused. */
  stop(volumes: readonly VolumeRef[], options?: { force?: boolean }): Promise<void>;
  lock(volumes: readonly VolumeRef[]): Promise<void>;
  unlock(volumes: readonly VolumeRef[]): Promise<void>;
  /** Declares an INVALID volume good. The caller has checked or restored its data. */
  fix(volume: VolumeRef): Promise<void>;

  /**
   * Joins and copies to the end. Images given by path are added first; an absent proxy image is
   * made. `regionSize` in bytes, a power of two from 4 KiB to 4 MiB. On a pair that is joined or
   * joining already: finishes or refreshes the copy, or throws `wrong-state` when nothing is left.
   */
  join(
    master: VolumeRef,
    proxy: VolumeRef,
    options?: CopyOptions & { regionSize?: number; strictStop?: boolean },
  ): Promise<VerbReport>;
  relate(
    master: VolumeRef,
    proxy: VolumeRef,
    options?: RunOptions & { regionSize?: number },
  ): Promise<VerbReport>;
  /**
   * One instant for all proxies. If an image was written outside the engine since it was joined,
   * the proxy is first made equal again by comparison. `readOnly`: the access mode in which the proxies
   * are started; without it clients may write to them.
   */
  part(
    proxies: readonly VolumeRef[],
    options?: CopyOptions & {
      instant?: boolean;
      unlock?: boolean;
      readOnly?: boolean;
      quiesce?: Quiesce;
    },
  ): Promise<VerbReport>;
  rejoin(
    proxies: readonly VolumeRef[],
    options?: CopyOptions & { strictStop?: boolean },
  ): Promise<VerbReport>;
  /** `keep`: stay parted, the snapshot stays (the manual's Restore); else joined (RejoinRestore). */
  restore(
    proxies: readonly VolumeRef[],
    options?: CopyOptions & {
      keep?: boolean;
      instant?: boolean;
      strictStop?: boolean;
      /** Clients that use the master go on with what the proxy holds (a `live` class). */
      live?: boolean;
    },
  ): Promise<VerbReport>;
  update(
    proxies: readonly VolumeRef[],
    options?: CopyOptions & { instant?: boolean; strictStop?: boolean; quiesce?: Quiesce },
  ): Promise<VerbReport>;
  swap(proxy: VolumeRef, options?: CopyOptions): Promise<VerbReport>;
  cancel(proxy: VolumeRef, options?: RunOptions): Promise<VerbReport>;
  /** `restore`: even if the master is half restored; it becomes INVALID. */
  break(proxy: VolumeRef, options?: RunOptions & { restore?: boolean }): Promise<VerbReport>;
  /**
   * Reads both sides of each pair and reports. Does not throw for differences. In a `live` class other
   * calls and clients go on meanwhile.
   */
  verify(proxies: readonly VolumeRef[], options?: VerifyOptions): Promise<VerifyReport>;

  /**
   * Writes through the engine: tracked. The volume must be ACTIVE and not read-only (`not-permitted`),
   * the range inside it.
   */
  write(volume: VolumeRef, offset: number, data: Uint8Array): Promise<void>;
  read(volume: VolumeRef, offset: number, length: number): Promise<Uint8Array>;
  /** Makes every earlier write of the volume durable, on all sides it went to. */
  flush(volume: VolumeRef): Promise<void>;

  /**
   * Gives the volume to a client, whose calls overlap with each other, with verbs and with copies. The
   * class must have been opened with `live`; the volume must be ACTIVE. While it is attached, verbs that
   * need it stopped are refused. Of a volume that was started read-only nobody gets more than that.
   */
  attach(volume: VolumeRef, options?: { readOnly?: boolean }): Promise<AttachedVolume>;

  info(): Promise<ClassInfo>;
  /** Writes everything down, records the identities of the images, gives the class free. */
  close(): Promise<void>;
}

/** A class that this process has opened. */
export interface OwnClass extends DiskClass {
  /** How it looks now. Waits for nobody and reads nothing from a disk. */
  look(): ClassLook;
}

/** Result of `diffImages` and `copyImage`, the tools that need no class. */
export type ImageReport = {
  readonly source: string;
  readonly target: string;
  readonly size: number;
  readonly regionSize: number;
  readonly regions: number;
  readonly differing: number;
  /** Byte ranges that differ, merged by region, at most `rangesMax` of them. */
  readonly ranges: readonly { readonly offset: number; readonly length: number }[];
  readonly rangesLeftOut: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly seconds: number;
  readonly notes: readonly string[];
};
