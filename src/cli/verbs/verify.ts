/** `kage verify`: read both sides of pairs and report what differs. */

import { EXIT } from '../../base/errors.ts';
import { copyChoices, isSet, listOf } from '../options.ts';
import { verifyLines } from '../sentences.ts';
import type { Verb } from './verb.ts';

export const verify: Verb = {
  name: 'verify',
  group: 'pairs',
  takes: '<proxy..>',
  summary: 'Read both sides of each pair, report differences and checksums',
  details:
    'Exit status 4 if regions differ that were believed equal; with --exit-code also for ' +
    'differences that are known, such as changes since the part. The checksum is XXH64 of the ' +
    'whole volume, as `xxhsum -H1` prints it; under a server a volume that was written while it was ' +
    'read has none.',
  arguments: { proxy: 'Proxies: volume names or images' },
  options: {
    'exit-code': { describe: 'Exit 4 for any difference' },
    rate: { value: 'SIZE', describe: 'Read no more than this of each side per second: 50M' },
  },
  examples: [['kage verify vm-proxy', 'is the proxy what it should be?']],
  completes: [['proxy']],

  async run(args, session) {
    const proxies = listOf(args, 'proxy');
    const className = await session.classOf(proxies);
    const report = await session.withClass(className, (diskClass) =>
      diskClass.verify(proxies, { ...session.runOptions, ...copyChoices(args) }),
    );
    await session.printer.data(report, report.pairs.flatMap(verifyLines));
    const counted = isSet(args, 'exit-code') ? 'differing' : 'unexpected';
    return report.pairs.some((pair) => pair[counted] > 0) ? EXIT.different : EXIT.done;
  },
};
