/** The image behind an argument of `diff` and `copy`: a path as it is, a volume by its class. */

import { KageError } from '../base/errors.ts';
import { DEFAULT_CLASS, isPath, type Session } from './session.ts';

export async function imageOf(ref: string, session: Session): Promise<string> {
  if (isPath(ref)) return ref;
  const name = session.givenClass ?? DEFAULT_CLASS;
  const { volumes, disks } = await readClass(name, ref, session);
  const volume = await session.volumeOf(volumes, ref, name);
  const disk = disks.find((d) => d.name === volume.disk);
  if (disk?.type === 'keep') return volume.path;
  throw new KageError('not-permitted', `${ref} is only a part of ${volume.path}`, {
    hint: 'for a pair, `kage verify` compares the two volumes',
    data: { volume: ref, class: name },
  });
}

/** In a folder without any class, a bare word most likely was meant as a file. */
async function readClass(name: string, ref: string, session: Session) {
  try {
    return await session.engine.readClass(name, session.engineOptions);
  } catch (error) {
    const absent = error instanceof KageError && error.code === 'no-such-object';
    if (!absent || session.givenClass !== undefined) throw error;
    throw new KageError('no-such-object', `no volume ${ref}: there is no class ${name}`, {
      hint: `for a file in this folder write ./${ref}`,
      data: { volume: ref, class: name },
      cause: error,
    });
  }
}
