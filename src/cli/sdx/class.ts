/** `sdxclass -R`: remove a class that has no volumes. */

import type { Session } from '../session.ts';
import { operationOf, required, type SdxWords } from './getopt.ts';
import { line } from './report.ts';

export async function sdxclass(words: SdxWords, session: Session): Promise<undefined> {
  operationOf(words, 'R');
  const name = required(words, 'c', 'class');
  const { dryRun, printer } = session;
  await session.withClass(name, (diskClass) => diskClass.removeClass(session.runOptions));
  const text = dryRun ? 'dry run: class would be removed' : 'class removed';
  await printer.result({ verb: 'sdxclass -R', class: name, dryRun }, [line('INFO', name, text)]);
  return undefined;
}
