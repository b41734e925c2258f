/** `kage update`: a fresh snapshot of masters in their parted proxies. */

import {
  COPYING,
  copyChoices,
  isSet,
  listOf,
  NO_WAIT,
  QUIESCING,
  quiesceChoice,
} from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import type { Verb } from './verb.ts';

export const update: Verb = {
  name: 'update',
  group: 'pairs',
  takes: '<proxy..>',
  summary: 'Refresh the snapshot in each parted PROXY; it stays parted',
  details:
    'Copies only what changed on either side. What was written to the proxy is discarded, and ' +
    'the old snapshot with it. --freeze and --thaw are as with `part`, and need a server.',
  arguments: { proxy: 'Parted proxies: volume names or images' },
  options: {
    instant: { describe: 'Use the proxy at once; without a server it copies to the end' },
    ...NO_WAIT,
    ...QUIESCING,
    ...COPYING,
  },
  examples: [['kage update vm-proxy', 'the snapshot of today in place of the old one']],
  completes: [['proxy']],

  run(args, session) {
    const proxies = listOf(args, 'proxy');
    const choices = copyChoices(args);
    const instant = isSet(args, 'instant');
    const quiesce = quiesceChoice(args);
    return runPairVerb(
      {
        verb: 'update',
        refs: proxies,
        noWait: isSet(args, 'no-wait'),
        overwrites: true,
        instant,
        needsServer: quiesce && '--freeze',
        quiesce,
        run: (diskClass, how) =>
          diskClass.update(proxies, { ...session.runOptions, ...choices, instant, ...how }),
      },
      session,
    );
  },
};
