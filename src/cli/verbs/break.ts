/** `kage break`: end the relation of a pair. */

import { isSet, textOf } from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import type { Verb } from './verb.ts';

export const breakVerb: Verb = {
  name: 'break',
  group: 'pairs',
  takes: '<proxy>',
  summary: 'End the relation: both become ordinary volumes with their own data',
  details: 'A side whose copy is unfinished becomes INVALID.',
  arguments: { proxy: 'A proxy: volume name or image' },
  options: {
    restore: { describe: 'Even if the master is half restored; the master becomes INVALID' },
  },
  examples: [
    ['kage break vm-proxy', 'keep both images'],
    ['kage remove vm-proxy', 'and forget the one that was the proxy'],
  ],
  completes: [['proxy'], []],

  run(args, session) {
    const proxy = textOf(args, 'proxy')!;
    const restore = isSet(args, 'restore');
    return runPairVerb(
      {
        verb: 'break',
        refs: [proxy],
        overwrites: false,
        run: (diskClass, { dryRun }) =>
          diskClass.break(proxy, { ...session.runOptions, restore, dryRun }),
      },
      session,
    );
  },
};
