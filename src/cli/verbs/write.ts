/** `kage write`: standard input onto a volume, through the engine, so that it is tracked. */

import { ioError, KageError } from '../../base/errors.ts';
import { CHUNK_SIZE } from '../../base/limits.ts';
import { formatSize } from '../../base/units.ts';
import type { DiskClass } from '../../engine/api.ts';
import { sizeOf, textOf } from '../options.ts';
import type { Session } from '../session.ts';
import type { Verb } from './verb.ts';

export const write: Verb = {
  name: 'write',
  group: 'volumes',
  takes: '<name>',
  summary: 'Write standard input onto a volume; the changes are tracked',
  details:
    'The way to write while a pair is joined or parted, so that the next copy is differential.',
  arguments: { name: 'A volume name or image; it must be started' },
  options: { offset: { value: 'SIZE', describe: 'Where to begin (default 0)' } },
  examples: [
    ['kage write vm < new.img', 'from the beginning'],
    ['kage write vm --offset 1M < part.bin', 'in the middle'],
  ],
  completes: [['volume'], []],

  async run(args, session) {
    const ref = textOf(args, 'name')!;
    const offset = sizeOf(args, 'offset', 0) ?? 0;
    if (session.env.stdinIsTTY) {
      throw new KageError(
        'usage',
        'write takes its data from standard input: kage write NAME < FILE',
      );
    }
    const input = readable(session.env.readStdin(), session);
    const className = await session.classOf([ref]);
    const { dryRun } = session;
    const done = await session.withClass(className, async (diskClass) => {
      const { volumes } = await diskClass.info();
      const volume = await session.volumeOf(volumes, ref, className);
      const length = dryRun ? 0 : await writeAll(diskClass, volume.name, offset, input, session);
      return { volume: volume.name, length };
    });
    const at = `at offset ${offset}`;
    await session.printer.result(
      { verb: 'write', class: className, dryRun, volume: done.volume, offset, length: done.length },
      [
        dryRun
          ? `${done.volume}: standard input would be written ${at}`
          : `${done.volume}: ${formatSize(done.length)} written ${at}`,
      ],
    );
    return undefined;
  },
};

/** The same input; an error of the system while reading it becomes one for people. */
async function* readable(input: AsyncIterable<Uint8Array>, session: Session) {
  try {
    yield* input;
  } catch (error) {
    throw session.env.signal.aborted ? error : ioError('reading', 'standard input', error);
  }
}

/** Writes all of the input and makes it durable; gives its length. */
async function writeAll(
  diskClass: DiskClass,
  name: string,
  start: number,
  input: AsyncIterable<Uint8Array>,
  session: Session,
) {
  let offset = start;
  try {
    for await (const piece of pieces(input)) {
      session.env.signal.throwIfAborted();
      await diskClass.write(name, offset, piece);
      offset += piece.length;
    }
  } catch (error) {
    if (offset > start) {
      await diskClass.flush(name).catch(() => {});
      await session.printer.warn(`${name}: ${formatSize(offset - start)} were written before this`);
    }
    throw error;
  }
  await diskClass.flush(name);
  return offset - start;
}

/** The same bytes in pieces of `CHUNK_SIZE`, the last one shorter. */
export async function* pieces(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let piece = new Uint8Array(CHUNK_SIZE);
  let filled = 0;
  for await (const data of input) {
    for (let at = 0; at < data.length; ) {
      const part = data.subarray(at, at + CHUNK_SIZE - filled);
      piece.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < CHUNK_SIZE) continue;
      yield piece;
      piece = new Uint8Array(CHUNK_SIZE);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}
