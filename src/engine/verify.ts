/**
 * Reads both sides of a pair, whole, and holds what it finds against what the maps say. Clients, verbs
 * and copies may go on meanwhile: the sides are read without keeping anybody from them, and only a region
 * that differs although it is believed equal is read once more while it is held against all others.
 *
 * A checksum is of one content: a side that may have been written while it was read has none.
 */

import { KageError } from '../base/errors.ts';
import type { PairRecord } from '../catalog/records.ts';
import { interrupted } from '../copy/job.ts';
import { Pace } from '../copy/pace.ts';
import { Buffers } from '../copy/task.ts';
import type { BlockDevice } from '../device/device.ts';
import { HASH_STATE_BYTES } from '../kernel/kernel.ts';
import { createKernel } from '../kernel/select.ts';
import type { Link } from '../proxy/link.ts';
import type { Pair } from '../proxy/pair.ts';
import { stateOf } from '../proxy/transitions.ts';
import type { VerifyOptions, VerifyReport } from './api.ts';
import { names, sideNames } from './copying.ts';
import type { State } from './state.ts';
import { watchSides } from './watch-sides.ts';

type PairVerdict = VerifyReport['pairs'][number];
type Found = { differing: number; unexpected: number; masterHash: string; proxyHash: string };

const DOUBT = 'verify found differences that no record explains';
const PROGRESS_MS = 500;
/** Beside clients: reading gives way to them after so long, ms. */
const BREATH_MS = 2;

/** Marks the pair doubtful (durably) when regions differ that were believed equal, also if it is stopped. */
export async function verifyPair(
  state: State,
  link: Link,
  id: number,
  options: VerifyOptions,
): Promise<PairVerdict> {
  const { record, pair } = pairNow(state, id);
  const sides = sideNames(state, record);
  const begin = state.host.now();
  const notes = record.doubt === null ? [] : [`the map is not trusted: ${record.doubt}`];
  const found: Found = { differing: 0, unexpected: 0, masterHash: '', proxyHash: '' };
  const watch = watchSides(state, link, record);
  const distrusts = () => (options.dryRun ? undefined : distrust(state, id, sides, found));
  try {
    await compareSides(state, link, id, found, options);
  } catch (error) {
    await distrusts()?.catch(() => {});
    throw error;
  } finally {
    watch.end();
  }
  await distrusts();
  if (found.unexpected > 0 && record.doubt === null && !options.dryRun) {
    notes.push('the next copy will compare everything');
  }
  const hashOf = (side: 'master' | 'proxy') => {
    if (!watch.moved(side)) return found[`${side}Hash`];
    notes.push(`no checksum of ${sides[side]}: it was in motion while it was read`);
    return null;
  };
  return {
    ...sides,
    state: stateOf(state.view(pairNow(state, id).record)),
    regions: pair.regions,
    differing: found.differing,
    unexpected: found.unexpected,
    masterHash: hashOf('master'),
    proxyHash: hashOf('proxy'),
    seconds: (state.host.now() - begin) / 1000,
    notes,
  };
}

async function distrust(
  state: State,
  id: number,
  sides: { master: string; proxy: string },
  { unexpected }: Found,
): Promise<void> {
  if (unexpected === 0) return;
  state.tell({ kind: 'differs', ...sides, regions: unexpected });
  const own = state.record.pairs.find((p) => p.id === id);
  if (own === undefined || own.doubt !== null) return;
  await state.commit((next) => {
    const pair = next.pairs.find((p) => p.id === id);
    if (pair) pair.doubt ??= DOUBT;
  });
}

/** The pair as it is at this moment. */
function pairNow(state: State, id: number): { record: PairRecord; pair: Pair } {
  const record = state.record.pairs.find((p) => p.id === id);
  const pair = state.pairs.get(id);
  if (record !== undefined && pair !== undefined) return { record, pair };
  throw new KageError('wrong-state', 'verify: the pair was broken meanwhile');
}

async function compareSides(
  state: State,
  link: Link,
  id: number,
  found: Found,
  options: VerifyOptions,
): Promise<void> {
  const { record, pair } = pairNow(state, id);
  // Beside other calls it needs a memory of its own: one that grows empties every view of it.
  const kernel = state.live ? createKernel(state.kernel.kind) : state.kernel;
  const buffers = new Buffers(kernel, pair.regionSize);
  const hashes = [kernel.allocate(HASH_STATE_BYTES), kernel.allocate(HASH_STATE_BYTES)];
  const pace = new Pace({
    ...options,
    now: () => state.host.now(),
    sleep: (ms) => state.host.sleep(ms),
  });
  const tell = teller(state, record, pair.size, options);
  try {
    for (const hash of hashes) kernel.hashReset(hash);
    for (let at = 0; at < pair.size; at += buffers.chunkSize) {
      await pace.wait();
      if (options.signal?.aborted) throw interrupted(`verify ${names(state, record)}`);
      const length = Math.min(buffers.chunkSize, pair.size - at);
      const differing = await readChunk(state, id, buffers, at, length);
      kernel.hashUpdate(hashes[0], buffers.source, length);
      kernel.hashUpdate(hashes[1], buffers.target, length);
      for (const region of differing) await judge(state, link, id, buffers, region, found);
      await pace.done(length);
      await tell(at + length);
    }
    found.masterHash = kernel.hashDigest(hashes[0]);
    found.proxyHash = kernel.hashDigest(hashes[1]);
  } finally {
    buffers.release();
    for (const hash of hashes) kernel.release(hash);
  }
}

/** Reads a range of both sides into the buffers; the regions of it that differ. */
async function readChunk(
  state: State,
  id: number,
  { kernel, source, target, bits, regionSize }: Buffers,
  at: number,
  length: number,
): Promise<number[]> {
  const deviceOf = async (side: 'master' | 'proxy'): Promise<BlockDevice> =>
    await state.device(state.volumeById(pairNow(state, id).record[side]), 'read');
  await (await deviceOf('master')).read(kernel.bytes(source, length), at);
  await (await deviceOf('proxy')).read(kernel.bytes(target, length), at);
  const regions = Math.ceil(length / regionSize);
  kernel.diff(source, target, length, regionSize, bits, 0);
  const differing: number[] = [];
  let i = kernel.nextSet(bits, 0, regions);
  while (i < regions) {
    differing.push(at / regionSize + i);
    i = kernel.nextSet(bits, i + 1, regions);
  }
  return differing;
}

/** Counts a region whose sides were read as different, if they are. */
async function judge(
  state: State,
  link: Link,
  id: number,
  buffers: Buffers,
  region: number,
  found: Found,
): Promise<void> {
  const isKnown = () => {
    const { changed, pending } = pairNow(state, id).pair.maps;
    return changed.has(region) || pending.has(region);
  };
  if (isKnown()) {
    found.differing++;
    return;
  }
  const { record, pair } = pairNow(state, id);
  const at = region * pair.regionSize;
  const length = Math.min(pair.regionSize, pair.size - at);
  const hold = await link.hold(record.master, at, at + length);
  try {
    if ((await readChunk(state, id, buffers, at, length)).length === 0) return;
    found.differing++;
    const { doubt, joined } = pairNow(state, id).record;
    if (!isKnown() && (doubt === null || joined)) found.unexpected++;
  } finally {
    link.release(hold);
  }
}

/** Reports progress, and lets others in: reading files never gives way by itself. */
function teller(state: State, record: PairRecord, size: number, options: VerifyOptions) {
  const begin = state.host.now();
  let told = begin;
  let breathed = begin;
  return async (done: number): Promise<void> => {
    const now = state.host.now();
    const isDue = options.onProgress !== undefined && (now - told > PROGRESS_MS || done === size);
    if (isDue) {
      told = now;
      options.onProgress?.(progressOf(state, record, size, done, (now - begin) / 1000));
    }
    if (!isDue && !(state.live && now - breathed >= BREATH_MS)) return;
    await state.host.sleep(0);
    breathed = state.host.now();
  };
}

function progressOf(state: State, record: PairRecord, size: number, done: number, seconds: number) {
  const rate = seconds > 0 ? done / seconds : 0;
  return {
    verb: 'verify',
    ...sideNames(state, record),
    direction: 'toProxy' as const,
    method: 'compare' as const,
    reason: 'both sides are read',
    doneBytes: done,
    totalBytes: size,
    bytesRead: 2 * done,
    bytesWritten: 0,
    seconds,
    rateBytesPerSec: rate,
    secondsLeft: rate > 0 ? (size - done) / rate : null,
    finished: done === size,
  };
}
