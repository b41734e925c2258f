/** `kage lock`: keep volumes from being started. */

import { listOf } from '../options.ts';
import { runVolumeVerb } from '../volume-verbs.ts';
import type { Verb } from './verb.ts';

export const lock: Verb = {
  name: 'lock',
  group: 'volumes',
  takes: '<name..>',
  summary: 'Lock volumes: they are not started until unlocked',
  arguments: { name: 'Volume names or images' },
  options: {},
  examples: [['kage lock vm', 'a part then leaves the proxy stopped']],
  completes: [['volume']],

  run(args, session) {
    const refs = listOf(args, 'name');
    return runVolumeVerb(
      { verb: 'lock', refs, done: 'locked', run: (diskClass) => diskClass.lock(refs) },
      session,
    );
  },
};
