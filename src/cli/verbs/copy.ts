/** `kage copy`: make an image equal to another one, writing only what differs; needs no class. */

import { KageError } from '../../base/errors.ts';
import { formatSeconds, formatSize, plural } from '../../base/units.ts';
import { continuing } from '../continuing.ts';
import { imageOf } from '../image-of.ts';
import { COPYING, copyChoices, REGION, regionSizeOf, textOf } from '../options.ts';
import type { Verb } from './verb.ts';

const { 'differential-only': _, ...COPY_OPTIONS } = COPYING;

export const copy: Verb = {
  name: 'copy',
  group: 'images',
  takes: '<source> <target>',
  summary: 'Make TARGET equal to SOURCE, writing only what differs',
  details:
    'A target that does not exist is made, sparse; until it is whole it is called ' +
    'TARGET.kage-*.part. An image of a class is refused as target.',
  arguments: { source: 'Image, or volume with an image of its own', target: 'Path of an image' },
  options: { ...REGION, ...COPY_OPTIONS },
  examples: [['kage copy vm.img /backup/vm.img', 'the second time it writes only what changed']],
  completes: [['volume', 'image'], ['image'], []],

  async run(args, session) {
    const { engine, engineOptions, printer, dryRun } = session;
    const target = textOf(args, 'target')!;
    const regionSize = regionSizeOf(args);
    const choices = copyChoices(args);
    const source = await imageOf(textOf(args, 'source')!, session);
    const owner = await engine.findImage(target, engineOptions);
    if (owner) {
      const taken = `${target} is volume ${owner.volume} of class ${owner.class}`;
      throw new KageError('image-taken', `${taken}: copying over it would go past the class`, {
        hint: 'use `kage join`, `kage update` or `kage write`',
        data: { image: target, ...owner },
      });
    }
    const report = await continuing(
      engine.copyImage(source, target, {
        ...engineOptions,
        ...session.runOptions,
        ...choices,
        ...(regionSize === undefined ? {} : { regionSize }),
        onOverwrite: () =>
          printer.say(`copy: ${target} will be overwritten from ${source} where it differs`),
      }),
    );
    const differed = `${report.differing} of ${plural(report.regions, 'region')} different`;
    const made = dryRun ? 'would be made equal' : 'equal now';
    const written = dryRun ? '' : `, ${formatSize(report.bytesWritten)} written`;
    const time = formatSeconds(report.seconds);
    await printer.result({ verb: 'copy', dryRun, ...report }, [
      `${target}: ${made} to ${source} (${differed}${written}, ${time})`,
      ...report.notes.map((note) => `  ${note}`),
    ]);
    return undefined;
  },
};
