/** `sdxdisk`: register images as disks of a class, and take them out again. */

import { EXIT } from '../../base/errors.ts';
import type { DiskClass } from '../../engine/api.ts';
import type { Session } from '../session.ts';
import { effectsOf, notInThisVersion } from './effects.ts';
import { operationOf, required, requiredList, type SdxWords, sdxUsage } from './getopt.ts';
import { line, objectOf } from './report.ts';

type DiskType = 'keep' | 'single' | 'undef';
type DiskRequest = { readonly path: string; readonly name: string; readonly type: DiskType };

export async function sdxdisk(words: SdxWords, session: Session): Promise<number> {
  const operation = operationOf(words, 'MRCD');
  if (operation === 'C' || operation === 'D' || words.lists.has('g')) {
    throw notInThisVersion('groups');
  }
  const className = required(words, 'c', 'class');
  if (operation === 'M') {
    const disks = requiredList(words, 'd', 'image=disk').map(parseDisk);
    refuseClassAttributes(words);
    effectsOf(words, 'e', ['chkps']);
    return each('M', className, disks, session, async (diskClass, disk) => {
      const info = await diskClass.addDisk(disk.path, disk.name, disk.type, session.runOptions);
      return `registered (${info.path}, type ${info.type})`;
    });
  }
  const disks = requiredList(words, 'd', 'disk').map((name) => ({ name }));
  return each('R', className, disks, session, async (diskClass, disk) => {
    await diskClass.removeDisk(disk.name, session.runOptions);
    return 'removed; its image stays';
  });
}

/** `IMAGE=DISK[:TYPE]`; the path may contain `=`. */
function parseDisk(text: string): DiskRequest {
  const match = /^(.+)=([^=:]+)(?::([^=:]*))?$/.exec(text);
  if (!match) throw sdxUsage('sdxdisk', `-d ${text}: must be IMAGE=DISK[:TYPE]`);
  const [, path, name, type = 'undef'] = match;
  if (type === 'spare') throw notInThisVersion('spare disks');
  if (type !== 'keep' && type !== 'single' && type !== 'undef') {
    throw sdxUsage('sdxdisk', `-d ${text}: the type must be keep, single or undef`);
  }
  return { path, name, type };
}

function refuseClassAttributes(words: SdxWords): void {
  for (const attribute of words.lists.get('a') ?? []) {
    const [key, value] = attribute.split(/=(.*)/);
    if (key === 'type' && (value === 'shared' || value === 'root')) {
      throw notInThisVersion(`${value} classes`);
    }
    if (key === 'scope') throw notInThisVersion('classes of several nodes');
    // There are no spare disks that hot spare or its mode could act on: nothing is lost.
    const isKnown = (key === 'type' && value === 'local') || key === 'hs' || key === 'hsmode';
    if (!isKnown) throw sdxUsage('sdxdisk', `-a ${attribute} is not known here`);
  }
}

/** Does one disk after the other; an error after the first success means `partly`. */
async function each<T extends { readonly name: string }>(
  operation: 'M' | 'R',
  className: string,
  disks: readonly T[],
  session: Session,
  work: (diskClass: DiskClass, disk: T) => Promise<string>,
): Promise<number> {
  const { dryRun, printer } = session;
  const done: string[] = [];
  const lines: string[] = [];
  let failure: { readonly error: unknown; readonly disk: string } | undefined;
  await session.withClass(
    className,
    async (diskClass) => {
      for (const disk of disks) {
        try {
          const text = await work(diskClass, disk);
          lines.push(line('INFO', disk.name, `${dryRun ? 'dry run: ' : ''}${text}`));
          done.push(disk.name);
        } catch (error) {
          if (done.length === 0) throw error;
          failure = { error, disk: disk.name };
          return;
        }
      }
    },
    { create: operation === 'M' },
  );
  const report = { verb: `sdxdisk -${operation}`, class: className, dryRun, disks: done };
  if (failure === undefined) {
    await printer.result(report, lines);
    return EXIT.done;
  }
  const { error, disk } = failure;
  if (!printer.options.json) {
    await printer.result(report, lines);
    await printer.error(error, (text) => line('ERROR', objectOf(error, disk), text));
  } else {
    await printer.result({ ...report, failed: disk, error: `${error}` }, []);
  }
  return EXIT.partly;
}
