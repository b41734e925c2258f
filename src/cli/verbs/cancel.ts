/** `kage cancel`: give up the unfinished copy of a parted pair. */

import { textOf } from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import type { Verb } from './verb.ts';

export const cancel: Verb = {
  name: 'cancel',
  group: 'pairs',
  takes: '<proxy>',
  summary: 'Give up the unfinished copy of a parted PROXY',
  details: 'The side that was being written becomes INVALID; the pair stays parted.',
  arguments: { proxy: 'A parted proxy: volume name or image' },
  options: {},
  examples: [['kage cancel vm-proxy', 'stop an instant snapshot that is still being copied']],
  completes: [['proxy'], []],

  run(args, session) {
    const proxy = textOf(args, 'proxy')!;
    return runPairVerb(
      {
        verb: 'cancel',
        refs: [proxy],
        overwrites: false,
        run: (diskClass, { dryRun }) => diskClass.cancel(proxy, { ...session.runOptions, dryRun }),
      },
      session,
    );
  },
};
