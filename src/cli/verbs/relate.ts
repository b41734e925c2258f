/** `kage relate`: make two volumes a pair without copying anything. */

import { REGION, regionSizeOf, textOf } from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import { isPath } from '../session.ts';
import type { Verb } from './verb.ts';

export const relate: Verb = {
  name: 'relate',
  group: 'pairs',
  takes: '<master> <proxy>',
  summary: 'Make a parted pair without copying; the first update copies',
  arguments: { master: 'Volume or image', proxy: 'Volume or image that will stand in for it' },
  options: REGION,
  examples: [
    ['kage relate vm vm-proxy', 'parted, never synchronized'],
    ['kage update vm-proxy', 'the first snapshot: copies everything'],
  ],
  completes: [
    ['volume', 'image'],
    ['volume', 'image'],
  ],

  run(args, session) {
    const master = textOf(args, 'master')!;
    const proxy = textOf(args, 'proxy')!;
    const regionSize = regionSizeOf(args);
    return runPairVerb(
      {
        verb: 'relate',
        refs: [master, proxy],
        create: isPath(master) || isPath(proxy),
        overwrites: false,
        run: (diskClass, { dryRun }) =>
          diskClass.relate(master, proxy, {
            ...session.runOptions,
            ...(regionSize === undefined ? {} : { regionSize }),
            dryRun,
          }),
      },
      session,
    );
  },
};
