/**
 * What each work must reach (DESIGN section 8), and the ratios that follow from what was measured.
 * Floors only rise: one that turns out tame is raised here.
 */

import { type Entry, isRate, type Ratio } from './result.ts';

/** The best of `peers` counts. `ours` and `peers` are names of entries. */
interface Floor {
  work: string;
  ours: string;
  peers: readonly string[];
  /** What the table calls the best of several. */
  called?: string;
  kind: Ratio['kind'];
  floor: number;
  /** Which rounds are compared; without it the best. Of a latency the best round says little. */
  by?: 'median';
}

const WORDS = ['Int32Array', 'BigInt64Array'];

export const WORKS = {
  diffHot: 'diff, hot 1 MiB',
  diffLarge: 'diff, 64 MiB',
  equal: 'copy of an equal pair, 2 GiB',
  full: 'full copy 2 GiB, no sync',
  synced: 'full copy 2 GiB, synced',
  sparse: 'join of a sparse 1 TiB image',
  rejoin: 'rejoin after 1 % changed, 8 GiB',
  info: 'kage info',
  randomRead: 'NBD 4 KiB random read, warm',
  randomWrite: 'NBD 4 KiB random write, warm',
  coldRead: 'NBD 4 KiB random read, cold',
  sequentialRead: 'NBD 1 MiB sequential read',
  sequentialWrite: 'NBD 1 MiB sequential write',
  tracked: 'NBD 4 KiB random write, tracked',
  copyingRead: 'NBD 4 KiB read during a copy',
  copyingWrite: 'NBD 4 KiB write during a copy',
  stallRead: 'NBD 4 KiB read beside a stall',
  stallWrite: 'NBD 4 KiB write beside a stall',
  pause: 'NBD pause at part, 16 TiB',
  memory: 'serve, memory of a 16 TiB pair',
  memoryMore: 'serve, memory of a further pair',
  restart: 'serve after kill -9, hot set full',
  amplification: 'NBD 4 KiB random write, bytes written',
} as const;

/** Works that are measured on Node only; the others on each runtime that is here. */
export const ON_NODE: ReadonlySet<string> = new Set([
  WORKS.equal,
  WORKS.full,
  WORKS.synced,
  WORKS.sparse,
  WORKS.rejoin,
]);

/** Sides of the works over NBD. */
export const SIDES = {
  /** In the place of a side when a whole work is left out. */
  all: 'all sides',
  serve: 'kage serve',
  plain: 'plain volume',
  tracked: 'parted, tracked',
  copying: 'joined, being copied',
  calm: 'no stall',
  stalling: 'another disk stalls',
  noPart: 'no part',
  allWrites: 'all writes',
  most: 'kage serve, at its most',
  empty: 'kage serve, no pair yet',
  stopped: 'after an orderly end',
  pending: 'instant snapshot, all pending',
  settled: 'snapshot, nothing pending',
  limit: 'limit',
} as const;

export const FLOORS: readonly Floor[] = [
  kernel(WORKS.diffHot, ['native'], 0.9),
  kernel(WORKS.diffHot, WORDS, 2),
  kernel(WORKS.diffHot, ['bytes'], 8),
  kernel(WORKS.diffLarge, ['native'], 0.85),
  kernel(WORKS.diffLarge, WORDS, 2),
  kernel(WORKS.diffLarge, ['bytes'], 8),
  { work: WORKS.equal, ours: 'kage copy', peers: ['cmp'], kind: 'speed', floor: 2.5 },
  { work: WORKS.equal, ours: 'kage copy', peers: ['rsync'], kind: 'speed', floor: 4 },
  { work: WORKS.full, ours: 'kage, no sync', peers: ['dd'], kind: 'speed', floor: 2 },
  { work: WORKS.full, ours: 'kage, no sync', peers: ['nbdcopy'], kind: 'speed', floor: 3 },
  { work: WORKS.full, ours: 'kage, no sync', peers: ['qemu-img convert'], kind: 'speed', floor: 1 },
  {
    work: WORKS.synced,
    ours: 'kage copy',
    peers: ['dd', 'nbdcopy', 'qemu-img convert'],
    called: 'best of dd, nbdcopy, qemu-img',
    kind: 'speed',
    floor: 0.8,
  },
  { work: WORKS.sparse, ours: 'kage join', peers: ['limit'], kind: 'time', floor: 1 },
  { work: WORKS.rejoin, ours: 'rejoin', peers: ['our full copy'], kind: 'time', floor: 0.03 },
  { work: WORKS.info, ours: 'kage info', peers: ['bare start'], kind: 'time', floor: 3 },
  served(WORKS.randomRead, 'qemu-nbd', 2),
  served(WORKS.randomRead, 'nbdkit file', 0.9),
  served(WORKS.randomWrite, 'qemu-nbd', 2),
  served(WORKS.randomWrite, 'nbdkit file', 0.9),
  served(WORKS.coldRead, 'qemu-nbd', 0.9),
  served(WORKS.sequentialRead, 'qemu-nbd', 1),
  served(WORKS.sequentialRead, 'nbdkit file', 0.7),
  served(WORKS.sequentialWrite, 'qemu-nbd', 1),
  served(WORKS.sequentialWrite, 'nbdkit file', 0.7),
  { ...served(WORKS.tracked, SIDES.plain, 0.9), ours: SIDES.tracked },
  slower(WORKS.copyingRead, SIDES.copying, SIDES.plain, 3),
  slower(WORKS.copyingWrite, SIDES.copying, SIDES.plain, 3),
  slower(WORKS.stallRead, SIDES.stalling, SIDES.calm, 1.5),
  slower(WORKS.stallWrite, SIDES.stalling, SIDES.calm, 1.5),
  slower(WORKS.pause, SIDES.serve, SIDES.limit, 1),
  slower(WORKS.memory, SIDES.serve, SIDES.limit, 1),
  slower(WORKS.memoryMore, SIDES.serve, SIDES.limit, 1),
  slower(WORKS.restart, SIDES.serve, SIDES.limit, 1),
];

function served(work: string, peer: string, floor: number): Floor {
  return { work, ours: SIDES.serve, peers: [peer], kind: 'speed', floor, by: 'median' };
}

function slower(work: string, ours: string, peer: string, floor: number): Floor {
  return { work, ours, peers: [peer], kind: 'time', floor, by: 'median' };
}

function kernel(work: string, peers: string[], floor: number): Floor {
  const called = peers.length > 1 ? 'best typed array' : undefined;
  return { work, ours: 'wasm', peers, ...(called ? { called } : {}), kind: 'speed', floor };
}

/** A ratio for every floor whose both sides were measured, on each runtime. */
export function ratiosOf(entries: readonly Entry[]): Ratio[] {
  return FLOORS.flatMap((row) => {
    const ours = entries.filter((e) => e.work === row.work && e.name === row.ours);
    return ours.flatMap((own) => {
      const peers = entries.filter(
        (e) =>
          e.work === row.work &&
          (e.runtime === own.runtime || e.runtime === '') &&
          row.peers.includes(e.name),
      );
      if (peers.length === 0) return [];
      const by = row.by ?? 'best';
      const faster = Math.max(...peers.map((peer) => speedOver(own, peer, by)).map((s) => 1 / s));
      const value = row.kind === 'speed' ? 1 / faster : faster;
      const reached = row.kind === 'speed' ? value >= row.floor : value <= row.floor;
      return [
        {
          work: row.work,
          runtime: own.runtime,
          ours: row.ours,
          peer: row.called ?? row.peers[0],
          kind: row.kind,
          value,
          floor: row.floor,
          reached,
        },
      ];
    });
  });
}

/** How many times the peer's speed ours is. */
function speedOver(own: Entry, peer: Entry, by: 'best' | 'median'): number {
  return isRate(own.unit) ? own[by] / peer[by] : peer[by] / own[by];
}
