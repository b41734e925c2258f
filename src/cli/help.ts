/** `kage --help` and `kage help exit`: the verbs by group, the common options, the exit statuses. */

import { alignColumns } from './columns.ts';
import { COPYING, EVERYWHERE, type OptionRows } from './options.ts';
import { SDX_COMMANDS } from './sdx/commands.ts';
import { VERBS } from './verbs/index.ts';
import type { Verb, VerbGroup } from './verbs/verb.ts';

const GROUPS: readonly (readonly [VerbGroup, string])[] = [
  ['pairs', 'Pairs of a master and its proxy'],
  ['volumes', 'Volumes'],
  ['images', 'Images, without a class'],
  ['server', 'Server'],
  ['about', 'About'],
];

/** DESIGN section 7. */
const STATUSES: readonly (readonly [string, string])[] = [
  ['0', 'done'],
  ['1', 'failed'],
  ['2', 'wrong option or argument'],
  ['3', 'partly done'],
  ['4', 'differences found (verify, diff --exit-code)'],
  ['10', 'no such class, volume or image'],
  ['11', 'in use by another process'],
  ['12', 'not permitted on this object'],
  ['13', 'wrong state for this verb'],
  ['14', 'refused by --differential-only'],
  ['20', 'I/O error, or no room left'],
  ['130', 'interrupted; the next run continues'],
];

export function helpText(): string {
  const verbs = GROUPS.flatMap(([group, title]) => [
    '',
    `${title}:`,
    ...indented(VERBS.filter((v) => v.group === group).map((v) => [usage(v), v.summary])),
  ]);
  return [
    'kage: snapshots of disk images. A proxy stands in for a master volume: join makes them',
    'equal, part splits the proxy off as a snapshot, rejoin copies only what changed since.',
    '',
    'Usage: kage VERB …        kage VERB --help        kage help exit',
    ...verbs,
    '',
    'Commands of PRIMECLUSTER GDS, on the same classes:',
    ...indented(SDX_COMMANDS.map((c) => [c.name, c.summary])),
    '',
    'Everywhere:',
    ...indented(optionRows(EVERYWHERE)),
    '',
    'On verbs that copy:',
    ...indented(optionRows(COPYING)),
    '',
    'Examples:',
    '  kage join vm.img vm.proxy.img     the proxy image is made and filled',
    '  kage part vm-proxy                a snapshot, at once; back it up, boot it, test with it',
    '  kage rejoin vm-proxy              equal again: reads only what changed, if that is known',
    '  kage restore vm-proxy             the master becomes what the snapshot is',
  ].join('\n');
}

export function exitText(): string {
  return ['Exit status:', ...indented(STATUSES)].join('\n');
}

function indented(rows: readonly (readonly [string, string])[]): string[] {
  return alignColumns(rows).map((row) => `  ${row}`);
}

/** `restore PROXY…` */
function usage(verb: Verb): string {
  const words = verb.takes.replace(/[<>]/g, '').replace(/\.\./g, '…').toUpperCase();
  const command = verb.command === undefined ? '' : ` -- ${verb.command}`;
  return `${verb.name} ${words}${command}`.trim();
}

function optionRows(rows: OptionRows): (readonly [string, string])[] {
  return Object.entries(rows).map(([name, row]) => {
    const short = row.alias === undefined ? '' : `-${row.alias}, `;
    const value = row.value === undefined ? '' : ` ${row.value}`;
    return [`${short}--${name}${value}`, row.describe] as const;
  });
}
