/** `kage start`: make volumes accessible. */

import { isSet, listOf } from '../options.ts';
import { runVolumeVerb } from '../volume-verbs.ts';
import type { Verb } from './verb.ts';

export const start: Verb = {
  name: 'start',
  group: 'volumes',
  takes: '<name..>',
  summary: 'Start volumes: they may be read and written through the engine',
  arguments: { name: 'Volume names or images' },
  options: { unlock: { describe: 'Start it even if it is locked' } },
  examples: [['kage start vm', 'after a restore, for example']],
  completes: [['volume']],

  run(args, session) {
    const refs = listOf(args, 'name');
    const unlock = isSet(args, 'unlock');
    return runVolumeVerb(
      { verb: 'start', refs, done: 'started', run: (c) => c.start(refs, { unlock }) },
      session,
    );
  },
};
