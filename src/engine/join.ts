/** Join and relate: the two verbs that make a pair. */

import { KageError } from '../base/errors.ts';
import {
  PROXIES_MAX,
  REGION_SIZE_DEFAULT,
  REGION_SIZE_MAX,
  REGION_SIZE_MIN,
} from '../base/limits.ts';
import { nameFromPath } from '../catalog/names.ts';
import { NEVER_SYNCHRONIZED, type PairRecord, type VolumeRecord } from '../catalog/records.ts';
import type { Link } from '../proxy/link.ts';
import { Pair } from '../proxy/pair.ts';
import { stateOf } from '../proxy/transitions.ts';
import type { CopyOptions, CopyReport, PairReport, VerbReport, VolumeRef } from './api.ts';
import { reportOf, runCopy } from './copying.ts';
import { examineImage, requireWritable, sameStorage } from './examine.ts';
import {
  addImages,
  createImage,
  draftImages,
  findVolume,
  isPath,
  type Owner,
  removeVolumes,
  requirePlace,
  volumeOfPath,
} from './members.ts';
import { type Plan, requireDifferential, when } from './plan.ts';
import type { State } from './state.ts';
import type { VerbOptions } from './verb-guards.ts';
import { type Begun, beginVerb } from './verbs.ts';

type JoinOptions = CopyOptions & { regionSize?: number; strictStop?: boolean };

/** A side as the user named it: a volume, an image to add, or one to make. */
type Side =
  | { kind: 'volume'; volume: VolumeRecord }
  | { kind: 'add'; path: string; size: number; name: string }
  | { kind: 'make'; path: string; size: number; name: string };

export async function joinPair(
  state: State,
  link: Link,
  masterRef: VolumeRef,
  proxyRef: VolumeRef,
  owner: Owner,
  options: JoinOptions,
): Promise<Begun> {
  const { master, proxy, again } = await sides(state, masterRef, proxyRef, owner);
  if (again) return await joinAgain(state, link, again, options);
  requireSource(state, master);
  const regionSize = regionSizeFor(state, master, options.regionSize);
  if (proxy.kind === 'volume') {
    requireStopped(state, proxy.volume, options);
    state.requireUnused(proxy.volume);
    await state.requireWritable(proxy.volume);
  }
  const notes: string[] = [];
  if (proxy.kind === 'make') {
    notes.push(`${options.dryRun ? 'would make' : 'made'} the image ${proxy.path}`);
  }
  const size = sizeOf(master);
  const fresh = proxy.kind === 'make';
  const plan = firstPlan(size, regionSize, fresh);
  const names = { master: nameOf(master), proxy: nameOf(proxy) };
  if (options.differentialOnly) requireDifferential(plan, `join ${names.master} / ${names.proxy}`);
  if (options.dryRun)
    return dry(report(state, { ...names, state: 'joined', copy: reportOf(plan), notes }, true));
  const { masterVolume, proxyVolume } = await enlistSides(state, master, proxy, owner);
  const id = await makePair(state, link, masterVolume, proxyVolume, regionSize, plan);
  let copy: CopyReport | undefined;
  return {
    copies: [id],
    async copy(signal) {
      const record = state.pairRecord(id);
      copy = await runCopy(state, link, record, plan, { ...options, signal, fresh });
    },
    report() {
      const own = state.record.pairs.find((p) => p.id === id);
      const pair = {
        master: masterVolume.name,
        proxy: proxyVolume.name,
        state: own ? stateOf(state.view(own)) : ('unrelated' as const),
        copy,
        notes,
      };
      return report(state, pair, false);
    },
  };
}

function dry(report: VerbReport): Begun {
  return { copies: [], copy: async () => {}, report: () => report };
}

export async function relatePair(
  state: State,
  link: Link,
  masterRef: VolumeRef,
  proxyRef: VolumeRef,
  owner: Owner,
  options: JoinOptions,
): Promise<VerbReport> {
  const { master, proxy, again } = await sides(state, masterRef, proxyRef, owner);
  if (again) {
    throw new KageError(
      'wrong-state',
      `relate ${nameOf(proxy)}: it is a proxy already, since ${when(again.since)}`,
    );
  }
  const regionSize = regionSizeFor(state, master, options.regionSize);
  const names = { master: nameOf(master), proxy: nameOf(proxy) };
  const notes = proxy.kind === 'make' ? [`made the image ${proxy.path}`] : [];
  if (options.dryRun)
    return report(state, { ...names, state: 'parted', notes: [] }, true, 'relate');
  const { masterVolume, proxyVolume } = await enlistSides(state, master, proxy, owner);
  await makePair(state, link, masterVolume, proxyVolume, regionSize, null);
  return report(
    state,
    { master: masterVolume.name, proxy: proxyVolume.name, state: 'parted', notes },
    false,
    'relate',
  );
}

function report(state: State, pair: PairReport, dryRun: boolean, verb = 'join'): VerbReport {
  return { verb, class: state.record.class, dryRun, pairs: [pair] };
}

function nameOf(side: Side): string {
  if (side.kind === 'volume') return side.volume.name;
  return side.name;
}

function sizeOf(side: Side): number {
  return side.kind === 'volume' ? side.volume.size : side.size;
}

/** Resolves and checks both sides; nothing is changed. `again`: the two are a pair already. */
async function sides(state: State, masterRef: string, proxyRef: string, owner: Owner) {
  const master = await sideOf(state, masterRef, owner);
  if (master.kind === 'volume') state.usable(master.volume);
  const proxy = await sideOf(state, proxyRef, owner, sizeOf(master));
  await requireTwoFiles(state, masterRef, proxyRef, master, proxy);
  if (proxy.kind === 'volume') state.usable(proxy.volume);
  if (sizeOf(master) !== sizeOf(proxy)) {
    const how = sizeOf(proxy) < sizeOf(master) ? 'smaller' : 'larger';
    throw new KageError(
      'size-differs',
      `${proxyRef}: has ${sizeOf(proxy)} bytes, ${how} than ${masterRef} with ${sizeOf(master)}`,
      {
        hint: 'master and proxy need the same size',
        data: { master: sizeOf(master), proxy: sizeOf(proxy) },
      },
    );
  }
  const again = requireUnrelated(state, master, proxy);
  return { master, proxy, again };
}

async function sideOf(state: State, ref: string, owner: Owner, sizeToMake?: number): Promise<Side> {
  if (!isPath(ref)) return { kind: 'volume', volume: await findVolume(state, ref) };
  const known = await volumeOfPath(state, ref);
  if (known) return { kind: 'volume', volume: known };
  if (sizeToMake !== undefined && (await state.host.inspect(ref)) === undefined) {
    const path = await requirePlace(state, ref, owner);
    return { kind: 'make', path, size: sizeToMake, name: nameFromPath(path) };
  }
  const facts = await examineImage(state.host, ref);
  if (sizeToMake !== undefined) requireWritable(facts, ref);
  const [draft] = await draftImages(state, [{ path: ref }], owner);
  return { kind: 'add', path: ref, size: facts.size, name: draft.volume.name };
}

async function requireTwoFiles(
  state: State,
  masterRef: string,
  proxyRef: string,
  master: Side,
  proxy: Side,
): Promise<void> {
  const pathOf = (side: Side) =>
    side.kind === 'volume' ? state.diskOf(side.volume).path : side.path;
  const a = await state.host.inspect(pathOf(master));
  const b = await state.host.inspect(pathOf(proxy));
  const resolved =
    (await state.host.resolve(pathOf(master))) === (await state.host.resolve(pathOf(proxy)));
  if (!resolved && (a === undefined || b === undefined || !sameStorage(a, b))) return;
  const same =
    master.kind === 'volume' && proxy.kind === 'volume' && master.volume !== proxy.volume;
  throw new KageError(
    'same-file',
    same
      ? `${masterRef} and ${proxyRef} lie on the same disk`
      : `${masterRef} and ${proxyRef} are the same file`,
    { hint: 'master and proxy need images of their own' },
  );
}

/** Prerequisites of gds.md 1.3. Returns the pair if the two are one already. */
function requireUnrelated(state: State, master: Side, proxy: Side): PairRecord | undefined {
  const m = master.kind === 'volume' ? master.volume : undefined;
  const p = proxy.kind === 'volume' ? proxy.volume : undefined;
  const asProxy = p && state.pairOfProxy(p);
  if (asProxy && m && asProxy.master === m.id) return asProxy;
  const fail = (text: string, hint?: string) => {
    throw new KageError('wrong-state', text, { hint });
  };
  if (asProxy && p) {
    fail(
      `${p.name}: is the proxy of ${state.volumeById(asProxy.master).name} already`,
      `kage break ${p.name}`,
    );
  }
  if (p && state.pairsOf(p).length > 0)
    fail(`${p.name}: has proxies of its own, and proxies do not cascade`);
  if (m && state.pairOfProxy(m)) fail(`${m.name}: is a proxy itself, and proxies do not cascade`);
  if (m && state.pairsOf(m).length >= PROXIES_MAX)
    fail(`${m.name}: has ${PROXIES_MAX} proxies already`);
  return undefined;
}

/** Throws unless the first copy can be taken from this master. Relate copies nothing. */
function requireSource(state: State, master: Side): void {
  if (master.kind !== 'volume') return;
  const { name, invalid } = master.volume;
  if (invalid) {
    throw new KageError('wrong-state', `${name}: is INVALID: ${invalid.reason}`);
  }
  const restoring = state
    .pairsOf(master.volume)
    .some((r) => r.direction === 'toMaster' && !state.pair(r).maps.pending.isEmpty());
  if (!restoring) return;
  throw new KageError('wrong-state', `${name}: is being restored`, {
    hint: 'finish that with `kage restore`',
  });
}

function requireStopped(state: State, proxy: VolumeRecord, options: JoinOptions): void {
  if (!options.strictStop || !proxy.started) return;
  throw new KageError('wrong-state', `${proxy.name}: the volume is not stopped`, {
    hint: `sdxvolume -F -c ${state.record.class} -v ${proxy.name}`,
    data: { volume: proxy.name },
  });
}

/** Siblings share the region size, so that one write has one set of regions. */
function regionSizeFor(state: State, master: Side, asked: number | undefined): number {
  const [sibling] = master.kind === 'volume' ? state.pairsOf(master.volume) : [];
  const size = asked ?? sibling?.regionSize ?? REGION_SIZE_DEFAULT;
  const power = Number.isInteger(Math.log2(size));
  if (!power || size < REGION_SIZE_MIN || size > REGION_SIZE_MAX) {
    throw new KageError('usage', `region size ${size}: a power of two from 4 KiB to 4 MiB`);
  }
  if (sibling && sibling.regionSize !== size) {
    throw new KageError(
      'not-permitted',
      `region size ${size}: the other proxies of ${nameOf(master)} have ${sibling.regionSize}`,
    );
  }
  return size;
}

function firstPlan(size: number, regionSize: number, fresh: boolean): Plan {
  return {
    verb: 'join',
    direction: 'toProxy',
    method: fresh ? 'full' : 'compare',
    reason: fresh ? 'first copy, to a new image' : 'first copy, to an image that was there before',
    regions: Math.ceil(size / regionSize),
    bytes: size,
    all: true,
  };
}

/** Registers both sides as volumes. If the second one fails, the first is forgotten again. */
async function enlistSides(
  state: State,
  master: Side,
  proxy: Side,
  owner: Owner,
): Promise<{ masterVolume: VolumeRecord; proxyVolume: VolumeRecord }> {
  const masterVolume = await enlistSide(state, master, owner);
  try {
    return { masterVolume, proxyVolume: await enlistSide(state, proxy, owner) };
  } catch (error) {
    if (master.kind !== 'volume') await removeVolumes(state, [masterVolume]).catch(() => {});
    throw error;
  }
}

async function enlistSide(state: State, side: Side, owner: Owner): Promise<VolumeRecord> {
  if (side.kind === 'volume') return side.volume;
  const { volume } =
    side.kind === 'make'
      ? await createImage(state, side.path, side.size, undefined, owner)
      : (await addImages(state, [{ path: side.path }], owner))[0];
  return state.volume(volume.name);
}

/** One commit: the pair, its maps, the proxy stopped. `plan` null: related only. */
async function makePair(
  state: State,
  link: Link,
  master: VolumeRecord,
  proxy: VolumeRecord,
  regionSize: number,
  plan: Plan | null,
): Promise<number> {
  const now = state.host.now();
  const record: PairRecord = {
    id: state.record.nextId,
    master: master.id,
    proxy: proxy.id,
    regionSize,
    joined: plan !== null,
    direction: 'toProxy',
    maps: { changed: 0, pending: 0, increment: 0 },
    doubt: plan === null ? NEVER_SYNCHRONIZED : null,
    copy: plan === null ? null : { verb: 'join', method: plan.method, reason: plan.reason },
    proxyWritten: true,
    since: now,
    lastVerb: plan === null ? 'relate' : 'join',
    lastCopy: null,
  };
  const pair = Pair.fresh(record, master.size, state.kernel);
  (plan === null ? pair.maps.changed : pair.maps.pending).setAll();
  pair.maps.increment.setAll();
  state.pairs.set(record.id, pair);
  await state.log();
  const families = [master.id, proxy.id].sort((a, b) => a - b);
  await link.whilePaused(families, () =>
    state.commit((next) => {
      next.nextId++;
      next.pairs.push(record);
      const volume = next.volumes.find((v) => v.id === proxy.id)!;
      if (plan !== null) {
        volume.started = false;
        volume.invalid = null;
      }
    }),
  );
  return record.id;
}

/** Join of a pair that exists: goes on with its copy, or says that nothing is left to do. */
async function joinAgain(
  state: State,
  link: Link,
  record: PairRecord,
  options: JoinOptions,
): Promise<Begun> {
  const verbOptions: VerbOptions = options;
  return await beginVerb(state, link, 'join', [record], verbOptions);
}
