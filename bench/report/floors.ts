/**
 * What each work must reach (DESIGN section 8), and the ratios that follow from what was measured.
 * Floors only rise: one that turns out tame is raised here.
 */

import type { Entry, Ratio } from './result.ts';

/** The best of `peers` counts. `ours` and `peers` are names of entries. */
interface Floor {
  work: string;
  ours: string;
  peers: readonly string[];
  /** What the table calls the best of several. */
  called?: string;
  kind: Ratio['kind'];
  floor: number;
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
];

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
        (e) => e.work === row.work && e.runtime === own.runtime && row.peers.includes(e.name),
      );
      if (peers.length === 0) return [];
      const faster = Math.max(...peers.map((peer) => speedOver(own, peer)).map((s) => 1 / s));
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
function speedOver(own: Entry, peer: Entry): number {
  return own.unit === 'GB/s' ? own.best / peer.best : peer.best / own.best;
}
