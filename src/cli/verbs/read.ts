/** `kage read`: the content of a volume on standard output, as the engine sees it. */

import { KageError } from '../../base/errors.ts';
import { CHUNK_SIZE } from '../../base/limits.ts';
import { sizeOf, textOf } from '../options.ts';
import type { Verb } from './verb.ts';

export const read: Verb = {
  name: 'read',
  group: 'volumes',
  takes: '<name>',
  summary: 'Copy a volume, or a part of it, to standard output',
  arguments: { name: 'A volume name or image' },
  options: {
    offset: { value: 'SIZE', describe: 'Where to begin (default 0)' },
    length: { value: 'SIZE', describe: 'How much (default: to the end)' },
  },
  examples: [
    ['kage read vm-proxy > backup.img', 'a backup of the snapshot'],
    ['kage read vm --length 512 | xxd', 'its first block'],
  ],
  completes: [['volume'], []],

  async run(args, session) {
    const { env, printer, dryRun } = session;
    const ref = textOf(args, 'name')!;
    const offset = sizeOf(args, 'offset', 0) ?? 0;
    const wanted = sizeOf(args, 'length', 0);
    if (printer.options.json) {
      throw new KageError('usage', 'read prints the data itself: --json does not go with it');
    }
    if (env.stdout.isTTY && !dryRun) {
      throw new KageError('usage', 'read prints raw data: send it elsewhere with > FILE or a pipe');
    }
    const className = await session.classOf([ref]);
    await session.withClass(className, async (diskClass) => {
      const { volumes } = await diskClass.info();
      const { name, size } = await session.volumeOf(volumes, ref, className);
      const end = wanted === undefined ? size : offset + wanted;
      if (offset > size || end > size) {
        throw new KageError('usage', `${name} has ${size} bytes: ${offset} to ${end} is not in it`);
      }
      if (dryRun) return printer.say(`${name}: ${end - offset} bytes would be read`);
      for (let at = offset; at < end; at += CHUNK_SIZE) {
        env.signal.throwIfAborted();
        await env.stdout.write(await diskClass.read(name, at, Math.min(CHUNK_SIZE, end - at)));
      }
    });
    return undefined;
  },
};
