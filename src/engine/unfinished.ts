/**
 * The name of an image while a copy makes it: beside the final one, which it gets by a rename once
 * everything is copied and synced. A copy that does not come to its end leaves nothing that looks
 * whole; the next one to the same target removes what is left. Each name holds the process and a
 * random number: two copies never share one, so none can pass off the other's bytes as its own.
 */

import { KageError } from '../base/errors.ts';
import type { Host, ImageFacts } from '../device/host.ts';
import { sameStorage } from './examine.ts';

const SUFFIX = /^\.kage-(\d+)-[0-9a-f]{16}\.part$/;

/** A fresh name for the image that will be `path`. */
export function unfinishedName(host: Host, path: string): string {
  return `${path}.kage-${host.self().pid}-${host.randomId()}.part`;
}

/**
 * Files that earlier copies to `path` (canonical) left behind. The source of this copy and images
 * of a class (`isOwned`) are not among them, whatever they are called. Throws `in-use` when one of
 * these copies still runs.
 */
export async function leftoversOf(
  host: Host,
  path: string,
  source: ImageFacts,
  isOwned: (path: string) => Promise<boolean>,
): Promise<string[]> {
  const left: string[] = [];
  for (const name of await host.namesFrom(path)) {
    const pid = SUFFIX.exec(name.slice(path.length))?.[1];
    if (pid === undefined) continue;
    const facts = await host.inspect(name);
    // A link under such a name was made by somebody else.
    if (facts?.kind !== 'file' || facts.path !== name || sameStorage(facts, source)) continue;
    if (await isOwned(name)) continue;
    if (host.hasOpen(Number(pid), name)) {
      throw new KageError('in-use', `${path}: process ${pid} is copying to it`, {
        hint: 'wait until it has ended, or ask it to stop',
        data: { path, pid: Number(pid) },
      });
    }
    left.push(name);
  }
  return left;
}

/** The error of a copy that did not come to its end, with the file that it leaves. */
export function leaving(error: unknown, unfinished: string): unknown {
  if (!(error instanceof KageError)) return error;
  const { code, message, data } = error;
  const advice = code === 'interrupted' ? 'run the same command again to start over' : error.hint;
  const left = `the unfinished copy is ${unfinished}; the next one removes it`;
  return new KageError(code, message, {
    hint: advice === undefined ? left : `${advice}; ${left}`,
    data: { ...data, unfinished },
    cause: error,
  });
}
