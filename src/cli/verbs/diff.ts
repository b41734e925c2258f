/** `kage diff`: where two images or volumes differ; needs no class. */

import { EXIT } from '../../base/errors.ts';
import { formatSeconds, formatSize, plural } from '../../base/units.ts';
import type { ImageReport } from '../../engine/api.ts';
import { imageOf } from '../image-of.ts';
import { isSet, REGION, regionSizeOf, sizeOf, textOf } from '../options.ts';
import type { Verb } from './verb.ts';

const RANGES_SHOWN = 20;

export const diff: Verb = {
  name: 'diff',
  group: 'images',
  takes: '<a> <b>',
  summary: 'Show the regions that differ between two images or volumes',
  arguments: { a: 'Image, or volume with an image of its own', b: 'The other one' },
  options: {
    'exit-code': { describe: 'Exit 4 if they differ' },
    ranges: { value: 'N', describe: `How many ranges to list (default ${RANGES_SHOWN})` },
    ...REGION,
  },
  examples: [
    ['kage diff vm.img backup.img', 'needs no class'],
    ['kage diff a.img b.img --exit-code -q && echo equal', 'in a script'],
  ],
  completes: [['volume', 'image'], ['volume', 'image'], []],

  async run(args, session) {
    const regionSize = regionSizeOf(args);
    const rangesMax = sizeOf(args, 'ranges', 0) ?? RANGES_SHOWN;
    const a = await imageOf(textOf(args, 'a')!, session);
    const b = await imageOf(textOf(args, 'b')!, session);
    const report = await session.engine.diffImages(a, b, {
      ...session.engineOptions,
      ...session.runOptions,
      ...(regionSize === undefined ? {} : { regionSize }),
      rangesMax,
    });
    const show = isSet(args, 'exit-code') ? 'result' : 'data';
    await session.printer[show]({ verb: 'diff', ...report }, diffLines(report));
    return isSet(args, 'exit-code') && report.differing > 0 ? EXIT.different : EXIT.done;
  },
};

function diffLines(report: ImageReport): string[] {
  const { regions, regionSize, differing, size, seconds } = report;
  const all = `${plural(regions, 'region')} of ${formatSize(regionSize)}`;
  const verdict = differing === 0 ? `equal, all ${all}` : `${differing} of ${all} differ`;
  const ranges = report.ranges.map(
    ({ offset, length }) => `  offset ${offset}, length ${length} (${formatSize(length)})`,
  );
  if (report.rangesLeftOut > 0) ranges.push(`  and ${plural(report.rangesLeftOut, 'more range')}`);
  return [
    `${report.source}, ${report.target}: ${verdict} (${formatSize(size)}, ${formatSeconds(seconds)})`,
    ...ranges,
    ...report.notes.map((note) => `  ${note}`),
  ];
}
