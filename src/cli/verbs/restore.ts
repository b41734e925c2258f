/** `kage restore`: bring masters back from their proxies. */

import { COPYING, copyChoices, isSet, listOf, NO_WAIT } from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import type { Verb } from './verb.ts';

export const restore: Verb = {
  name: 'restore',
  group: 'pairs',
  takes: '<proxy..>',
  summary: 'Bring the master of each parted PROXY back from it',
  details:
    'The master gets the content that the proxy has now; what was written to the master since ' +
    'the part is discarded. Afterwards the pair is joined, and the next write changes both: part ' +
    'again to have a snapshot, or use --keep. A master whose restore was interrupted is restored ' +
    'further by the same command.',
  arguments: { proxy: 'Parted proxies: volume names or images' },
  options: {
    keep: { describe: 'Stay parted: the snapshot stays what it is' },
    instant: { describe: 'Use the master at once; without a server it copies to the end' },
    live: { describe: 'Also while clients use the master: they go on with the content of PROXY' },
    ...NO_WAIT,
    ...COPYING,
  },
  examples: [
    ['kage restore vm-proxy --dry-run', 'what would be overwritten'],
    ['kage restore vm-proxy --keep', 'fall back to the snapshot and keep it'],
    ['kage restore vm-proxy --live --instant', 'while clients of `kage serve` use the master'],
  ],
  completes: [['proxy']],

  run(args, session) {
    const proxies = listOf(args, 'proxy');
    const choices = copyChoices(args);
    const keep = isSet(args, 'keep');
    const instant = isSet(args, 'instant');
    const live = isSet(args, 'live');
    return runPairVerb(
      {
        verb: 'restore',
        refs: proxies,
        noWait: isSet(args, 'no-wait'),
        overwrites: true,
        instant,
        run: (diskClass, how) =>
          diskClass.restore(proxies, {
            ...session.runOptions,
            ...choices,
            keep,
            instant,
            ...(live ? { live } : {}),
            ...how,
          }),
      },
      session,
    );
  },
};
