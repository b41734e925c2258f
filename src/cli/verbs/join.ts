/** `kage join`: give a master a proxy and make the two equal. */

import { COPYING, copyChoices, isSet, NO_WAIT, REGION, regionSizeOf, textOf } from '../options.ts';
import { runPairVerb } from '../pair-verbs.ts';
import { isPath } from '../session.ts';
import type { Verb } from './verb.ts';

export const join: Verb = {
  name: 'join',
  group: 'pairs',
  takes: '<master> <proxy>',
  summary: 'Give MASTER a proxy and copy until the two are equal',
  details:
    'Volume names, or paths of images (an argument with / or .), which become volumes of the ' +
    'class. A proxy image that does not exist is made. While joined, each write to the master ' +
    'also goes to the proxy, which is stopped. Interrupted, it goes on when run again.',
  arguments: {
    master: 'Volume or image to take snapshots of',
    proxy: 'Volume or image that stands in for it; its content is overwritten',
  },
  options: { ...NO_WAIT, ...REGION, ...COPYING },
  examples: [
    ['kage join vm.img vm.proxy.img', 'two images; makes the second one'],
    ['kage join vm vm-proxy --rate 50M', 'two volumes, slowly'],
    ['kage join vm.img old-copy.img --compare', 'write only what differs'],
  ],
  completes: [
    ['volume', 'image'],
    ['volume', 'image'],
  ],

  run(args, session) {
    const master = textOf(args, 'master')!;
    const proxy = textOf(args, 'proxy')!;
    const choices = copyChoices(args);
    const regionSize = regionSizeOf(args);
    return runPairVerb(
      {
        verb: 'join',
        refs: [master, proxy],
        create: isPath(master) || isPath(proxy),
        regionSize,
        noWait: isSet(args, 'no-wait'),
        overwrites: !isPath(proxy) || session.env.exists(proxy),
        run: (diskClass, how) =>
          diskClass.join(master, proxy, {
            ...session.runOptions,
            ...choices,
            ...(regionSize === undefined ? {} : { regionSize }),
            ...how,
          }),
      },
      session,
    );
  },
};
