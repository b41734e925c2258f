/** Reports of the engine as sentences for people: what will be done, what was done, and why. */

import { REGION_SIZE_DEFAULT } from '../base/limits.ts';
import { formatSeconds, formatSize, plural } from '../base/units.ts';
import type { ClassInfo, CopyReport, PairReport, VerifyReport } from '../engine/api.ts';

/** What a sentence needs to know beside the report: sizes, and the tracking unit of a new pair. */
export type Facts = { readonly info: ClassInfo; readonly regionSize?: number };

/** Bytes of the regions that a copy looks at. */
export function lookedAt(copy: CopyReport, pair: PairReport, facts: Facts): number {
  const { pairs, volumes } = facts.info;
  const known = pairs.find((p) => p.master === pair.master && p.proxy === pair.proxy);
  const volume = volumes.find((v) => v.name === pair.master);
  const regionSize = known?.regionSize ?? facts.regionSize ?? REGION_SIZE_DEFAULT;
  return Math.min(copy.regions * regionSize, volume?.size ?? Number.POSITIVE_INFINITY);
}

/** The side that a planned copy writes to, with its path, and what will happen to it. */
export function announcement(
  pair: PairReport,
  facts: Facts,
): { readonly target: string; readonly subject: string; readonly text: string } {
  const copy = pair.copy;
  const [target, source] =
    copy?.direction === 'toMaster' ? [pair.master, pair.proxy] : [pair.proxy, pair.master];
  const path = facts.info.volumes.find((v) => v.name === target)?.path;
  const subject = path === undefined ? target : `${target} (${path})`;
  if (!copy || copy.regions === 0) {
    const why = copy ? ` (${copy.method}: ${copy.reason})` : '';
    return { target, subject, text: `stays as it is, nothing to copy${why}` };
  }
  const plan = planned(copy, pair, facts);
  return { target, subject, text: `will be overwritten from ${source}: ${plan}` };
}

/** `12 regions, 768 KiB, differential: tracked since part` */
function planned(copy: CopyReport, pair: PairReport, facts: Facts): string {
  const size = formatSize(lookedAt(copy, pair, facts));
  return `${plural(copy.regions, 'region')}, ${size}, ${copy.method}: ${copy.reason}`;
}

type Words = { readonly done: string; readonly planned: string };

/** What became of a pair, by verb; `$m` and `$p` are the names of master and proxy. */
const PAIR_WORDS: Readonly<Record<string, Words>> = {
  join: { done: '$p: joined', planned: '$p: would be joined' },
  relate: {
    done: '$p: related to $m, never synchronized',
    planned: '$p: would be related to $m, never synchronized',
  },
  part: { done: '$p: parted', planned: '$p: would be parted' },
  rejoin: { done: '$p: rejoined', planned: '$p: would be rejoined' },
  restore: { done: '$m: restored from $p', planned: '$m: would be restored from $p' },
  update: { done: '$p: updated from $m', planned: '$p: would be updated from $m' },
  swap: { done: '$p: swapped with $m', planned: '$p: would be swapped with $m' },
  cancel: { done: '$p: copy given up', planned: '$p: its copy would be given up' },
  break: { done: '$p: broken off from $m', planned: '$p: would be broken off from $m' },
};

/** The same while a server still copies, for the verbs that it copies for. */
const BEGUN: Readonly<Record<string, string>> = {
  join: '$p: being made equal to $m',
  rejoin: '$p: being made equal to $m',
  part: '$p: parted, the rest is being copied from $m',
  restore: '$m: being restored from $p',
  update: '$p: being updated from $m',
};
const UNFINISHED: readonly string[] = ['joining', 'copying', 'restoring'];

/** States that need no mention after a verb. */
const EXPECTED: Readonly<Record<string, string>> = {
  join: 'joined',
  relate: 'parted',
  part: 'parted',
  rejoin: 'joined',
  update: 'parted',
  swap: 'joined',
  break: 'unrelated',
};

/** `vm-proxy: joined (full copy of 2 GiB, 1.1 GiB written, 1.4 s: first copy)`, then its notes. */
export function pairLines(verb: string, pair: PairReport, dryRun: boolean, facts: Facts): string[] {
  const begun = !dryRun && !pair.copy && UNFINISHED.includes(pair.state) && BEGUN[verb];
  if (begun) {
    const text = begun.replace('$m', pair.master).replace('$p', pair.proxy);
    return [`${text}; see \`kage info\``, ...pair.notes.map((note) => `  ${note}`)];
  }
  const words = PAIR_WORDS[verb] ?? { done: `$p: ${verb} done`, planned: `$p: ${verb} planned` };
  const what = (dryRun ? words.planned : words.done)
    .replace('$m', pair.master)
    .replace('$p', pair.proxy);
  const state = EXPECTED[verb] === pair.state ? '' : `, ${pair.state}`;
  const copy = pair.copy ? ` (${copyText(pair.copy, pair, dryRun, facts)})` : '';
  return [`${what}${state}${copy}`, ...pair.notes.map((note) => `  ${note}`)];
}

/** `differential copy of 768 KiB, 512 KiB written, 0.1 s: tracked since part` */
export function copyText(
  copy: CopyReport,
  pair: PairReport,
  dryRun: boolean,
  facts: Facts,
): string {
  const { method, reason, regions } = copy;
  if (regions === 0) return `${method}, nothing to copy: ${reason}`;
  const time = formatSeconds(copy.seconds);
  const size = formatSize(lookedAt(copy, pair, facts));
  const copied = method === 'compare' ? `compare of ${size}` : `${method} copy of ${size}`;
  if (dryRun) {
    const about = copy.seconds > 0 ? `, about ${time}` : '';
    return `${copied}, ${plural(regions, 'region')}${about}: ${reason}`;
  }
  return `${copied}, ${formatSize(copy.bytesWritten)} written, ${time}: ${reason}`;
}

/** One pair of `kage verify`. */
export function verifyLines(pair: VerifyReport['pairs'][number]): string[] {
  const of = `${pair.differing} of ${plural(pair.regions, 'region')}`;
  const time = formatSeconds(pair.seconds);
  const expected = pair.differing - pair.unexpected;
  const verdict =
    pair.differing === 0
      ? `equal to ${pair.master}, all ${plural(pair.regions, 'region')}`
      : pair.unexpected === 0
        ? `differs from ${pair.master} in ${of}, all of them known to have changed`
        : `DIFFERS from ${pair.master} in ${of}: ${pair.unexpected} were believed equal` +
          (expected > 0 ? `, ${expected} known to have changed` : '');
  return [
    `${pair.proxy}: ${verdict} (${pair.state}, ${time})`,
    ...(pair.masterHash === null ? [] : [`  XXH64 ${pair.masterHash}  ${pair.master}`]),
    ...(pair.proxyHash === null ? [] : [`  XXH64 ${pair.proxyHash}  ${pair.proxy}`]),
    ...pair.notes.map((note) => `  ${note}`),
  ];
}
