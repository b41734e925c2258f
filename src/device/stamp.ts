/**
 * The identity of an image at one moment, and whether a later one proves that nobody wrote in
 * between. A stamp is believed only as far as the file system and the runtime can really tell.
 *
 * Times are decimal strings of nanoseconds since 1970 (a number cannot hold them). Deno gives mtime
 * in milliseconds and ctime in whole seconds, Node and Bun nanoseconds: the coarser of two stamps
 * decides, and a stamp that was taken within one unit of its own ctime cannot exclude a second
 * write in the same unit, so it does not count at that precision.
 */

export type Stamp = {
  readonly kind: 'file' | 'block';
  /** Inode of a file; device number of a block device. */
  readonly id: string;
  readonly birth: string;
  /** Bytes. */
  readonly size: number;
  readonly mtime: string;
  readonly ctime: string;
  /** Sectors written and discarded so far (block devices). */
  readonly writes?: string;
  /** Stamp of the file behind a loop device. */
  readonly backing?: Stamp;
  /** What tells a block device from every other one, for ever: a serial number, a uuid. */
  readonly serial?: string;
  /** What tells it from others that bear its name during one boot. */
  readonly sequence?: string;
  /** When the stamp was taken, ms since 1970. */
  readonly takenAt: number;
  /** Boot id of the machine, or null where the runtime may not read it. */
  readonly boot: string | null;
  /** Why stamps of this file prove nothing, or null: `tmpfs does not note mapped writes`. */
  readonly unreliable: string | null;
};

const SECOND = 1_000_000_000n;
const MILLISECOND = 1_000_000n;
/** Coarsest tick by which a kernel moves file times (10 ms), twice. */
export const TICK_MS = 20;

function precisionOf(time: bigint): bigint {
  if (time % SECOND === 0n) return SECOND;
  return time % MILLISECOND === 0n ? MILLISECOND : 1n;
}

/** Milliseconds to wait before this stamp can exclude a later write at its own precision. */
export function stampDelay(stamp: Stamp): number {
  if (stamp.kind === 'block') return 0;
  const ctime = BigInt(stamp.ctime);
  const mtime = BigInt(stamp.mtime);
  const coarse = precisionOf(ctime) === SECOND ? 1000 + TICK_MS : TICK_MS;
  const newest = Number((ctime > mtime ? ctime : mtime) / MILLISECOND);
  const age = stamp.takenAt - newest;
  return age >= coarse || age < -coarse ? 0 : coarse - age;
}

/** Whether it is the same file at all: not its content. Null, or what is different. */
export function differentFile(recorded: Stamp, now: Stamp): string | null {
  if (recorded.kind !== now.kind) return `was a ${recorded.kind}, is a ${now.kind} now`;
  if (recorded.size !== now.size) {
    const how = now.size < recorded.size ? 'shrank' : 'grew';
    return `${how} from ${recorded.size} to ${now.size} bytes`;
  }
  if (recorded.kind === 'file') {
    if (recorded.id !== now.id) return 'was replaced by another file';
    if (BigInt(recorded.birth) / MILLISECOND !== BigInt(now.birth) / MILLISECOND) {
      return 'was replaced by another file';
    }
    return null;
  }
  return differentDevice(recorded, now);
}

/** What has the name of a block device today may be another one. */
function differentDevice(recorded: Stamp, now: Stamp): string | null {
  const other = 'is another device now';
  if (differ(recorded.serial, now.serial)) return other;
  if (recorded.backing && now.backing) {
    const reason = differentFile(recorded.backing, now.backing);
    return reason === null ? null : `lies on a file that ${reason}`;
  }
  if (recorded.backing || now.backing) return 'has another file behind it';
  const sameBoot = recorded.boot !== null && recorded.boot === now.boot;
  return sameBoot && differ(recorded.sequence, now.sequence) ? other : null;
}

/** True when both are known and not the same. */
function differ(a: string | undefined, b: string | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b;
}

/**
 * Null when the two stamps prove that nobody wrote between them; else the reason, for people.
 * `unreliable` stamps never prove it.
 */
export function movedSince(recorded: Stamp, now: Stamp): string | null {
  const other = differentFile(recorded, now);
  if (other !== null) return other;
  const unreliable = now.unreliable ?? recorded.unreliable;
  if (unreliable !== null) return unreliable;
  if (recorded.kind === 'block') return movedBlock(recorded, now);
  const rc = BigInt(recorded.ctime);
  const nc = BigInt(now.ctime);
  const rm = BigInt(recorded.mtime);
  const nm = BigInt(now.mtime);
  const unitC = max(precisionOf(rc), precisionOf(nc));
  const unitM = max(precisionOf(rm), precisionOf(nm));
  if (rm / unitM !== nm / unitM) return `was written by another program at ${when(now.mtime)}`;
  if (rc / unitC !== nc / unitC) return `was touched by another program at ${when(now.ctime)}`;
  const safeAt = Number(((rc / unitC) * unitC + unitC) / MILLISECOND);
  if (unitC > 1n && recorded.takenAt < safeAt) {
    return 'may have been written since: this runtime sees change times in whole seconds only';
  }
  return null;
}

function movedBlock(recorded: Stamp, now: Stamp): string | null {
  if (recorded.boot === null || recorded.boot !== now.boot) {
    return 'is a block device, and the machine was started anew since its write counters were read';
  }
  if (recorded.id !== now.id) return 'has another device number now';
  if (recorded.writes === undefined || now.writes === undefined) {
    return 'is a block device whose write counters cannot be read';
  }
  if (recorded.writes !== now.writes) return 'was written by another program';
  if (recorded.backing && now.backing) {
    const reason = movedSince(recorded.backing, now.backing);
    return reason === null ? null : `lies on a file that ${reason}`;
  }
  return recorded.backing || now.backing ? 'has another file behind it' : null;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function when(nanoseconds: string): string {
  return new Date(Number(BigInt(nanoseconds) / MILLISECOND)).toISOString();
}
