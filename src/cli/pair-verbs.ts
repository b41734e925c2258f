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
  /** Tracking unit that was asked for, bytes. */
  readonly regionSize?: number;
  /** Existing data will be overwritten: say so first. */
  readonly overwrites: boolean;
  /** `--no-wait`: come back when the verb is committed; needs a server. */
  readonly noWait?: boolean;
  /** `--instant`: the same, where there is a server. */
  readonly instant?: boolean;
  /** `how` goes into the options of the engine's call. */
  run(diskClass: DiskClass, how: How): Promise<VerbReport>;
};

type How = { readonly dryRun: boolean; readonly wait?: boolean };

export async function runPairVerb(call: PairCall, session: Session): Promise<undefined> {
  const { printer, dryRun } = session;
  const name = await session.classOf(call.refs);
  const work = session.withClass(
    name,
    async (diskClass) => {
      if (call.overwrites && !dryRun && !printer.options.quiet) {
        const plan = await call.run(diskClass, { dryRun: true });
        const facts = { info: await diskClass.info(), regionSize: call.regionSize };
        for (const pair of plan.pairs) {
          const { subject, text } = announcement(pair, facts);
          await printer.say(`${call.verb}: ${subject} ${text}`);
        }
      }
      const early = session.served && (call.noWait || call.instant);
      const report = await call.run(diskClass, { dryRun, ...(early ? { wait: false } : {}) });
      return { report, info: await diskClass.info() };
    },
    { create: call.create ?? false, ...(call.noWait ? { needsServer: '--no-wait' } : {}) },
  );
  const { report, info } = await continuing(work);
  // Printed once the class is closed: what is printed is durable.
  const facts = { info, regionSize: call.regionSize };
  const lines = report.pairs.flatMap((pair) => pairLines(call.verb, pair, dryRun, facts));
  await printer.result(report, lines);
  return undefined;
}
