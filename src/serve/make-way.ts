/**
 * What a call needs before the engine gets it, and what is due after it: device files of volumes that it
 * wants unused are taken away, and the clients of a volume that was stopped by force are cut off.
 */

import { KageError } from '../base/errors.ts';
import type { Request } from '../control/protocol.ts';
import type { ClassInfo, DiskClass, PairInfo } from '../engine/api.ts';
import type { NbdServer } from '../nbd/server.ts';
import { VERBS, type Verb } from '../proxy/states.ts';
import type { Devices } from './devices.ts';

export type Call = Extract<Request, { class: string }>;

/** What clients had asked for gets so long to be carried out when they are cut off, ms. */
const CUT_MS = 10_000;

export type WayOptions = {
  readonly devices?: Devices | undefined;
  readonly nbd?: NbdServer;
  /** A path, absolute, without links. */
  readonly resolve: (path: string) => Promise<string>;
};

/**
 * Gives what is to be called after the call, whether it went well or not. Throws `wrong-state` when
 * somebody has a device open that is in its way.
 */
export async function makeWay(
  diskClass: DiskClass,
  call: Call,
  { devices, nbd, resolve }: WayOptions,
): Promise<() => Promise<void>> {
  const after = isForced(call) ? () => cutStopped(diskClass, nbd) : async () => {};
  if (devices === undefined) return after;
  const paths = await Promise.all(pathsOf(call).map(async (p) => [p, await resolve(p)] as const));
  for (const [path, resolved] of paths) if (await devices.holds(resolved)) throw ownDevice(path);
  const names = unusedFor(call, await diskClass.info(), new Map(paths));
  if (names.length === 0 || isForced(call)) return after;
  return await devices.hold(diskClass.name, names);
}

/** Our own device as an image would wait for ourselves. */
function ownDevice(path: string): KageError {
  return new KageError('not-permitted', `${path}: is a device of this server, and no image`, {
    hint: 'name the volume instead',
    data: { path },
  });
}

function isForced({ method, args }: Call): boolean {
  return method === 'stop' && (args[1] as { force?: boolean } | null | undefined)?.force === true;
}

async function cutStopped(diskClass: DiskClass, nbd: NbdServer | undefined): Promise<void> {
  const { volumes } = await diskClass.info();
  const stopped = volumes.filter(({ status }) => status === 'STOP');
  await Promise.all(stopped.map(({ name }) => nbd?.cut(`${diskClass.name}/${name}`, CUT_MS)));
}

/** All arguments that are paths: of images and of volumes. */
function pathsOf({ args }: Call): string[] {
  const words = args.flat().map((word) => (word as { path?: unknown } | null)?.path ?? word);
  return words.filter((word): word is string => typeof word === 'string' && word.startsWith('/'));
}

/** Volumes that the engine refuses the call for while they are used; those that are started. */
export function unusedFor(
  { method, args }: Call,
  info: ClassInfo,
  resolved: ReadonlyMap<string, string>,
): string[] {
  const nameOf = (ref: string) =>
    info.volumes.find((v) => v.name === ref || v.path === resolved.get(ref))?.name ?? ref;
  const refs = (at: number) => [args[at]].flat().filter((ref) => typeof ref === 'string');
  const first = refs(0).map(nameOf);
  const needed = new Set<string>();
  if (method === 'stop' || method === 'remove') for (const name of first) needed.add(name);
  // Another access mode: the device is made anew with it.
  const { readOnly = false } = (args[1] ?? {}) as { readOnly?: boolean };
  const isOther = (name: string) =>
    info.volumes.some((v) => v.name === name && v.readOnly !== readOnly);
  if (method === 'start') for (const name of first.filter(isOther)) needed.add(name);
  if (method === 'join') for (const name of refs(1).map(nameOf)) needed.add(name);
  const verb = verbOf(method, args[1]);
  const isLive = (args[1] as { live?: boolean } | null | undefined)?.live === true;
  for (const pair of verb === undefined ? [] : info.pairs.filter((p) => first.includes(p.proxy))) {
    const row = VERBS[verb!];
    for (const side of row.stopped) if (side === 'proxy' || !isLive) needed.add(pair[side]);
    if (row.abandons && pair.pendingRegions > 0) needed.add(targetOf(pair));
  }
  return info.volumes.filter((v) => v.status === 'ACTIVE' && needed.has(v.name)).map((v) => v.name);
}

/** Verbs whose first argument are proxies. */
function verbOf(method: Call['method'], options: unknown): Verb | undefined {
  if (method === 'restore') {
    return (options as { keep?: boolean } | null)?.keep ? 'restoreKeep' : 'restore';
  }
  return method !== 'join' && Object.hasOwn(VERBS, method) ? (method as Verb) : undefined;
}

function targetOf(pair: PairInfo): string {
  return pair.direction === 'toProxy' ? pair.proxy : pair.master;
}
