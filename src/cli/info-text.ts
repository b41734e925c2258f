/** `kage info` as text: the volumes of a class, and what each pair is, was and would do next. */

import { formatSeconds, formatSize, plural } from '../base/units.ts';
import type { ClassInfo, PairInfo, VolumeInfo } from '../engine/api.ts';
import { alignColumns } from './columns.ts';
import { SERVER } from './options.ts';

export function infoLines(info: ClassInfo, verbose: boolean): string[] {
  const lines = [`class ${info.class}`];
  if (verbose) lines.push(`  generation ${info.generation} in ${info.folder}`);
  if (info.closed !== null) lines.push(`  CLOSED: ${info.closed}`);
  if (info.holder) {
    const { pid, command, since } = info.holder;
    const held = command === SERVER ? 'served' : 'open';
    lines.push(`  ${held} since ${timeText(since)} by process ${pid}: ${command}`);
  }
  if (info.volumes.length === 0) return [...lines, '  no volumes'];
  lines.push('', ...volumeTable(info.volumes));
  for (const disk of info.disks) {
    if (disk.problem !== null) lines.push('', `disk ${disk.name} DISABLE: ${disk.problem}`);
  }
  for (const volume of info.volumes) {
    if (volume.problem !== null) lines.push('', `${volume.name} INVALID: ${volume.problem}`);
  }
  for (const pair of info.pairs) lines.push('', ...pairText(pair, info));
  return lines;
}

function volumeTable(volumes: readonly VolumeInfo[]): string[] {
  const rows = volumes.map((v) => [
    v.name,
    v.role ?? '-',
    `${v.status}${v.readOnly ? ', read-only' : ''}${v.locked ? ', locked' : ''}`,
    formatSize(v.size),
    v.offset === 0 ? v.path : `${v.path} at ${v.offset}`,
  ]);
  return alignColumns([['VOLUME', 'ROLE', 'STATUS', 'SIZE', 'IMAGE'], ...rows]);
}

function pairText(pair: PairInfo, info: ClassInfo): string[] {
  const size = info.volumes.find((v) => v.name === pair.master)?.size;
  const bytes = (regions: number) =>
    formatSize(Math.min(regions * pair.regionSize, size ?? Number.POSITIVE_INFINITY));
  const lines = [
    `${pair.master} -> ${pair.proxy}: ${pair.state}`,
    `  since    ${timeText(pair.since)} (${pair.lastVerb})`,
  ];
  const all = `${plural(pair.regions, 'region')} of ${formatSize(pair.regionSize)}`;
  if (pair.pendingRegions > 0) {
    const [source, target] =
      pair.direction === 'toProxy' ? [pair.master, pair.proxy] : [pair.proxy, pair.master];
    const open = `${pair.pendingRegions} of ${all}, ${bytes(pair.pendingRegions)}`;
    lines.push(`  to copy  ${open}, from ${source} to ${target}`);
  }
  if (!pair.joined) {
    lines.push(`  changed  ${pair.changedRegions} of ${all}, ${bytes(pair.changedRegions)}`);
  }
  if (!pair.joined && pair.incrementRegions > 0) {
    const since = `${plural(pair.incrementRegions, 'region')}, ${bytes(pair.incrementRegions)}`;
    lines.push(`  backup   ${since} differ from the part before`);
  }
  if (pair.doubt !== null) lines.push(`  doubt    ${pair.doubt}`);
  if (pair.next) {
    const { verb, method, bytes: amount, reason } = pair.next;
    lines.push(`  next     ${verb}: ${method} copy of ${formatSize(amount)}: ${reason}`);
  }
  if (pair.lastCopy) {
    const { method, bytesWritten, seconds, reason, at } = pair.lastCopy;
    const what = `${method}, ${formatSize(bytesWritten)} written in ${formatSeconds(seconds)}`;
    lines.push(`  last     ${what} (${timeText(at)}): ${reason}`);
  }
  if (pair.lastVerb === 'swap') {
    const path = info.volumes.find((v) => v.name === pair.master)?.path;
    lines.push(`  swapped  the images changed places: ${pair.master} now lives in ${path}`);
  }
  return lines;
}

/** `2026-01-31 12:00:00 UTC` */
export function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
