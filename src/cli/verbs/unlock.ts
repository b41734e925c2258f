/** `kage unlock`: let volumes be started again. */

import { listOf } from '../options.ts';
import { runVolumeVerb } from '../volume-verbs.ts';
import type { Verb } from './verb.ts';

export const unlock: Verb = {
  name: 'unlock',
  group: 'volumes',
  takes: '<name..>',
  summary: 'Take the lock from volumes',
  arguments: { name: 'Volume names or images' },
  options: {},
  examples: [['kage unlock vm', 'does not start it']],
  completes: [['volume']],

  run(args, session) {
    const refs = listOf(args, 'name');
    return runVolumeVerb(
      { verb: 'unlock', refs, done: 'unlocked', run: (diskClass) => diskClass.unlock(refs) },
      session,
    );
  },
};
