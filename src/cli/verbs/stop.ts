/** `kage stop`: close volumes to reads and writes. */

import { listOf } from '../options.ts';
import { runVolumeVerb } from '../volume-verbs.ts';
import type { Verb } from './verb.ts';

export const stop: Verb = {
  name: 'stop',
  group: 'volumes',
  takes: '<name..>',
  summary: 'Stop volumes: nobody reads or writes them through the engine',
  arguments: { name: 'Volume names or images' },
  options: {},
  examples: [['kage stop vm', 'before a restore by sdxproxy']],
  completes: [['volume']],

  run(args, session) {
    const refs = listOf(args, 'name');
    return runVolumeVerb(
      { verb: 'stop', refs, done: 'stopped', run: (diskClass) => diskClass.stop(refs) },
      session,
    );
  },
};
