/** Reads both sides of a pair, whole, and holds what it finds against what the maps say. */

import type { PairRecord } from '../catalog/records.ts';
import { interrupted } from '../copy/job.ts';
import { Buffers } from '../copy/task.ts';
import { HASH_STATE_BYTES } from '../kernel/kernel.ts';
import type { Pair } from '../proxy/pair.ts';
import { stateOf } from '../proxy/transitions.ts';
import type { RunOptions, VerifyReport } from './api.ts';
import { names, sideNames } from './copying.ts';
import type { State } from './state.ts';

type PairVerdict = VerifyReport['pairs'][number];

/** Marks the pair doubtful (durably) when regions differ that were believed equal. */
export async function verifyPair(
  state: State,
  record: PairRecord,
  options: RunOptions,
): Promise<PairVerdict> {
  const pair = state.pair(record);
  const begin = state.host.now();
  const found = await compareSides(state, record, pair, options);
  const notes: string[] = [];
  if (record.doubt !== null) notes.push(`the map is not trusted: ${record.doubt}`);
  const unexpected = record.doubt === null || record.joined ? found.unexpected : 0;
  if (unexpected > 0 && record.doubt === null) {
    if (!options.dryRun) notes.push('the next copy will compare everything');
    if (!options.dryRun)
      await state.commit((next) => {
        next.pairs.find((p) => p.id === record.id)!.doubt =
          'verify found differences that no record explains';
      });
  }
  return {
    ...sideNames(state, record),
    state: stateOf(state.view(record)),
    regions: pair.regions,
    differing: found.differing,
    unexpected,
    masterHash: found.masterHash,
    proxyHash: found.proxyHash,
    seconds: (state.host.now() - begin) / 1000,
    notes,
  };
}

async function compareSides(state: State, record: PairRecord, pair: Pair, options: RunOptions) {
  const { kernel } = state;
  const master = await state.device(state.volumeById(record.master), 'read');
  const proxy = await state.device(state.volumeById(record.proxy), 'read');
  const buffers = new Buffers(kernel, pair.regionSize);
  const hashes = [kernel.allocate(HASH_STATE_BYTES), kernel.allocate(HASH_STATE_BYTES)];
  const found = { differing: 0, unexpected: 0, masterHash: '', proxyHash: '' };
  const begin = state.host.now();
  let told = begin;
  try {
    for (const hash of hashes) kernel.hashReset(hash);
    for (let at = 0; at < pair.size; at += buffers.chunkSize) {
      if (options.signal?.aborted) throw interrupted(`verify ${names(state, record)}`);
      const length = Math.min(buffers.chunkSize, pair.size - at);
      await master.read(kernel.bytes(buffers.source, length), at);
      await proxy.read(kernel.bytes(buffers.target, length), at);
      kernel.hashUpdate(hashes[0], buffers.source, length);
      kernel.hashUpdate(hashes[1], buffers.target, length);
      const regions = Math.ceil(length / pair.regionSize);
      kernel.diff(buffers.source, buffers.target, length, pair.regionSize, buffers.bits, 0);
      const first = at / pair.regionSize;
      for (
        let i = kernel.nextSet(buffers.bits, 0, regions);
        i < regions;
        i = kernel.nextSet(buffers.bits, i + 1, regions)
      ) {
        found.differing++;
        if (!pair.maps.changed.has(first + i) && !pair.maps.pending.has(first + i))
          found.unexpected++;
      }
      const now = state.host.now();
      if (options.onProgress && (now - told > 500 || at + length === pair.size)) {
        told = now;
        options.onProgress(progressOf(state, record, pair, at + length, (now - begin) / 1000));
        await state.host.sleep(0); // Lets a signal in.
      }
    }
    found.masterHash = kernel.hashDigest(hashes[0]);
    found.proxyHash = kernel.hashDigest(hashes[1]);
    return found;
  } finally {
    buffers.release();
    for (const hash of hashes) kernel.release(hash);
  }
}

function progressOf(state: State, record: PairRecord, pair: Pair, done: number, seconds: number) {
  const rate = seconds > 0 ? done / seconds : 0;
  return {
    verb: 'verify',
    ...sideNames(state, record),
    direction: 'toProxy' as const,
    method: 'compare' as const,
    reason: 'both sides are read',
    doneBytes: done,
    totalBytes: pair.size,
    bytesRead: 2 * done,
    bytesWritten: 0,
    seconds,
    rateBytesPerSec: rate,
    secondsLeft: rate > 0 ? (pair.size - done) / rate : null,
    finished: done === pair.size,
  };
}
