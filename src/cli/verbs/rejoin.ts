/** `kage rejoin`: make proxies equal to their masters again, copying what changed. */

import { COPYING, copyChoices, isSet, listOf, NO_WAIT } from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import type { Verb } from './verb.ts';

export const rejoin: Verb = {
  name: 'rejoin',
  group: 'pairs',
  takes: '<proxy..>',
  summary: 'Make each parted PROXY equal to its master again and keep it joined',
  details:
    'Copies only what changed on either side since the part. What was written to the proxy ' +
    'meanwhile is discarded.',
  arguments: { proxy: 'Parted proxies: volume names or images' },
  options: { ...NO_WAIT, ...COPYING },
  examples: [
    ['kage rejoin vm-proxy --dry-run', 'what would it copy, by which method, and why'],
    ['kage rejoin vm-proxy', 'before the next snapshot'],
    ['kage rejoin vm-proxy --differential-only', 'refuse to read the whole volume'],
  ],
  completes: [['proxy']],

  run(args, session) {
    const proxies = listOf(args, 'proxy');
    const choices = copyChoices(args);
    return runPairVerb(
      {
        verb: 'rejoin',
        refs: proxies,
        noWait: isSet(args, 'no-wait'),
        overwrites: true,
        run: (diskClass, how) =>
          diskClass.rejoin(proxies, { ...session.runOptions, ...choices, ...how }),
      },
      session,
    );
  },
};
