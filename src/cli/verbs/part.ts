/** `kage part`: split proxies from their masters at one point in time. */

import {
  COPYING,
  copyChoices,
  isSet,
  listOf,
  QUIESCING,
  quiesceChoice,
  READ_ONLY,
} from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import type { Verb } from './verb.ts';

export const part: Verb = {
  name: 'part',
  group: 'pairs',
  takes: '<proxy..>',
  summary: 'Split each PROXY off as a snapshot, all at one point in time',
  details:
    'The proxy is started and can be used at once: it is a plain image with the content that ' +
    'the master had. From now on the changes on both sides are recorded. With --freeze and --thaw ' +
    'a service that uses the master stands still around the instant; see docs/quiesce.md.',
  arguments: { proxy: 'Joined proxies: volume names or images' },
  options: {
    instant: { describe: 'Also while the copy is unfinished; the rest is copied afterwards' },
    unlock: { describe: 'Start the proxy even if it is locked' },
    ...READ_ONLY,
    ...QUIESCING,
    ...COPYING,
  },
  examples: [
    ['kage part vm-proxy', 'take a snapshot'],
    ['kage part vm-proxy --read-only', 'one for a backup, see docs/incremental-backup.md'],
    ['kage part data-proxy log-proxy', 'two volumes at the same instant'],
    [
      "kage part vm-proxy --freeze 'fsfreeze -f /mnt' --thaw 'fsfreeze -u /mnt'",
      'of a file system that is mounted, between two writes',
    ],
  ],
  completes: [['proxy']],

  run(args, session) {
    const proxies = listOf(args, 'proxy');
    const instant = isSet(args, 'instant');
    const unlock = isSet(args, 'unlock');
    const readOnly = isSet(args, 'read-only');
    const own = { ...copyChoices(args), instant, unlock, readOnly };
    const quiesce = quiesceChoice(args);
    return runPairVerb(
      {
        verb: 'part',
        refs: proxies,
        overwrites: false,
        instant,
        quiesce,
        run: (diskClass, how) => diskClass.part(proxies, { ...session.runOptions, ...own, ...how }),
      },
      session,
    );
  },
};
