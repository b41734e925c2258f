/** What a class remembers, record by record: plain JSON data, no behaviour. Sizes in bytes. */

import type { Stamp } from '../device/stamp.ts';

/** Version of the records; a root of a higher one is refused. */
export const SCHEMA = 1;

export type DiskRecord = {
  name: string;
  type: 'keep' | 'single' | 'undef';
  /** Canonical path of the image or block device. */
  path: string;
  size: number;
  /** By the user's word nobody else writes to it: its stamps are not asked. */
  exclusive: boolean;
  /** Made by the engine and not yet known to exist at full length. */
  creating: boolean;
  /** Identity at the last moment at which the maps were known to be right. */
  stamp: Stamp | null;
};

export type Invalid = { reason: string; since: number };

export type VolumeRecord = {
  /** Never used again in this class; names the volume in the intent log. */
  id: number;
  name: string;
  disk: string;
  /** Of the first byte in the disk. */
  offset: number;
  size: number;
  started: boolean;
  /** Access mode of the started volume: clients do not write to it. */
  readOnly: boolean;
  locked: boolean;
  invalid: Invalid | null;
};

export type MapName = 'changed' | 'pending' | 'increment';
export const MAP_NAMES: readonly MapName[] = ['changed', 'pending', 'increment'];

export type CopyRecord = {
  direction: 'toProxy' | 'toMaster';
  method: 'differential' | 'compare' | 'full';
  reason: string;
  regions: number;
  regionsWritten: number;
  bytesRead: number;
  bytesWritten: number;
  seconds: number;
  at: number;
};

export type CopyInProgress = {
  verb: string;
  method: 'differential' | 'compare' | 'full';
  reason: string;
  /** The target may be used while the copy is unfinished: it has the source's content. */
  instant?: boolean;
};

/** The `doubt` of a pair that was related and never copied: its proxy is no source either. */
export const NEVER_SYNCHRONIZED = 'never synchronized';

export type PairRecord = {
  id: number;
  /** Ids of volumes. */
  master: number;
  proxy: number;
  /** Bytes. */
  regionSize: number;
  joined: boolean;
  direction: 'toProxy' | 'toMaster';
  /** Generation of each map's file (`pair-map-generation`). */
  maps: Record<MapName, number>;
  /** Why the maps cannot be believed (the next copy compares all), or null. */
  doubt: string | null;
  /** The copy that `pending` belongs to: how it was planned. Null when none is unfinished. */
  copy: CopyInProgress | null;
  /** The proxy may differ from what it was at the last part (its client wrote, or a stranger). */
  proxyWritten: boolean;
  since: number;
  lastVerb: string;
  lastCopy: CopyRecord | null;
  /** The last one that was not differential. Absent: none since there is this field. */
  lastWhole?: CopyRecord;
  /** When the proxy became a snapshot last, by part or update. Absent as above. */
  snapshotAt?: number;
};

export type ClassRecord = {
  class: string;
  generation: number;
  /** Epoch of the lock under which this root was written. */
  epoch: number;
  /** When, for people: ISO 8601. */
  written: string;
  /** False from before the first change until the orderly close. */
  clean: boolean;
  /** Boot id under which it was written, or null where it could not be read. */
  boot: string | null;
  /** Next id to give to a volume or a pair. */
  nextId: number;
  disks: DiskRecord[];
  volumes: VolumeRecord[];
  pairs: PairRecord[];
};

export function emptyClass(name: string): ClassRecord {
  return {
    class: name,
    generation: 0,
    epoch: 0,
    written: '',
    clean: true,
    boot: null,
    nextId: 1,
    disks: [],
    volumes: [],
    pairs: [],
  };
}

export function mapFileName(pair: PairRecord, map: MapName): string {
  return `pair${pair.id}-${map}-${pair.maps[map]}`;
}
