/** `sdxproxy`: runs a translated call and reports in the manual's style. */

import type { DiskClass, PairReport, VerbReport } from '../../engine/api.ts';
import { continuing } from '../continuing.ts';
import { copyChoices } from '../options.ts';
import { announcement, copyText } from '../sentences.ts';
import type { Session } from '../session.ts';
import type { SdxWords } from './getopt.ts';
import { line, warn } from './report.ts';
import { type ProxyCall, translateProxy } from './translate.ts';

export async function sdxproxy(words: SdxWords, session: Session): Promise<undefined> {
  const call = translateProxy(words);
  const { printer, dryRun } = session;
  for (const text of call.warnings) await warn(session, call.proxies.join(','), text);
  const work = session.withClass(call.class, async (diskClass) => {
    if (call.overwrites && !dryRun && !printer.options.quiet) {
      const plan = await callEngine(diskClass, call, session, true);
      const facts = { info: await diskClass.info() };
      for (const pair of plan.pairs) {
        const { target, text } = announcement(pair, facts);
        await printer.say(line('INFO', target, text));
      }
    }
    const early = session.served && (call.returnsEarly || call.options.instant === true);
    const report = await callEngine(diskClass, call, session, dryRun, early);
    return { report, info: await diskClass.info() };
  });
  const { report, info } = await continuing(work);
  const waited = call.returnsEarly && !session.served;
  const lines = report.pairs.flatMap((pair) => {
    const copy = pair.copy && copyText(pair.copy, pair, dryRun, { info });
    return pairLines(call, pair, dryRun, copy, waited);
  });
  await printer.result(report, lines);
  return undefined;
}

function callEngine(
  diskClass: DiskClass,
  call: ProxyCall,
  session: Session,
  dryRun: boolean,
  early = false,
): Promise<VerbReport> {
  const options = {
    ...session.runOptions,
    ...copyChoices(call.words.args),
    ...call.options,
    dryRun,
    ...(early ? { wait: false } : {}),
  };
  const [proxy] = call.proxies;
  switch (call.verb) {
    case 'join':
    case 'relate':
      return diskClass[call.verb](call.master!, proxy, options);
    case 'swap':
    case 'cancel':
    case 'break':
      return diskClass[call.verb](proxy, options);
    default:
      return diskClass[call.verb](call.proxies, options);
  }
}

const DONE: Readonly<Record<string, string>> = {
  Join: 'joined to $m',
  Part: 'parted from $m and started',
  Rejoin: 'joined to $m again',
  RejoinRestore: '$m restored from it, joined',
  Relate: 'related to $m',
  Update: 'updated from $m',
  Restore: '$m restored from it, still parted',
  Swap: 'slices swapped with $m',
  Cancel: 'copying cancelled',
  Break: 'relation to $m ended',
};

/** States in which a server still copies. */
const UNFINISHED: readonly PairReport['state'][] = ['joining', 'copying', 'restoring'];

function pairLines(
  call: ProxyCall,
  pair: PairReport,
  dryRun: boolean,
  copy: string | undefined,
  waited: boolean,
): string[] {
  const { proxy, master } = pair;
  const lines: string[] = [];
  if (copy !== undefined) {
    const copying = dryRun ? 'copying planned' : 'copying completed successfully';
    lines.push(line('INFO', proxy, `${copying} (${copy})`));
  }
  if (copy === undefined && UNFINISHED.includes(pair.state) && !dryRun) {
    lines.push(line('INFO', proxy, 'copying started'));
  }
  const done = DONE[call.operation].replace('$m', master);
  lines.push(line('INFO', proxy, dryRun ? `dry run, would be: ${done}` : done));
  if (copy !== undefined && waited && !dryRun) {
    lines.push(line('INFO', proxy, 'no server: the copy was waited for, as with waitsync'));
  }
  return [...lines, ...pair.notes.map((note) => line('INFO', proxy, note))];
}
