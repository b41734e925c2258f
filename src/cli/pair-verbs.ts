/**
 * What the verbs of a pair have in common: open the class, say beforehand what will be overwritten
 * in which direction, run, report every copy with its method and reason.
 */

import type { DiskClass, VerbReport } from '../engine/api.ts';
import { continuing } from './continuing.ts';
import { announcement, pairLines } from './sentences.ts';
import type { Session } from './session.ts';

export type PairCall = {
  readonly verb: string;
  /** Words of the user that say which class is meant. */
  readonly refs: readonly string[];
  /** The class is made when it does not exist. */
  readonly create?: boolean;
  /** Existing data will be overwritten: say so first. */
  readonly overwrites: boolean;
  run(diskClass: DiskClass, options: { readonly dryRun: boolean }): Promise<VerbReport>;
};

export async function runPairVerb(call: PairCall, session: Session): Promise<undefined> {
  const { printer, dryRun } = session;
  const name = await session.classOf(call.refs);
  const work = session.withClass(
    name,
    async (diskClass) => {
      if (call.overwrites && !dryRun && !printer.options.quiet) {
        const plan = await call.run(diskClass, { dryRun: true });
        const before = await diskClass.info();
        for (const pair of plan.pairs) {
          await printer.say(`${call.verb}: ${announcement(pair, before).text}`);
        }
      }
      const report = await call.run(diskClass, { dryRun });
      return { report, info: await diskClass.info() };
    },
    { create: call.create ?? false },
  );
  const { report, info } = await continuing(work);
  // Printed once the class is closed: what is printed is durable.
  const lines = report.pairs.flatMap((pair) => pairLines(call.verb, pair, dryRun, info));
  await printer.result(report, lines);
  return undefined;
}
