/** `kage classes`: the classes of this state folder. */

import type { Verb } from './verb.ts';

export const classes: Verb = {
  name: 'classes',
  group: 'about',
  takes: '',
  summary: 'List the disk classes',
  arguments: {},
  options: {},
  examples: [['kage classes', 'one name per line']],
  completes: [[]],

  async run(_args, session) {
    const names = await session.engine.listClasses(session.engineOptions);
    await session.printer.data({ verb: 'classes', classes: names }, names);
    return undefined;
  },
};
