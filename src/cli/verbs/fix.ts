/** `kage fix`: declare an INVALID volume good, or open a class whose catalog is damaged. */

import { KageError } from '../../base/errors.ts';
import { isSet, textOf } from '../options.ts';
import { DEFAULT_CLASS, type Session } from '../session.ts';
import { runVolumeVerb } from '../volume-verbs.ts';
import type { Verb } from './verb.ts';

export const fix: Verb = {
  name: 'fix',
  group: 'volumes',
  takes: '[name]',
  summary: 'Declare an INVALID volume good; or --catalog: open a closed class',
  details:
    'You have checked the data, or brought it back. With --catalog the class goes on from its ' +
    'older catalog root; the maps made since then are not trusted, so the next copies compare.',
  arguments: { name: 'A volume name or image' },
  options: { catalog: { describe: 'Accept the older root of a damaged catalog' } },
  examples: [
    ['kage fix vm', 'after e2fsck -f vm.img, for example'],
    ['kage fix --catalog -c db', 'open class db again'],
  ],
  completes: [['volume'], []],

  async run(args, session) {
    const name = textOf(args, 'name');
    const catalog = isSet(args, 'catalog');
    if ((name === undefined) !== catalog) {
      throw new KageError('usage', 'fix needs either the NAME of a volume or --catalog');
    }
    if (name === undefined) return fixCatalog(session);
    return runVolumeVerb(
      { verb: 'fix', refs: [name], done: 'declared good', run: (c) => c.fix(name) },
      session,
    );
  },
};

async function fixCatalog(session: Session): Promise<undefined> {
  const { engine, engineOptions, dryRun, printer } = session;
  const name = session.givenClass ?? DEFAULT_CLASS;
  let done: string;
  if (dryRun) {
    const { closed } = await engine.readClass(name, engineOptions);
    done = closed === null ? 'is open: nothing to do' : `would be opened again (${closed})`;
  } else {
    done = await engine.reopenCatalog(name, engineOptions);
  }
  await printer.result({ verb: 'fix', class: name, dryRun, done }, [`class ${name}: ${done}`]);
  return undefined;
}
