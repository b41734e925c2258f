/**
 * What the verbs of a pair have in common: open the class, say beforehand what will be overwritten
 * in which direction, run, report every copy with its method and reason.
 */

import { EXIT } from '../base/errors.ts';
import type { DiskClass, Quiesce, VerbReport } from '../engine/api.ts';
import { continuing } from './continuing.ts';
import { Freezer } from './freezer.ts';
import type { QuiesceChoice } from './options.ts';
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
  /** Another option that means nothing without one, if it was given. */
  readonly needsServer?: string | undefined;
  /** Commands around the instant. */
  readonly quiesce?: QuiesceChoice | undefined;
  /** `how` goes into the options of the engine's call. */
  run(diskClass: DiskClass, how: How): Promise<VerbReport>;
};

type How = { readonly dryRun: boolean; readonly wait?: boolean; readonly quiesce?: Quiesce };

export async function runPairVerb(call: PairCall, session: Session): Promise<number | undefined> {
  const { printer, dryRun } = session;
  const needsServer = call.noWait ? '--no-wait' : call.needsServer;
  const name = await session.classOf(call.refs);
  let freezer: Freezer | undefined;
  const work = session.withClass(
    name,
    async (diskClass) => {
      const announces = call.overwrites && !printer.options.quiet;
      if (!dryRun && (announces || call.quiesce)) {
        const plan = await call.run(diskClass, { dryRun: true });
        if (announces) await announce(call, plan, diskClass, session);
        if (call.quiesce) freezer = await Freezer.create(call.quiesce, plan, session);
      }
      const report = await runFrozen(call, diskClass, freezer, session);
      return { report, info: await diskClass.info() };
    },
    { create: call.create ?? false, ...(needsServer === undefined ? {} : { needsServer }) },
  );
  const { report, info } = await continuing(work);
  // Printed once the class is closed: what is printed is durable.
  const facts = { info, regionSize: call.regionSize };
  const lines = report.pairs.flatMap((pair) => pairLines(call.verb, pair, dryRun, facts));
  const { freeze, thaw } = (dryRun && call.quiesce) || {};
  if (freeze !== undefined) lines.push(`before the instant: ${freeze}`, `after it: ${thaw}`);
  const quiesce = freeze === undefined ? freezer?.outcome : { freeze, thaw };
  await printer.result(quiesce === undefined ? report : { ...report, quiesce }, lines);
  return freezer?.problem === undefined ? undefined : EXIT.partly;
}

async function announce(
  call: PairCall,
  plan: VerbReport,
  diskClass: DiskClass,
  { printer }: Session,
): Promise<void> {
  const facts = { info: await diskClass.info(), regionSize: call.regionSize };
  for (const pair of plan.pairs) {
    const { subject, text } = announcement(pair, facts);
    await printer.say(`${call.verb}: ${subject} ${text}`);
  }
}

async function runFrozen(
  call: PairCall,
  diskClass: DiskClass,
  freezer: Freezer | undefined,
  { dryRun, served }: Session,
): Promise<VerbReport> {
  const early = served && (call.noWait || call.instant);
  const how = { dryRun, ...(early ? { wait: false } : {}) };
  if (freezer === undefined) return await call.run(diskClass, how);
  const quiesce = freezer;
  return await freezer.around(() => call.run(diskClass, { ...how, quiesce }));
}
