/** What the verbs on single volumes have in common: find them, do it or say so, report. */

import type { DiskClass } from '../engine/api.ts';
import type { Session } from './session.ts';

export type VolumeCall = {
  readonly verb: string;
  readonly refs: readonly string[];
  /** `started`: what each volume is afterwards. */
  readonly done: string;
  /** A remark behind each line. */
  readonly remark?: string;
  run(diskClass: DiskClass): Promise<void>;
};

export async function runVolumeVerb(call: VolumeCall, session: Session): Promise<undefined> {
  const { dryRun } = session;
  const name = await session.classOf(call.refs);
  const volumes = await session.withClass(name, async (diskClass) => {
    const info = await diskClass.info();
    const found = [];
    for (const ref of call.refs) found.push(await session.volumeOf(info.volumes, ref, name));
    if (!dryRun) await call.run(diskClass);
    return found.map((volume) => volume.name);
  });
  const would = dryRun ? 'would be ' : '';
  const remark = call.remark === undefined ? '' : `; ${call.remark}`;
  await session.printer.result(
    { verb: call.verb, class: name, dryRun, volumes },
    volumes.map((volume) => `${volume}: ${would}${call.done}${remark}`),
  );
  return undefined;
}
