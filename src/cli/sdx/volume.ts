/** `sdxvolume`: make, remove, start and stop volumes. */

import { EXIT, KageError } from '../../base/errors.ts';
import { BLOCK_SIZE } from '../../base/limits.ts';
import type { ClassInfo, VolumeInfo } from '../../engine/api.ts';
import { isSet } from '../options.ts';
import type { Session } from '../session.ts';
import { effectsOf, notInThisVersion } from './effects.ts';
import { operationOf, required, requiredList, type SdxWords, sdxUsage } from './getopt.ts';
import { line, warn } from './report.ts';

export async function sdxvolume(words: SdxWords, session: Session): Promise<number> {
  const operation = operationOf(words, 'MRNFS');
  if (words.lists.has('g')) throw notInThisVersion('groups');
  if (operation === 'S') throw notInThisVersion('expanding volumes (-S)');
  if (isSet(words.args, 'force') && operation !== 'F') {
    throw sdxUsage('sdxvolume', '--force goes with -F only');
  }
  const className = required(words, 'c', 'class');
  if (operation === 'M') return make(words, className, session);
  if (operation === 'R') return remove(words, className, session);
  return startOrStop(words, className, operation === 'N', session);
}

/** Sizes are taken as they are: no rounding up to cylinders, so a proxy can fit any master. */
async function make(words: SdxWords, className: string, session: Session): Promise<number> {
  const disk = required(words, 'd', 'disk');
  const name = required(words, 'v', 'volume');
  const blocks = required(words, 's', 'size');
  if (!/^[1-9]\d{0,12}$/.test(blocks)) {
    throw sdxUsage('sdxvolume', `-s ${blocks}: not a number of blocks (512 bytes each)`);
  }
  const { warnings } = effectsOf(words, 'a', ['jrm', 'pslice']);
  effectsOf(words, 'e', ['delay']);
  for (const text of warnings) await warn(session, name, text);
  const volume = await session.withClass(className, (diskClass) =>
    diskClass.addVolume(disk, name, Number(blocks) * BLOCK_SIZE, session.runOptions),
  );
  await print('M', className, [volume.name], [`created on ${disk}, started`], session);
  return EXIT.done;
}

async function remove(words: SdxWords, className: string, session: Session): Promise<number> {
  const name = required(words, 'v', 'volume');
  const diskGone = await session.withClass(className, async (diskClass) => {
    const before = await diskClass.info();
    const volume = await session.volumeOf(before.volumes, name, className);
    if (volume.status === 'ACTIVE') {
      throw new KageError('wrong-state', `${name} is started`, {
        hint: `stop it first: sdxvolume -F -c ${className} -v ${name}`,
        data: { volume: name, class: className },
      });
    }
    await diskClass.remove([name], session.runOptions);
    const after = await diskClass.info();
    return before.disks.some((d) => !after.disks.some((other) => other.name === d.name));
  });
  await print('R', className, [name], [diskGone ? 'removed with its disk' : 'removed'], session);
  return EXIT.done;
}

async function startOrStop(
  words: SdxWords,
  className: string,
  online: boolean,
  session: Session,
): Promise<number> {
  const known = online
    ? ['allnodes', 'node', 'delay', 'mode', 'nosync', 'unlock']
    : ['allnodes', 'node'];
  const { unlock = false, readOnly = false, warnings } = effectsOf(words, 'e', known);
  const force = isSet(words.args, 'force');
  const named = words.lists.has('v') ? requiredList(words, 'v', 'volume') : undefined;
  let skipped: readonly VolumeInfo[] = [];
  const names = await session.withClass(className, async (diskClass) => {
    const info = await diskClass.info();
    const all = choose(info, online, unlock);
    if (named === undefined) skipped = all.skipped;
    const chosen = named ?? all.chosen.map((v) => v.name);
    for (const name of chosen) await session.volumeOf(info.volumes, name, className);
    if (!session.dryRun && chosen.length > 0) {
      if (online) await diskClass.start(chosen, { unlock, readOnly });
      else await (force ? diskClass.stop(chosen, { force }) : diskClass.stop(chosen));
    }
    return chosen;
  });
  for (const text of warnings) await warn(session, names.join(','), text);
  for (const v of skipped) await warn(session, v.name, `not started: ${reasonOf(v)}`);
  const done = online ? 'volume started' : 'volume stopped';
  await print(
    online ? 'N' : 'F',
    className,
    names,
    names.map(() => done),
    session,
  );
  return skipped.some((v) => v.status === 'INVALID') ? EXIT.partly : EXIT.done;
}

/** All volumes of the class, without `-v`: those that the operation has something to do for. */
function choose(info: ClassInfo, online: boolean, unlock: boolean) {
  if (!online) return { chosen: info.volumes.filter((v) => v.status === 'ACTIVE'), skipped: [] };
  const joined = new Set(info.pairs.filter((p) => p.joined).map((p) => p.proxy));
  const stopped = info.volumes.filter((v) => v.status !== 'ACTIVE' && !joined.has(v.name));
  const startable = (v: VolumeInfo) => v.status === 'STOP' && (unlock || !v.locked);
  return { chosen: stopped.filter(startable), skipped: stopped.filter((v) => !startable(v)) };
}

function reasonOf(volume: VolumeInfo): string {
  if (volume.status === 'INVALID') return `INVALID: ${volume.problem ?? 'its data is not valid'}`;
  return 'it is locked (-e unlock starts it)';
}

async function print(
  operation: string,
  className: string,
  volumes: readonly string[],
  texts: readonly string[],
  session: Session,
): Promise<void> {
  const { dryRun, printer } = session;
  const would = dryRun ? 'dry run: ' : '';
  await printer.result(
    { verb: `sdxvolume -${operation}`, class: className, dryRun, volumes },
    volumes.map((name, i) => line('INFO', name, `${would}${texts[i]}`)),
  );
}
