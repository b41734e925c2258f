/** `kage info`: relation and state of volumes, how much changed, what the next copy would cost. */

import { KageError } from '../../base/errors.ts';
import type { ClassInfo } from '../../engine/api.ts';
import { infoLines } from '../info-text.ts';
import { textOf } from '../options.ts';
import type { Session } from '../session.ts';
import type { Verb } from './verb.ts';

export const info: Verb = {
  name: 'info',
  group: 'about',
  takes: '[name]',
  summary: 'Show volumes and pairs: state, what changed, what the next copy would be',
  details: 'Reads what is recorded, also while another process works on the class.',
  arguments: { name: 'Only this volume and its pairs: a name or an image' },
  options: {},
  examples: [
    ['kage info', 'class default'],
    ['kage info vm.img', 'the volume in this image and its pairs'],
    ['kage info vm --json | jq .pairs[0].state', 'for programs'],
  ],
  completes: [['volume', 'image'], []],

  async run(args, session) {
    const name = textOf(args, 'name');
    const className = await session.classOf(name === undefined ? [] : [name]);
    const whole = await readClass(className, session);
    const shown = name === undefined ? whole : await only(name, whole, session);
    const lines = infoLines(shown, session.printer.options.verbose);
    await session.printer.data({ verb: 'info', ...shown }, lines);
    return undefined;
  },
};

/** The part of a class that has to do with one volume. */
async function only(ref: string, whole: ClassInfo, session: Session): Promise<ClassInfo> {
  const { name } = await session.volumeOf(whole.volumes, ref, whole.class);
  const pairs = whole.pairs.filter((p) => p.master === name || p.proxy === name);
  const names = new Set([name, ...pairs.flatMap((p) => [p.master, p.proxy])]);
  const volumes = whole.volumes.filter((v) => names.has(v.name));
  const disks = whole.disks.filter((d) => volumes.some((v) => v.disk === d.name));
  return { ...whole, disks, volumes, pairs };
}

async function readClass(name: string, session: Session): Promise<ClassInfo> {
  const { engine, engineOptions } = session;
  try {
    return await engine.readClass(name, engineOptions);
  } catch (error) {
    const absent = error instanceof KageError && error.code === 'no-such-object';
    if (!absent || session.givenClass !== undefined) throw error;
    const names = await engine.listClasses(engineOptions);
    throw new KageError('no-such-object', `there is no class ${name}`, {
      hint:
        names.length === 0
          ? 'begin with `kage add IMAGE` or `kage join IMAGE PROXY-IMAGE`'
          : `with -c one of: ${names.join(', ')}`,
      data: { class: name },
      cause: error,
    });
  }
}
