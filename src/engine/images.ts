/** The tools that need no class: what differs between two images, and make one equal to the other. */

import { KageError } from '../base/errors.ts';
import { reach } from '../base/faults.ts';
import { REGION_SIZE_DEFAULT, REGION_SIZE_MAX, REGION_SIZE_MIN } from '../base/limits.ts';
import { RegionMap, type Run } from '../bitmap/region-map.ts';
import { type Crew, fileCrew, inlineCrew } from '../copy/crew.ts';
import { interrupted, runJob } from '../copy/job.ts';
import type { CopyMode } from '../copy/task.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Host, ImageFacts } from '../device/host.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { createKernel } from '../kernel/select.ts';
import type { CopyOptions, ImageReport, PairInfo, RunOptions } from './api.ts';
import { examineImage, requireWritable, sameStorage } from './examine.ts';
import { thisMachine } from './machine.ts';
import { type EngineOptions, findImage, readClass } from './open.ts';
import { writtenBetween } from './trust.ts';
import { leaving, leftoversOf, unfinishedName } from './unfinished.ts';

const RANGES_MAX = 1000;
const THREADS_FROM = 16 * 1024 * 1024;

type ToolOptions = EngineOptions &
  CopyOptions & {
    regionSize?: number;
    rangesMax?: number;
    /** Called when all checks have passed, before a target that exists is written. */
    onOverwrite?: () => void | Promise<void>;
  };

/** Reads both and reports the regions that differ. Sizes may differ only by an error. */
export async function diffImages(
  a: string,
  b: string,
  options: EngineOptions & RunOptions & { regionSize?: number; rangesMax?: number },
): Promise<ImageReport> {
  const host = options.host ?? thisMachine();
  const [source, target] = [await examineImage(host, a), await examineImage(host, b)];
  requireDistinct(a, b, source, target);
  return await run(host, source, target, 'diff', a, b, options, []);
}

/**
 * Makes the target equal to the source, writing only what differs. An absent target is made, and has
 * its name only when it is whole. Refuses a target that is in a class (`image-taken`) or that
 * another process is making (`in-use`).
 */
export async function copyImage(
  source: string,
  target: string,
  options: ToolOptions,
): Promise<ImageReport> {
  const host = options.host ?? thisMachine();
  const from = await examineImage(host, source);
  await requireWholeSource(source, options);
  const owner = await findImage(target, options);
  if (owner) {
    throw new KageError(
      'image-taken',
      `${target}: is volume ${owner.volume} of class ${owner.class}`,
      {
        hint: 'a plain copy onto it would bypass its records; use the verbs of its pair, or `kage write`',
        data: { path: target, class: owner.class },
      },
    );
  }
  const there = await host.inspect(target);
  if (there !== undefined) {
    const to = await examineImage(host, target);
    requireDistinct(source, target, from, to);
    requireWritable(to, target);
    return await run(host, from, to, 'compare', source, target, options, []);
  }
  const place = await host.resolve(target);
  await host.checkPlace(place);
  return await copyToNew(host, from, place, source, target, options);
}

/** The copy is made beside `place`, a free canonical path, and gets that name at its end. */
async function copyToNew(
  host: Host,
  from: ImageFacts,
  place: string,
  source: string,
  target: string,
  options: ToolOptions,
): Promise<ImageReport> {
  const isOwned = async (path: string) => (await findImage(path, options)) !== undefined;
  const leftovers = await leftoversOf(host, place, from, isOwned);
  const regionSize = regionSizeOf(options);
  if (options.dryRun) return emptyReport(source, target, from.size, regionSize, leftovers);
  const notes = [`made the image ${target}`];
  for (const name of leftovers) {
    await host.removeImage(name);
    notes.push(`removed ${name}, left by a copy that did not come to its end`);
  }
  const unfinished = unfinishedName(host, place);
  await host.createImage(unfinished, from.size);
  reach('image:created');
  try {
    const to = await examineImage(host, unfinished);
    const report = await run(host, from, to, 'fresh', source, target, options, notes);
    reach('image:whole');
    await host.renameImage(unfinished, place);
    return report;
  } catch (error) {
    const isLeft = (await host.inspect(unfinished)) !== undefined;
    throw isLeft ? leaving(error, unfinished) : error;
  }
}

/** A half-made copy is no snapshot: its image must not leave the class as if it were one. */
async function requireWholeSource(source: string, options: EngineOptions): Promise<void> {
  const owner = await findImage(source, options);
  if (!owner) return;
  const { disks, volumes, pairs } = await readClass(owner.class, options);
  const named = volumes.find((v) => v.name === owner.volume);
  const disk = named?.disk ?? disks.find((d) => d.name === owner.volume)?.name;
  for (const { name, problem } of volumes.filter((v) => v.disk === disk)) {
    const isTarget = (p: PairInfo) => (p.direction === 'toProxy' ? p.proxy : p.master) === name;
    const half = pairs.some((p) => p.pendingRegions > 0 && isTarget(p));
    if (problem === null && !half) continue;
    const why = problem ?? 'part of its content is still in the image it is copied from';
    throw new KageError(
      'wrong-state',
      `${source}: is volume ${name} of class ${owner.class}: ${why}`,
      {
        hint: 'finish the copy to it first; `kage info` shows which it is',
        data: { path: source, class: owner.class, volume: name },
      },
    );
  }
}

function requireDistinct(a: string, b: string, source: ImageFacts, target: ImageFacts): void {
  if (sameStorage(source, target)) {
    throw new KageError('same-file', `${a} and ${b} are the same file`);
  }
  if (source.size === target.size) return;
  throw new KageError('size-differs', `${a} has ${source.size} bytes, ${b} has ${target.size}`, {
    data: { source: source.size, target: target.size },
  });
}

function regionSizeOf(options: { regionSize?: number }): number {
  const size = options.regionSize ?? REGION_SIZE_DEFAULT;
  if (!Number.isInteger(Math.log2(size)) || size < REGION_SIZE_MIN || size > REGION_SIZE_MAX) {
    throw new KageError('usage', `region size ${size}: a power of two from 4 KiB to 4 MiB`);
  }
  return size;
}

function emptyReport(
  source: string,
  target: string,
  size: number,
  regionSize: number,
  leftovers: readonly string[],
): ImageReport {
  return {
    source,
    target,
    size,
    regionSize,
    regions: Math.ceil(size / regionSize),
    differing: 0,
    ranges: [],
    rangesLeftOut: 0,
    bytesRead: 0,
    bytesWritten: 0,
    seconds: 0,
    notes: [
      'nothing was done: --dry-run',
      ...leftovers.map((name) => `would remove ${name}, left by an earlier copy`),
    ],
  };
}

async function run(
  host: Host,
  from: ImageFacts,
  to: ImageFacts,
  wanted: CopyMode,
  source: string,
  target: string,
  options: ToolOptions,
  notes: string[],
): Promise<ImageReport> {
  const kernel = createKernel(options.kernel ?? 'wasm');
  const regionSize = regionSizeOf(options);
  const mode = options.dryRun ? 'diff' : wanted;
  const map = new RegionMap(kernel, Math.ceil(from.size / regionSize));
  map.setAll();
  const devices = {
    source: await host.openDevice(from.path, { readOnly: true }),
    target: await host.openDevice(to.path, { readOnly: mode === 'diff' }),
  };
  const crew = await crewFor(host, kernel, from, to, devices, mode, regionSize);
  const found = new RegionMap(kernel, map.regions);
  const before = await host.stamp(from.path, true);
  try {
    if (mode === 'compare') await options.onOverwrite?.();
    const result = await runJob({
      ...options,
      ...devices,
      crew,
      pending: map,
      regionSize,
      size: from.size,
      readOnly: mode === 'diff',
      onRegions: (runs) => mark(found, runs),
      onProgress: (p) =>
        options.onProgress?.({
          verb: wanted === 'diff' ? 'diff' : 'copy',
          master: source,
          proxy: target,
          direction: 'toProxy',
          method: mode === 'fresh' ? 'full' : 'compare',
          reason: mode === 'fresh' ? 'the target is new' : 'both are read, differences count',
          ...p,
        }),
      now: () => host.now(),
      sleep: (ms) => host.sleep(ms),
    });
    if (!result.complete) throw interrupted(`${source} / ${target}`);
    if (writtenBetween(before, await host.stamp(from.path, false)) !== null) {
      throw new KageError('written-during-copy', `${source} was written while it was read`, {
        hint: 'the result holds neither the old nor the new state; run it again',
      });
    }
    const ranges = rangesOf(found, regionSize, from.size);
    const most = options.rangesMax ?? RANGES_MAX;
    return {
      source,
      target,
      size: from.size,
      regionSize,
      regions: map.regions,
      differing: found.count(),
      ranges: ranges.slice(0, most),
      rangesLeftOut: Math.max(0, ranges.length - most),
      bytesRead: result.bytesRead,
      bytesWritten: result.bytesWritten,
      seconds: result.seconds,
      notes,
    };
  } finally {
    await crew.close();
    await devices.source.close();
    await devices.target.close();
  }
}

async function crewFor(
  host: Host,
  kernel: Kernel,
  from: ImageFacts,
  to: ImageFacts,
  devices: { source: BlockDevice; target: BlockDevice },
  mode: CopyMode,
  regionSize: number,
): Promise<Crew> {
  const files = from.kind !== 'remote' && to.kind !== 'remote';
  if (host.threads && files && from.size >= THREADS_FROM) {
    const spec = (facts: ImageFacts) => ({
      path: facts.path,
      offset: 0,
      size: facts.size,
      identity: facts.identity,
    });
    const order = { source: spec(from), target: spec(to), mode, regionSize };
    return fileCrew(kernel, devices.source, devices.target, order);
  }
  return inlineCrew(kernel, devices.source, devices.target, mode, regionSize);
}

function mark(map: RegionMap, runs: readonly Run[]): void {
  for (const run of runs) map.set(run.first, run.count);
}

function rangesOf(map: RegionMap, regionSize: number, size: number) {
  return [...map.runs()].map(({ first, count }) => {
    const offset = first * regionSize;
    return { offset, length: Math.min(offset + count * regionSize, size) - offset };
  });
}
