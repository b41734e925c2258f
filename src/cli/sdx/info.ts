/** `sdxinfo [-ACDGSV] [-c class] [-o object] [-e label,long]`: the manual's tables. */

import { EXIT, KageError } from '../../base/errors.ts';
import { nearest } from '../../base/units.ts';
import type { ClassInfo } from '../../engine/api.ts';
import type { Session } from '../session.ts';
import { type SdxWords, sdxUsage, single } from './getopt.ts';
import { line, warn } from './report.ts';
import { classRow, diskRow, freeRows, type Row, sliceRow, volumeRow } from './rows.ts';
import { MISSING, type Table, tablesLines } from './table.ts';

type Kind = {
  readonly letter: string;
  readonly kind: Row['kind'];
  readonly columns: string;
  readonly long: string;
  /** Column after which `-e label` puts LABEL. */
  readonly label?: string;
};

/** The columns of gds.md section 3; order of the tables as in `-A`. */
const KINDS: readonly Kind[] = [
  {
    letter: 'C',
    kind: 'class',
    columns: 'OBJ NAME TYPE SCOPE SPARE',
    long: 'OBJ NAME TYPE SCOPE SPARE SHADOW HS HSMODE',
  },
  {
    letter: 'D',
    kind: 'disk',
    columns: 'OBJ NAME TYPE CLASS GROUP DEVNAM DEVBLKS DEVCONNECT STATUS',
    long: 'OBJ NAME TYPE CLASS GROUP DEVNAM DEVBLKS FREEBLKS DEVCONNECT STATUS E',
    label: 'DEVCONNECT',
  },
  {
    letter: 'G',
    kind: 'group',
    columns: 'OBJ NAME CLASS DISKS BLKS FREEBLKS SPARE',
    long: 'OBJ NAME CLASS DISKS BLKS FREEBLKS SPARE MASTER TYPE WIDTH ACTDISK',
  },
  {
    letter: 'V',
    kind: 'volume',
    columns: 'OBJ NAME CLASS GROUP SKIP JRM 1STBLK LASTBLK BLOCKS STATUS',
    long:
      'OBJ NAME TYPE CLASS GROUP DISK MASTER PROXY SKIP JRM MODE ' +
      '1STBLK LASTBLK BLOCKS STATUS PSLICE',
  },
  {
    letter: 'S',
    kind: 'slice',
    columns: 'OBJ CLASS GROUP DISK VOLUME STATUS',
    long: 'OBJ NAME CLASS GROUP DISK VOLUME JRM MODE STATUS COPY CURBLKS COPYBLKS DLY FUNC',
  },
];

export async function sdxinfo(words: SdxWords, session: Session): Promise<number> {
  if (words.operands.length > 0) throw sdxUsage('sdxinfo', `unexpected ${words.operands[0]}`);
  const extras = words.lists.get('e') ?? [];
  const unknown = extras.find((word) => word !== 'label' && word !== 'long');
  if (unknown !== undefined) throw sdxUsage('sdxinfo', `-e ${unknown} is not known here`);
  const classes = await readClasses(session);
  for (const { class: name, closed } of classes) {
    if (closed !== null) await warn(session, name, `closed: ${closed}`);
  }
  const object = single(words, 'o');
  const rows = classes.flatMap((info) => rowsOf(info, session.env.hostName()));
  if (object !== undefined && !rows.some((row) => isNamed(row, object))) {
    throw noSuchObject(object, rows);
  }
  const tables = tablesOf(words, rows, object);
  await session.printer.data({ verb: 'sdxinfo', classes }, tablesLines(tables));
  if (classes.length === 0) await session.printer.say(line('INFO', 'sdxinfo', 'no classes'));
  return EXIT.done;
}

async function readClasses(session: Session): Promise<ClassInfo[]> {
  const { engine, engineOptions, givenClass } = session;
  const names = givenClass === undefined ? await engine.listClasses(engineOptions) : [givenClass];
  return Promise.all(names.map((name) => engine.readClass(name, engineOptions)));
}

function rowsOf(info: ClassInfo, host: string | undefined): Row[] {
  return [
    classRow(info),
    ...info.disks.map((disk) => diskRow(disk, info, host)),
    ...info.disks.flatMap((disk) => [
      ...info.volumes.filter((v) => v.disk === disk.name).map((v) => volumeRow(v, info)),
      ...freeRows(disk, info),
    ]),
    ...info.volumes.map((volume) => sliceRow(volume, info)),
  ];
}

/**
 * With kinds, their tables (even empty ones) with the rows related to `-o`; without kinds, the
 * objects of that name; with neither, everything.
 */
function tablesOf(words: SdxWords, rows: readonly Row[], object: string | undefined): Table[] {
  const all = words.flags.has('A') || (words.flags.size === 0 && object === undefined);
  const chosen = KINDS.filter((k) => all || words.flags.has(k.letter));
  if (chosen.length > 0) {
    const shown = rows.filter((row) => object === undefined || row.related.includes(object));
    return chosen.map((kind) => tableOf(kind, shown, words));
  }
  const named = rows.filter((row) => isNamed(row, object));
  return KINDS.map((kind) => tableOf(kind, named, words)).filter((t) => t.rows.length > 0);
}

function isNamed(row: Row, object: string | undefined): boolean {
  return object !== undefined && row.cells.NAME === object;
}

function tableOf(kind: Kind, rows: readonly Row[], words: SdxWords): Table {
  const extras = words.lists.get('e') ?? [];
  const columns = (extras.includes('long') ? kind.long : kind.columns).split(' ');
  if (extras.includes('label') && kind.label !== undefined) {
    columns.splice(columns.indexOf(kind.label) + 1, 0, 'LABEL');
  }
  return {
    columns,
    rows: rows
      .filter((row) => row.kind === kind.kind)
      .map((row) => columns.map((column) => row.cells[column] ?? MISSING)),
  };
}

function noSuchObject(object: string, rows: readonly Row[]): KageError {
  const near = nearest(
    object,
    rows.map((row) => row.cells.NAME),
  );
  return new KageError('no-such-object', `${object}: no object of that name`, {
    ...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
    data: { object },
  });
}
