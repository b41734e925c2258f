/** Disks and volumes of a class: add, make, cut, forget, start and stop. */

import { KageError } from '../base/errors.ts';
import { reach } from '../base/faults.ts';
import { BLOCK_SIZE, IMAGE_SIZE_MAX, SINGLE_DISK_NAME_LENGTH_MAX } from '../base/limits.ts';
import { formatSize } from '../base/units.ts';
import { freeName, nameFromPath, validateName } from '../catalog/names.ts';
import type { ClassRecord, DiskRecord, VolumeRecord } from '../catalog/records.ts';
import type { ImageFacts } from '../device/host.ts';
import { isNbdUri } from '../nbd/uri.ts';
import type { AddRequest, RunOptions, StartOptions } from './api.ts';
import { examineImage } from './examine.ts';
import type { State } from './state.ts';

/** Finds the class and volume that an image belongs to, over all classes of the home. */
export type Owner = (
  facts: Pick<ImageFacts, 'path' | 'identity'>,
  options?: { except?: string },
) => Promise<{ class: string; volume: string } | undefined>;

/** True for a reference that is a path, not a name. */
export function isPath(ref: string): boolean {
  return ref.includes('/') || ref.includes('.');
}

/** The volume of a name, or of the image at a path; throws `no-such-object`. */
export async function findVolume(state: State, ref: string): Promise<VolumeRecord> {
  if (!isPath(ref)) return state.volume(ref);
  const volume = await volumeOfPath(state, ref);
  if (volume) return volume;
  if ((await state.host.inspect(ref)) === undefined) {
    throw new KageError('image-missing', `${ref}: no such file`, { data: { path: ref } });
  }
  throw new KageError(
    'no-such-object',
    `${ref}: this image is no volume of class ${state.record.class}`,
    {
      hint: `add it: kage add ${ref}`,
      data: { path: ref },
    },
  );
}

/** The one volume of the image at a path, if the class has it. */
export async function volumeOfPath(state: State, path: string): Promise<VolumeRecord | undefined> {
  const resolved = await state.host.resolve(path);
  const disk =
    state.record.disks.find((d) => d.path === resolved) ?? (await diskOfSameFile(state, path));
  if (!disk) return undefined;
  const volumes = state.record.volumes.filter((v) => v.disk === disk.name);
  if (volumes.length === 1) return volumes[0];
  throw new KageError('usage', `${path}: carries ${volumes.length} volumes; name one of them`, {
    data: { path },
  });
}

async function diskOfSameFile(state: State, path: string): Promise<DiskRecord | undefined> {
  const facts = await state.host.inspect(path);
  if (facts === undefined) return undefined;
  for (const disk of state.record.disks) {
    const other = await state.host.inspect(disk.path).catch(() => undefined);
    if (other?.identity === facts.identity) return disk;
  }
  return undefined;
}

function takenNames(state: State): Set<string> {
  return new Set([
    ...state.record.disks.map((d) => d.name),
    ...state.record.volumes.map((v) => v.name),
  ]);
}

function requireFree(state: State, kind: string, name: string): void {
  if (!takenNames(state).has(name)) return;
  throw new KageError(
    'not-permitted',
    `${kind} '${name}': the name is taken in class ${state.record.class}`,
    {
      data: { name },
    },
  );
}

async function requireUnowned(
  facts: Pick<ImageFacts, 'path' | 'identity'>,
  path: string,
  owner: Owner,
): Promise<void> {
  const found = await owner(facts);
  if (found) throw imageTaken(path, found);
}

function imageTaken(path: string, by: { class: string; volume: string }): KageError {
  const text = `${path}: is volume ${by.volume} of class ${by.class} already`;
  return new KageError('image-taken', text, {
    hint: `use that one (-c ${by.class}), or take it out with \`kage remove\``,
    data: { path, class: by.class, volume: by.volume },
  });
}

/** One image to be registered as a keep disk with one volume. */
export type Draft = { disk: DiskRecord; volume: Omit<VolumeRecord, 'id'> };

/** Checks everything about the requests; changes nothing. */
export async function draftImages(
  state: State,
  requests: readonly AddRequest[],
  owner: Owner,
): Promise<Draft[]> {
  const drafts: Draft[] = [];
  const taken = takenNames(state);
  const seen = new Map<string, string>();
  for (const request of requests) {
    const facts = await examineImage(state.host, request.path);
    const twin = seen.get(facts.identity);
    if (twin !== undefined) {
      throw new KageError('same-file', `${twin} and ${request.path} are the same file`);
    }
    seen.set(facts.identity, request.path);
    await requireUnowned(facts, request.path, owner);
    if (request.name !== undefined) {
      validateName('volume', request.name);
      if (taken.has(request.name)) requireFree(state, 'volume', request.name);
      if (drafts.some((d) => d.volume.name === request.name)) {
        throw new KageError('usage', `the name '${request.name}' is given twice`);
      }
    }
    const name = request.name ?? freeName(nameFromPath(facts.path), taken);
    drafts.push(draft(name, facts.path, facts.size, taken, request.exclusive ?? false));
  }
  return drafts;
}

function draft(
  name: string,
  path: string,
  size: number,
  taken: Set<string>,
  exclusive: boolean,
  creating = false,
): Draft {
  taken.add(name);
  const disk = freeName(
    `${name.slice(0, SINGLE_DISK_NAME_LENGTH_MAX - 5)}-disk`,
    taken,
    SINGLE_DISK_NAME_LENGTH_MAX,
  );
  taken.add(disk);
  return {
    disk: { name: disk, type: 'keep', path, size, exclusive, creating, stamp: null },
    volume: {
      name,
      disk,
      offset: 0,
      size,
      started: true,
      readOnly: false,
      locked: false,
      invalid: null,
    },
  };
}

/** Puts drafts into the record; the volumes are started, as in the manual. */
export function enlist(next: ClassRecord, drafts: readonly Draft[]): void {
  for (const { disk, volume } of drafts) {
    next.disks.push({ ...disk });
    next.volumes.push({ id: next.nextId++, ...volume });
  }
}

/** Registers images as keep disks with one volume each. */
export async function addImages(
  state: State,
  requests: readonly AddRequest[],
  owner: Owner,
  options: RunOptions = {},
): Promise<readonly Draft[]> {
  const drafts = await draftImages(state, requests, owner);
  if (!options.dryRun) {
    for (const { disk } of drafts) {
      state.seen.set(disk.name, (disk.stamp = await state.host.stamp(disk.path, !disk.exclusive)));
    }
    await state.commit((next) => enlist(next, drafts));
    await requireStillUnowned(state, drafts, owner);
  }
  return drafts;
}

/** Two classes may have added one image at the same moment: each looks again, and steps back. */
async function requireStillUnowned(
  state: State,
  drafts: readonly Draft[],
  owner: Owner,
): Promise<void> {
  for (const { disk } of drafts) {
    const facts = await state.host.inspect(disk.path);
    const found = facts && (await owner(facts, { except: state.record.class }));
    if (!found) continue;
    const mine = new Set(drafts.map((d) => d.disk.name));
    await state.commit((next) => {
      next.disks = next.disks.filter((d) => !mine.has(d.name));
      next.volumes = next.volumes.filter((v) => !mine.has(v.disk));
    });
    throw imageTaken(disk.path, found);
  }
}

/** Throws unless a new image can be made at the path. Returns its absolute form. */
export async function requirePlace(state: State, path: string, owner: Owner): Promise<string> {
  const resolved = await state.host.resolve(path);
  await requireUnowned({ path: resolved, identity: '' }, path, owner);
  if ((await state.host.inspect(resolved)) !== undefined) {
    throw new KageError('image-exists', `${path}: a file is there already`, {
      hint: `add it with: kage add ${path}`,
      data: { path },
    });
  }
  await state.host.checkPlace(resolved);
  return resolved;
}

/** Makes a sparse image and its volume: recorded first, then made, then known as made. */
export async function createImage(
  state: State,
  path: string,
  size: number,
  name: string | undefined,
  owner: Owner,
  options: RunOptions = {},
): Promise<Draft> {
  const resolved = await requirePlace(state, path, owner);
  if (!Number.isSafeInteger(size) || size < 1 || size > IMAGE_SIZE_MAX) {
    throw new KageError(
      'usage',
      `size ${size}: at least 1 byte, at most ${formatSize(IMAGE_SIZE_MAX)}`,
    );
  }
  if (name !== undefined) {
    validateName('volume', name);
    requireFree(state, 'volume', name);
  }
  const taken = takenNames(state);
  const made = draft(
    name ?? freeName(nameFromPath(resolved), taken),
    resolved,
    size,
    taken,
    false,
    true,
  );
  if (options.dryRun) return made;
  await state.commit((next) => enlist(next, [made]));
  reach('image:recorded');
  try {
    await state.host.createImage(resolved, size);
  } catch (error) {
    await state.commit((next) => {
      next.disks = next.disks.filter((d) => d.name !== made.disk.name);
      next.volumes = next.volumes.filter((v) => v.disk !== made.disk.name);
    });
    throw error;
  }
  reach('image:created');
  const stamp = await state.host.stamp(resolved, false);
  state.seen.set(made.disk.name, stamp);
  state.noteWrite(made.disk.name);
  await state.commit((next) => {
    const disk = next.disks.find((d) => d.name === made.disk.name)!;
    disk.creating = false;
    disk.stamp = stamp;
  });
  return made;
}

/** Forgets unrelated volumes; a keep disk goes with its volume. Images are never touched. */
export async function removeVolumes(
  state: State,
  volumes: readonly VolumeRecord[],
  options: RunOptions = {},
): Promise<void> {
  for (const volume of volumes) {
    const [pair] = state.pairsOf(volume);
    if (!pair) continue;
    const role = pair.master === volume.id ? 'the master' : 'a proxy';
    throw new KageError('wrong-state', `${volume.name}: is ${role} of a pair`, {
      hint: `end that first: kage break ${state.volumeById(pair.proxy).name}`,
      data: { volume: volume.name },
    });
  }
  for (const volume of volumes) state.requireUnused(volume);
  if (options.dryRun) return;
  const gone = new Set(volumes.map((v) => v.id));
  const keeps = new Set(volumes.filter((v) => state.diskOf(v).type === 'keep').map((v) => v.disk));
  for (const disk of keeps) await state.closeDevices(disk);
  await state.commit((next) => {
    next.volumes = next.volumes.filter((v) => !gone.has(v.id));
    next.disks = next.disks.filter((d) => !keeps.has(d.name));
  });
}

export async function addDisk(
  state: State,
  path: string,
  name: string,
  type: DiskRecord['type'],
  owner: Owner,
  options: RunOptions = {},
): Promise<void> {
  validateName('disk', name, type === 'single' ? SINGLE_DISK_NAME_LENGTH_MAX : undefined);
  requireFree(state, 'disk', name);
  const facts = await examineImage(state.host, path);
  await requireUnowned(facts, path, owner);
  if (options.dryRun) return;
  const stamp = await state.host.stamp(facts.path, true);
  state.seen.set(name, stamp);
  await state.commit((next) =>
    next.disks.push({
      name,
      type,
      path: facts.path,
      size: facts.size,
      exclusive: false,
      creating: false,
      stamp,
    }),
  );
}

export async function removeDisk(
  state: State,
  name: string,
  options: RunOptions = {},
): Promise<void> {
  const disk = state.disk(name);
  const volume = state.record.volumes.find((v) => v.disk === name);
  if (volume) {
    throw new KageError('not-permitted', `disk ${name}: carries volume ${volume.name}`, {
      hint: 'remove its volumes first',
      data: { disk: name },
    });
  }
  if (options.dryRun) return;
  await state.closeDevices(disk.name);
  await state.commit((next) => {
    next.disks = next.disks.filter((d) => d.name !== name);
  });
}

/** Byte ranges of a disk that no volume takes, in order. */
export function freeRanges(
  disk: DiskRecord,
  volumes: readonly VolumeRecord[],
): { offset: number; length: number }[] {
  const ranges = [];
  let at = 0;
  const own = volumes.filter((v) => v.disk === disk.name).sort((a, b) => a.offset - b.offset);
  for (const volume of own) {
    if (volume.offset > at) ranges.push({ offset: at, length: volume.offset - at });
    at = volume.offset + Math.ceil(volume.size / BLOCK_SIZE) * BLOCK_SIZE;
  }
  if (at < disk.size) ranges.push({ offset: at, length: disk.size - at });
  return ranges;
}

export async function addVolume(
  state: State,
  diskName: string,
  name: string,
  size: number,
  options: RunOptions = {},
): Promise<void> {
  const disk = state.disk(diskName);
  validateName('volume', name);
  requireFree(state, 'volume', name);
  if (!Number.isSafeInteger(size) || size < 1) {
    throw new KageError('usage', `size ${size}: at least 1 byte`);
  }
  if (disk.type === 'undef') {
    throw new KageError('not-permitted', `disk ${diskName}: is undefined and carries no volumes`, {
      hint: 'register it as single or keep',
    });
  }
  const ranges = freeRanges(disk, state.record.volumes);
  if (disk.type === 'keep' && size !== disk.size) {
    throw new KageError(
      'size-differs',
      `disk ${diskName}: a keep disk is one volume of ${disk.size / BLOCK_SIZE} blocks`,
      {
        data: { disk: diskName, blocks: disk.size / BLOCK_SIZE },
      },
    );
  }
  const range = ranges.find((r) => r.length >= size);
  if (!range) {
    const largest = Math.max(0, ...ranges.map((r) => r.length));
    throw new KageError(
      'not-permitted',
      `disk ${diskName}: no free range of ${formatSize(size)}; the largest has ${formatSize(largest)}`,
      {
        data: { disk: diskName, largest },
      },
    );
  }
  if (options.dryRun) return;
  await state.commit((next) =>
    next.volumes.push({
      id: next.nextId++,
      name,
      disk: diskName,
      offset: range.offset,
      size,
      started: true,
      readOnly: false,
      locked: false,
      invalid: null,
    }),
  );
}

/** Why a volume is not a whole one now: it is the target of a copy that has not ended. */
export function halfMade(state: State, volume: VolumeRecord): string | null {
  for (const record of state.pairsOf(volume)) {
    const isTarget = (record.direction === 'toProxy' ? record.proxy : record.master) === volume.id;
    if (!isTarget || record.copy?.instant) continue;
    if (state.pair(record).maps.pending.isEmpty()) continue;
    return 'the copy to it is unfinished';
  }
  return null;
}

/** Throws unless the volume can be given to somebody to read and write. */
export function requireWhole(state: State, volume: VolumeRecord): void {
  const { name } = volume;
  if (volume.invalid !== null) {
    throw new KageError('wrong-state', `${name}: is INVALID: ${volume.invalid.reason}`, {
      hint: 'copy to it again, or `kage fix` it if you know its data to be good',
      data: { volume: name },
    });
  }
  const pair = state.pairOfProxy(volume);
  if (pair?.joined) {
    throw new KageError('wrong-state', `${name}: is a joined proxy and follows its master`, {
      hint: `part it first: kage part ${name}`,
      data: { volume: name },
    });
  }
  const half = halfMade(state, volume);
  if (half !== null) {
    throw new KageError('wrong-state', `${name}: ${half}`, {
      hint: 'run the verb that copies to it again',
      data: { volume: name },
    });
  }
}

/** Starts volumes in one access mode, whichever they had. */
export async function startVolumes(
  state: State,
  volumes: readonly VolumeRecord[],
  { unlock = false, readOnly = false }: StartOptions,
): Promise<void> {
  for (const volume of volumes) {
    requireWhole(state, volume);
    await requireThere(state, volume);
    // Whoever uses it was told what it may do.
    if (volume.readOnly !== readOnly) state.requireUnused(volume);
    if (!volume.locked || unlock) continue;
    throw new KageError('wrong-state', `${volume.name}: is locked and stays stopped`, {
      hint: `kage unlock ${volume.name}`,
      data: { volume: volume.name },
    });
  }
  await setFlag(state, volumes, (volume) => {
    volume.started = true;
    volume.readOnly = readOnly;
  });
}

/** An image that was removed while the class is open. Whether a remote one answers shows when it is used. */
async function requireThere(state: State, volume: VolumeRecord): Promise<void> {
  const { path } = state.diskOf(volume);
  if (isNbdUri(path) || (await state.host.inspect(path)) !== undefined) return;
  throw new KageError('image-missing', `${volume.name}: ${path}: no such file`, {
    hint: 'bring the image back, or forget the volume: kage remove',
    data: { path, volume: volume.name },
  });
}

/** `force`: whoever uses them is refused from then on. */
export async function stopVolumes(
  state: State,
  volumes: readonly VolumeRecord[],
  { force = false }: { force?: boolean },
): Promise<void> {
  if (!force) for (const volume of volumes) state.requireUnused(volume);
  await setFlag(state, volumes, (volume) => {
    volume.started = false;
  });
}

/** What a client gets who wants to write to a volume that is read-only. */
export function startedReadOnly(name: string): KageError {
  return new KageError('not-permitted', `${name}: is started read-only`, {
    hint: `to write to it start it anew: kage start ${name}`,
    data: { volume: name },
  });
}

export async function setFlag(
  state: State,
  volumes: readonly VolumeRecord[],
  change: (volume: VolumeRecord) => void,
): Promise<void> {
  const ids = new Set(volumes.map((v) => v.id));
  await state.commit((next) => {
    for (const volume of next.volumes) if (ids.has(volume.id)) change(volume);
  });
}

export async function fixVolume(state: State, volume: VolumeRecord): Promise<void> {
  if (volume.invalid === null) {
    throw new KageError('wrong-state', `${volume.name}: is not INVALID`, {
      data: { volume: volume.name },
    });
  }
  const half = halfMade(state, volume);
  if (half !== null) {
    throw new KageError('wrong-state', `${volume.name}: ${half}`, {
      hint: 'finish it, or end it with `kage cancel` or `kage break` first',
      data: { volume: volume.name },
    });
  }
  await setFlag(state, [volume], (v) => {
    v.invalid = null;
  });
}
