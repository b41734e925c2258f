/** The commands of the manual by name: those that exist, and those that a later version may have. */

import { FORCE, type OptionRows } from '../options.ts';
import type { Session } from '../session.ts';
import { sdxclass } from './class.ts';
import { sdxdisk } from './disk.ts';
import type { SdxWords } from './getopt.ts';
import { sdxinfo } from './info.ts';
import { sdxproxy } from './proxy.ts';
import { OPERATIONS } from './translate.ts';
import { sdxvolume } from './volume.ts';

export type SdxCommand = {
  readonly name: string;
  readonly summary: string;
  readonly usage: readonly string[];
  /** What may follow the name, for completion. */
  readonly operations: readonly string[];
  /** Letters without and with a value, also those that are only known to be refused. */
  readonly flags: string;
  readonly valued: string;
  /** Its own long options, beside those of all. */
  readonly long?: OptionRows;
  run(words: SdxWords, session: Session): Promise<number | undefined>;
};

export const SDX_COMMANDS: readonly SdxCommand[] = [
  {
    name: 'sdxproxy',
    summary: 'Join, Part, Rejoin, RejoinRestore, Relate, Update, Restore, Swap, Cancel, Break',
    usage: [
      'sdxproxy Join -c class -m master -p proxy [-e delay=msec,softcopy,syncmode,waitsync]',
      'sdxproxy Part -c class -p proxy,… [-a pjrm=off] [-e instant,mode=val,unlock]',
      'sdxproxy Rejoin -c class -p proxy,… [-e delay=msec,softcopy,waitsync]',
      'sdxproxy RejoinRestore -c class -p proxy,… [-e delay=msec,instant,nowaitsync,softcopy]',
      'sdxproxy Relate -c class -m master -p proxy',
      'sdxproxy Update -c class -p proxy,… [-e instant,nowaitsync]',
      'sdxproxy Restore -c class -p proxy,… [-e instant,nowaitsync]',
      'sdxproxy Swap|Cancel -c class -p proxy',
      'sdxproxy Break -c class -p proxy [-e force,restore]',
    ],
    operations: Object.keys(OPERATIONS),
    flags: '',
    valued: 'cmpae',
    run: sdxproxy,
  },
  {
    name: 'sdxinfo',
    summary: 'Tables of classes, disks, groups, volumes and slices',
    usage: ['sdxinfo [-ACDGSV] [-c class] [-o object] [-e label,long]'],
    operations: ['-A', '-C', '-D', '-G', '-S', '-V', '-c', '-o', '-e'],
    flags: 'ACDGSV',
    valued: 'coe',
    run: sdxinfo,
  },
  {
    name: 'sdxvolume',
    summary: 'Make, remove, start and stop volumes',
    usage: [
      'sdxvolume -M -c class -d disk -v volume -s blocks [-a jrm=val,pslice=val] [-e delay=msec]',
      'sdxvolume -R -c class -v volume',
      'sdxvolume -N -c class [-v volume,…] [-e {allnodes|node=n},delay=msec,mode=val,nosync,unlock]',
      'sdxvolume -F -c class [-v volume,…] [-e {allnodes|node=n}] [--force]',
    ],
    operations: ['-M', '-R', '-N', '-F'],
    flags: 'MRNFS',
    valued: 'cgdvsae',
    long: FORCE,
    run: sdxvolume,
  },
  {
    name: 'sdxdisk',
    summary: 'Register images as disks (types keep, single, undef), remove them',
    usage: [
      'sdxdisk -M -c class [-a type=local] -d image=disk[:type],… [-e chkps]',
      'sdxdisk -R -c class -d disk,…',
    ],
    operations: ['-M', '-R'],
    flags: 'MRCD',
    valued: 'cdgvae',
    run: sdxdisk,
  },
  {
    name: 'sdxclass',
    summary: 'Remove a class without volumes',
    usage: ['sdxclass -R -c class'],
    operations: ['-R'],
    flags: 'R',
    valued: 'c',
    run: sdxclass,
  },
];

/** Of the manual, and refused as not existing yet (exit 12) instead of as unknown. */
export const LATER_COMMANDS: Readonly<Record<string, string>> = {
  sdxgroup: 'groups',
  sdxslice: 'slices that are detached',
  sdxcopy: 'mirrors and their copies',
  sdxswap: 'disk swaps',
  sdxfix: 'the repairs of sdxfix (see `kage fix`)',
  sdxattr: 'attributes',
  sdxparam: 'tunables',
  sdxconfig: 'class configurations in text form',
  sdxroot: 'root classes',
  sdxshadowdisk: 'shadow objects',
  sdxshadowgroup: 'shadow objects',
  sdxshadowvolume: 'shadow objects',
};
