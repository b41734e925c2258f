/** `kage swap`: master and proxy exchange their disks. */

import { COPYING, copyChoices, textOf } from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import type { Verb } from './verb.ts';

export const swap: Verb = {
  name: 'swap',
  group: 'pairs',
  takes: '<proxy>',
  summary: 'Let a joined PROXY and its master exchange their images',
  details:
    'The master then lives in the image of the proxy, and the other way round: the way to move a ' +
    'volume to other storage. A path names the other volume afterwards; `kage info` shows it.',
  arguments: { proxy: 'A joined proxy: volume name or image' },
  options: COPYING,
  examples: [
    ['kage swap vm-proxy', 'vm now lives in the image of the proxy'],
    ['kage break vm-proxy', 'and the old image is free'],
  ],
  completes: [['proxy'], []],

  run(args, session) {
    const proxy = textOf(args, 'proxy')!;
    const choices = copyChoices(args);
    return runPairVerb(
      {
        verb: 'swap',
        refs: [proxy],
        overwrites: false,
        run: (diskClass, { dryRun }) =>
          diskClass.swap(proxy, { ...session.runOptions, ...choices, dryRun }),
      },
      session,
    );
  },
};
