/** `kage remove`: forget volumes; their images stay. */

import { listOf } from '../options.ts';
import { runVolumeVerb } from '../volume-verbs.ts';
import type { Verb } from './verb.ts';

export const remove: Verb = {
  name: 'remove',
  group: 'volumes',
  takes: '<name..>',
  summary: 'Forget volumes that are in no pair; their images stay',
  arguments: { name: 'Volume names or images' },
  options: {},
  examples: [['kage remove vm-proxy', 'the image is an ordinary file again']],
  completes: [['volume']],

  run(args, session) {
    const refs = listOf(args, 'name');
    return runVolumeVerb(
      {
        verb: 'remove',
        refs,
        done: 'removed',
        remark: 'its data stays in the image',
        run: (diskClass) => diskClass.remove(refs, session.runOptions),
      },
      session,
    );
  },
};
