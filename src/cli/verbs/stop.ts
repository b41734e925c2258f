/** `kage stop`: close volumes to reads and writes. */

import { FORCE, isSet, listOf } from '../options.ts';
import { runVolumeVerb } from '../volume-verbs.ts';
import type { Verb } from './verb.ts';

export const stop: Verb = {
  name: 'stop',
  group: 'volumes',
  takes: '<name..>',
  summary: 'Stop volumes: nobody reads or writes them through the engine',
  arguments: { name: 'Volume names or images' },
  options: FORCE,
  examples: [
    ['kage stop vm', 'before a restore by sdxproxy'],
    ['kage stop vm --force', 'whoever uses it gets errors from now on'],
  ],
  completes: [['volume']],

  run(args, session) {
    const refs = listOf(args, 'name');
    const force = isSet(args, 'force');
    return runVolumeVerb(
      {
        verb: 'stop',
        refs,
        done: 'stopped',
        run: (diskClass) => (force ? diskClass.stop(refs, { force }) : diskClass.stop(refs)),
      },
      session,
    );
  },
};
