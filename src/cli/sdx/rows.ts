/**
 * A class as rows of the tables of `sdxinfo` (gds.md section 3): disks, volumes with the FREE ranges
 * of single disks, slices. There is no private area in an image, so there is no PRIVATE row; and no
 * groups yet, so GROUP is `*` and the group table is empty.
 */

import { BLOCK_SIZE } from '../../base/limits.ts';
import type { ClassInfo, DiskInfo, PairInfo, VolumeInfo } from '../../engine/api.ts';
import { MISSING } from './table.ts';

/** One row; cells by column name, those left out print as `*`. */
export type Row = {
  readonly kind: 'class' | 'disk' | 'group' | 'volume' | 'slice';
  /** Names that `-o` finds this row by when its kind is asked for. */
  readonly related: readonly string[];
  readonly cells: Readonly<Record<string, string>>;
};

/** A partial last block counts. */
function blocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_SIZE);
}

export function classRow(info: ClassInfo): Row {
  const members = [...info.disks, ...info.volumes].map((object) => object.name);
  return {
    kind: 'class',
    related: [info.class, ...members],
    cells: {
      OBJ: 'class',
      NAME: info.class,
      TYPE: 'local',
      SCOPE: '(local)',
      SPARE: '0',
      SHADOW: '0',
      HS: 'off',
    },
  };
}

export function diskRow(disk: DiskInfo, info: ClassInfo, host: string | undefined): Row {
  const volumes = info.volumes.filter((v) => v.disk === disk.name).map((v) => v.name);
  return {
    kind: 'disk',
    related: [info.class, disk.name, ...volumes],
    cells: {
      OBJ: 'disk',
      NAME: disk.name,
      TYPE: disk.type,
      CLASS: info.class,
      DEVNAM: disk.path,
      DEVBLKS: `${blocks(disk.size)}`,
      FREEBLKS: `${Math.floor(disk.free / BLOCK_SIZE)}`,
      DEVCONNECT: host ?? MISSING,
      STATUS: disk.status,
      E: disk.status === 'ENABLE' ? '0' : '1',
    },
  };
}

export function volumeRow(volume: VolumeInfo, info: ClassInfo): Row {
  const pair = info.pairs.find((p) => p.proxy === volume.name);
  return {
    kind: 'volume',
    related: [info.class, volume.disk, volume.name],
    cells: {
      OBJ: 'volume',
      NAME: volume.name,
      TYPE: 'single',
      CLASS: info.class,
      DISK: volume.disk,
      MASTER: pair?.master ?? MISSING,
      PROXY: pair === undefined ? MISSING : pair.joined ? 'Join' : 'Part',
      SKIP: 'off',
      JRM: 'on',
      MODE: volume.readOnly ? 'ro' : 'rw',
      ...range(volume.offset, volume.size),
      STATUS: pair?.state === 'joining' ? 'INVALID' : volume.status,
      PSLICE: 'off',
    },
  };
}

function range(offset: number, size: number) {
  const first = Math.floor(offset / BLOCK_SIZE);
  const last = blocks(offset + size) - 1;
  return { '1STBLK': `${first}`, LASTBLK: `${last}`, BLOCKS: `${last - first + 1}` };
}

/** The unused ranges of a single disk, as rows named `*`. */
export function freeRows(disk: DiskInfo, info: ClassInfo): Row[] {
  if (disk.type !== 'single') return [];
  const volumes = info.volumes
    .filter((v) => v.disk === disk.name)
    .sort((a, b) => a.offset - b.offset);
  const rows: Row[] = [];
  // A volume that ends within a block takes the whole block.
  let end = 0;
  for (const { offset, size } of [...volumes, { offset: disk.size, size: 0 }]) {
    const free = Math.floor(offset / BLOCK_SIZE) * BLOCK_SIZE - end;
    if (free > 0) rows.push(freeRow(disk, info, end, free));
    end = blocks(offset + size) * BLOCK_SIZE;
  }
  return rows;
}

function freeRow(disk: DiskInfo, info: ClassInfo, offset: number, size: number): Row {
  return {
    kind: 'volume',
    related: [info.class, disk.name],
    cells: {
      OBJ: 'volume',
      NAME: MISSING,
      CLASS: info.class,
      DISK: disk.name,
      ...range(offset, size),
      STATUS: 'FREE',
    },
  };
}

export function sliceRow(volume: VolumeInfo, info: ClassInfo): Row {
  const copying = info.pairs.find((pair) => targetOf(pair) === volume.name);
  return {
    kind: 'slice',
    related: [info.class, volume.disk, volume.name, `${volume.disk}.${volume.name}`],
    cells: {
      OBJ: 'slice',
      NAME: `${volume.disk}.${volume.name}`,
      CLASS: info.class,
      DISK: volume.disk,
      VOLUME: volume.name,
      STATUS: sliceStatus(volume, copying, info),
      ...(copying === undefined ? {} : copyCells(copying, volume, info)),
    },
  };
}

/** The volume that an unfinished copy of the pair writes to. */
function targetOf(pair: PairInfo): string | undefined {
  if (pair.state === 'restoring') return pair.master;
  return pair.state === 'joining' || pair.state === 'copying' ? pair.proxy : undefined;
}

/** A slice of a joined, equal proxy reads STOP, although it is being written. */
function sliceStatus(volume: VolumeInfo, copying: PairInfo | undefined, info: ClassInfo): string {
  // The target of a copy is INVALID as a volume until the copy is complete.
  if (copying !== undefined) return 'COPY';
  if (volume.status === 'INVALID') return 'INVALID';
  const joined = info.pairs.some((p) => p.proxy === volume.name && p.joined);
  return joined ? 'STOP' : volume.status;
}

/** `run` while a process works on the class, else `stop`: the copy was interrupted. */
function copyCells(pair: PairInfo, volume: VolumeInfo, info: ClassInfo) {
  const regionBlocks = blocks(pair.regionSize);
  const inBlocks = (regions: number) => Math.min(regions * regionBlocks, blocks(volume.size));
  const total = inBlocks(Math.max(pair.incrementRegions, pair.pendingRegions));
  return {
    COPY: info.holder === null ? 'stop' : pair.joined ? 'run' : 'bg',
    CURBLKS: `${total - inBlocks(pair.pendingRegions)}`,
    COPYBLKS: `${total}`,
    DLY: '0',
  };
}
