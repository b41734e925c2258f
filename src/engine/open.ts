/** Opens classes: with the lock to change them, without it to look; finds images over all classes. */

import { KageError } from '../base/errors.ts';
import { nearest } from '../base/units.ts';
import { acquireLock, currentHolder, type Lock } from '../catalog/lock.ts';
import { validateName } from '../catalog/names.ts';
import { emptyClass } from '../catalog/records.ts';
import { loadRoots } from '../catalog/root.ts';
import type { Folder, Host, ImageFacts } from '../device/host.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { createKernel } from '../kernel/select.ts';
import type { ClassEvent, ClassInfo, OwnClass } from './api.ts';
import { OpenClass } from './disk-class.ts';
import { describeClass } from './info.ts';
import { thisMachine } from './machine.ts';
import type { Owner } from './members.ts';
import { loadPairs, recover } from './recover.ts';
import { isRemoved, loadLiving } from './removal.ts';
import { State, type Tuning } from './state.ts';
import { applyVerdict, lookAtImages } from './trust.ts';

/** Looks of `readClass` at a class that changes under its eyes. */
const LOOKS_MAX = 20;

export type EngineOptions = {
  /** State folder. */
  readonly home: string;
  /** `js`: the plain twin instead of the WebAssembly kernel. */
  readonly kernel?: 'wasm' | 'js';
  /** What others see as the holder of the lock. */
  readonly command?: string;
  /** Another world than this machine's (tests, simulation). */
  readonly host?: Host;
  readonly tuning?: Tuning;
};

/**
 * Opens a class under its lock. `create`: a class that does not exist begins empty; without it
 * that is `no-such-object`. `live`: volumes can be attached, copies run beside other calls. Throws
 * `in-use`, `catalog-damaged`, `catalog-newer`.
 */
export async function openClass(
  name: string,
  options: EngineOptions & {
    create?: boolean;
    live?: boolean;
    /** Told of what happens beside the answers to calls. Must not throw. */
    onEvent?: (event: ClassEvent) => void;
  },
): Promise<OwnClass> {
  const { host, kernel, folder } = await places(name, options);
  const existed = (await folder.list()).some((file) => /^root\.[01]$/.test(file));
  if (!existed && !options.create) throw await noSuchClass(name, options, host);
  await folder.create();
  const identity = { ...host.self(), command: options.command ?? 'library' };
  const lastEpoch = async () => (await loadRoots(folder, kernel)).record?.epoch ?? 0;
  let lock: Lock;
  try {
    lock = await acquireLock(folder, host, identity, lastEpoch);
  } catch (error) {
    if (!existed) await folder.removeSelf();
    throw error;
  }
  const state = await openState(name, { host, kernel, folder, lock }, options);
  if (options.onEvent !== undefined) state.tell = options.onEvent;
  const owner: Owner = (facts, rule) => ownerOf(facts, options, host, kernel, rule?.except);
  const opened = new OpenClass(state, owner, { heartbeat: host.threads });
  if (options.live) await opened.goLive(lock.epoch);
  return opened;
}

async function openState(
  name: string,
  parts: { host: Host; kernel: Kernel; folder: Folder; lock: Lock },
  options: EngineOptions & { create?: boolean },
): Promise<State> {
  const { folder, kernel, lock } = parts;
  let state: State | undefined;
  try {
    const { record, closed } = await loadLiving(folder, kernel);
    if (closed !== null) throw closedClass(name, folder, closed);
    state = new State({ ...parts, record: record ?? emptyClass(name), tuning: options.tuning });
    // Removed by a command that was killed, or since we looked.
    if (record === undefined && !options.create) {
      throw await noSuchClass(name, options, parts.host);
    }
    await loadPairs(state, false);
    await state.openLog(false);
    await lookAtImages(state);
    await recover(state);
    options.tuning?.watch?.(state);
    return state;
  } catch (error) {
    if (state) await state.dispose();
    else await lock.release();
    throw error;
  }
}

/** What a class looks like now, without its lock; a closed class too. */
export async function readClass(name: string, options: EngineOptions): Promise<ClassInfo> {
  const parts = await places(name, options);
  let before: ClassInfo | undefined;
  for (let look = 1; ; look++) {
    const info = await lookAtClass(name, parts, options);
    const wrong = info.closed !== null || info.pairs.some((p) => p.doubt !== null);
    // What looks wrong may only be a commit that came between our reads: it must stay so.
    const stays = before?.generation === info.generation && before.closed === info.closed;
    if (!wrong || stays || look === LOOKS_MAX) return info;
    before = info;
  }
}

async function lookAtClass(
  name: string,
  parts: { host: Host; kernel: Kernel; folder: Folder },
  options: EngineOptions,
): Promise<ClassInfo> {
  const { host, kernel, folder } = parts;
  const { record, closed } = await loadRoots(folder, kernel);
  if (record === undefined && closed !== null) throw closedClass(name, folder, closed);
  if (record === undefined || isRemoved(record)) throw await noSuchClass(name, options, host);
  const state = new State({ host, kernel, folder, record });
  try {
    await loadPairs(state, true);
    const holder = await currentHolder(folder);
    // While somebody has the class open, its writes are no strangers'.
    if (!holder) {
      await state.openLog(true);
      await lookAtImages(state);
    }
    return describeClass(state, closed, holder);
  } finally {
    await state.dispose();
  }
}

/** Names of all classes, sorted. */
export async function listClasses(options: EngineOptions): Promise<string[]> {
  const classes = classesFolder(options, options.host ?? thisMachine());
  const kernel = createKernel(options.kernel ?? 'wasm');
  const names = [];
  for (const name of await classes.list()) {
    const folder = classes.folder(name);
    const files = await folder.list();
    if (!files.some((file) => /^root\.[01]$/.test(file))) continue;
    // One that cannot be read is there all the same.
    const record = await loadRoots(folder, kernel).then(
      (loaded) => loaded.record,
      () => undefined,
    );
    if (!isRemoved(record)) names.push(name);
  }
  return names;
}

/** Which class holds the image at a path; undefined when none does. */
export async function findImage(
  path: string,
  options: EngineOptions,
): Promise<{ class: string; volume: string } | undefined> {
  const host = options.host ?? thisMachine();
  const resolved = await host.resolve(path);
  const facts = await host.inspect(resolved);
  const kernel = createKernel(options.kernel ?? 'wasm');
  return await ownerOf(facts ?? { path: resolved, identity: '' }, options, host, kernel);
}

/**
 * Reopens a class whose newest root is damaged from the older one: everything is in doubt, unfinished
 * snapshots are INVALID. Returns what was done, for people. Throws `wrong-state` when the class is
 * not closed, `catalog-damaged` when no root is left.
 */
export async function reopenCatalog(name: string, options: EngineOptions): Promise<string> {
  const { host, kernel, folder } = await places(name, options);
  const { record, closed } = await loadRoots(folder, kernel);
  if (closed === null || isRemoved(record)) {
    if (record === undefined || isRemoved(record)) throw await noSuchClass(name, options, host);
    throw new KageError('wrong-state', `class ${name}: is not closed`);
  }
  if (record === undefined) {
    throw new KageError('catalog-damaged', `class ${name}: no good root is left (${closed})`, {
      hint: `the images are as they were; remove ${folder.path} and add them anew`,
      data: { class: name },
    });
  }
  const identity = { ...host.self(), command: options.command ?? 'library' };
  const lock = await acquireLock(folder, host, identity, async () => record.epoch);
  const state = new State({ host, kernel, folder, record, lock });
  try {
    const { generation, written } = record;
    record.generation += 2; // Above whatever the damaged root had.
    for (const disk of record.disks) disk.stamp = null;
    await loadPairs(state, false);
    await lookAtImages(state);
    for (const pair of record.pairs) {
      pair.doubt ??= 'the catalog was damaged';
      // Also where the images are exclusive: it is our own word that is old.
      const moved = 'may have been written since that root';
      applyVerdict(state, pair, { master: moved, proxy: moved, unclean: false });
    }
    // Twice, so that both roots are good again.
    await state.commit(() => {});
    await state.commit(() => {});
    return `class ${name}: reopened from generation ${generation} of ${written}; the next copy of each pair compares`;
  } finally {
    await state.dispose();
  }
}

function classesFolder(options: EngineOptions, host: Host): Folder {
  return host.folder(options.home).folder('classes');
}

async function places(name: string, options: EngineOptions) {
  validateName('class', name);
  const host = options.host ?? thisMachine();
  const kernel = createKernel(options.kernel ?? 'wasm');
  return { host, kernel, folder: classesFolder(options, host).folder(name) };
}

function closedClass(name: string, folder: Folder, closed: string): KageError {
  return new KageError('catalog-damaged', `class ${name}: its catalog is damaged: ${closed}`, {
    hint: `look with \`kage info -c ${name}\`; to go on from the older root: kage fix --catalog -c ${name}`,
    data: { class: name, folder: folder.path },
  });
}

async function noSuchClass(name: string, options: EngineOptions, host: Host): Promise<KageError> {
  const names = await listClasses({ ...options, host });
  const near = nearest(name, names);
  return new KageError('no-such-object', `no class '${name}'`, {
    hint:
      near !== undefined
        ? `did you mean '${near}'?`
        : names.length > 0
          ? `classes: ${names.join(', ')}`
          : 'make one with `kage add IMAGE` or `kage join IMAGE PROXY`',
    data: { class: name },
  });
}

async function ownerOf(
  facts: Pick<ImageFacts, 'path' | 'identity'>,
  options: EngineOptions,
  host: Host,
  kernel: Kernel,
  except?: string,
): Promise<{ class: string; volume: string } | undefined> {
  const classes = classesFolder(options, host);
  for (const name of await classes.list()) {
    if (name === except) continue;
    const record = await loadRoots(classes.folder(name), kernel)
      .then((loaded) => loaded.record)
      .catch(() => undefined);
    for (const disk of record?.disks ?? []) {
      // An image that cannot be reached is found by its path alone.
      const there = await host.inspect(disk.path).catch(() => undefined);
      const same = disk.path === facts.path || there?.identity === facts.identity;
      if (!same || record === undefined) continue;
      const volume = record.volumes.find((v) => v.disk === disk.name);
      return { class: name, volume: volume?.name ?? disk.name };
    }
  }
  return undefined;
}
