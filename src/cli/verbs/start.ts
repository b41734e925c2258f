/** `kage start`: make volumes accessible. */

import { isSet, listOf, READ_ONLY } from '../options.ts';
import { runVolumeVerb } from '../volume-verbs.ts';
import type { Verb } from './verb.ts';

export const start: Verb = {
  name: 'start',
  group: 'volumes',
  takes: '<name..>',
  summary: 'Start volumes: they may be read and written through the engine',
  details:
    'Without --read-only clients may write, also to a volume that was started read-only before. The ' +
    'mode of a volume in use is not changed.',
  arguments: { name: 'Volume names or images' },
  options: { unlock: { describe: 'Start it even if it is locked' }, ...READ_ONLY },
  examples: [
    ['kage start vm', 'after a restore, for example'],
    ['kage start vm-proxy --read-only', 'a snapshot that is to stay as it is'],
  ],
  completes: [['volume']],

  run(args, session) {
    const refs = listOf(args, 'name');
    const unlock = isSet(args, 'unlock');
    const readOnly = isSet(args, 'read-only');
    const done = readOnly ? 'started read-only' : 'started';
    return runVolumeVerb(
      { verb: 'start', refs, done, run: (c) => c.start(refs, { unlock, readOnly }) },
      session,
    );
  },
};
