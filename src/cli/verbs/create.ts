/** `kage create`: a new, sparse image as a volume. */

import { KageError } from '../../base/errors.ts';
import { formatSize } from '../../base/units.ts';
import { sizeOf, textOf } from '../options.ts';
import { DEFAULT_CLASS } from '../session.ts';
import type { Verb } from './verb.ts';

export const create: Verb = {
  name: 'create',
  group: 'volumes',
  takes: '<name> <image>',
  summary: 'Make a new, sparse IMAGE of a size and a volume NAME in it',
  arguments: { name: 'Name of the volume', image: 'Path of the image; must not exist' },
  options: { size: { alias: 's', value: 'SIZE', describe: 'Size: 10G, 512M, bytes (needed)' } },
  examples: [['kage create scratch -s 10G scratch.img', 'takes no room until it is written']],
  completes: [[], ['image'], []],

  async run(args, session) {
    const name = textOf(args, 'name')!;
    const size = sizeOf(args, 'size');
    if (size === undefined) throw new KageError('usage', 'create needs a size: -s SIZE');
    const className = session.givenClass ?? DEFAULT_CLASS;
    const volume = await session.withClass(
      className,
      (diskClass) => diskClass.create(name, size, textOf(args, 'image')!, session.runOptions),
      { create: true },
    );
    const created = session.dryRun ? 'would be created' : 'created';
    const where = `${volume.path}, ${formatSize(volume.size)}, class ${className}`;
    await session.printer.result(
      { verb: 'create', class: className, dryRun: session.dryRun, volumes: [volume] },
      [`${volume.name}: ${created} (${where})`],
    );
    return undefined;
  },
};
