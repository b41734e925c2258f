/**
 * Carries a client's reads, writes and flushes between the volumes of all pairs that a volume is in,
 * by the rows of the state table (`states.ts`) and in their order. One request at a time: the
 * caller holds everything that the request touches.
 */

import { assert } from '../base/assert.ts';
import { reach } from '../base/faults.ts';
import type { HotExtent, IntentLog } from '../bitmap/intent-log.ts';
import type { Run } from '../bitmap/region-map.ts';
import type { PairRecord } from '../catalog/records.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Pair } from './pair.ts';
import type { Side, WriteStep } from './states.ts';
import { readFrom, sourceOf, stepIndex, targetOf, writeSteps } from './transitions.ts';

/** Longest piece of a write, in hot extents: the intent log holds many times as many. */
const PIECE_EXTENTS = 16;

/** One pair as the volume at hand sees it. */
export type Strand = { readonly record: PairRecord; readonly pair: Pair };

/** What the link stands on: the engine gives it devices, the log and durable verdicts. */
export interface Ground {
  /** Pairs of a volume, as they are now. */
  strands(volume: number): Strand[];
  device(volume: number, access: 'read' | 'write'): Promise<BlockDevice>;
  flushVolume(volume: number): Promise<void>;
  log(): Promise<IntentLog>;
  /** Bytes of a hot extent, a multiple of every region size. */
  readonly extentSize: number;
  /** Durably: parted, the proxy INVALID, these regions and all hot ones changed. */
  mirrorFailed(strand: Strand, regions: Run, error: unknown): Promise<void>;
  /** Durably: the target of the unfinished copy INVALID, its pending regions changed. */
  preserveFailed(strand: Strand, error: unknown): Promise<void>;
  /** Durably: regions of which the master's write failed are pending to the proxy again. */
  masterFailed(strand: Strand, regions: Run): Promise<void>;
}

/** A piece of a request in which every region takes the same steps. Bytes and regions. */
type Piece = {
  readonly offset: number;
  readonly data: Uint8Array;
  readonly regions: Run;
  /** Steps of each strand, in the order of `strands`. */
  readonly steps: readonly (readonly WriteStep[])[];
};

export class Link {
  readonly #ground: Ground;

  constructor(ground: Ground) {
    this.#ground = ground;
  }

  /** Reads from where the table says the content is. */
  async read(volume: number, offset: number, into: Uint8Array): Promise<void> {
    const own = await this.#ground.device(volume, 'read');
    const strands = this.#ground.strands(volume).filter((s) => isTarget(s, volume));
    if (strands.length === 0) return await own.read(into, offset);
    const { regionSize } = strands[0].pair;
    for (let done = 0; done < into.byteLength; ) {
      const region = Math.floor((offset + done) / regionSize);
      const end = Math.min((region + 1) * regionSize - offset, into.byteLength);
      // At most one pair of a volume can have the region pending on it.
      const strand = strands.find(({ pair, record }) => {
        const side = sideOf({ pair, record }, volume);
        return readFrom(side, record.direction, pair.isPending(region)) !== side;
      });
      const device = strand ? await this.#ground.device(otherOf(strand, volume), 'read') : own;
      await device.read(into.subarray(done, end), offset + done);
      done = end;
    }
  }

  /** Writes, tracked. Returns when the data is on every side it belongs to (not yet durable). */
  async write(volume: number, offset: number, data: Uint8Array): Promise<void> {
    if (data.byteLength === 0) return;
    const own = await this.#ground.device(volume, 'write');
    for (let done = 0; done < data.byteLength; ) {
      // A failed side changes the pairs, so strands and steps are asked anew for each piece.
      const strands = this.#ground.strands(volume);
      const rest = data.subarray(done, done + PIECE_EXTENTS * this.#ground.extentSize);
      const piece = this.#piece(strands, volume, offset + done, rest);
      await this.#writePiece(own, volume, strands, piece);
      done += piece.data.byteLength;
    }
    reach('write:done');
  }

  /** FLUSH_STEPS: every side the writes went to, then the bits that the flush covers. */
  async flush(volume: number): Promise<void> {
    await this.#ground.flushVolume(volume);
    for (const strand of this.#ground.strands(volume)) {
      const settles = strand.pair.settling.size > 0 && isTarget(strand, volume);
      if (!strand.record.joined && !settles) continue;
      await this.#ground.flushVolume(otherOf(strand, volume));
      reach('flush:synced');
      if (settles) await strand.pair.clearPending([...strand.pair.settling].map(single));
      reach('flush:cleared');
    }
  }

  /** Settles every region of a pair: sides synced, bits durably clear. */
  async settle(strand: Strand): Promise<void> {
    const { pair, record } = strand;
    if (pair.settling.size === 0) return;
    await this.#ground.flushVolume(volumeAt(record, sourceOf(record.direction)));
    await this.#ground.flushVolume(volumeAt(record, targetOf(record.direction)));
    await pair.clearPending([...pair.settling].map(single));
  }

  /** EVICT_STEPS: takes extents out of the log once nothing depends on them. */
  async evict(extents: readonly HotExtent[]): Promise<void> {
    if (extents.length === 0) return;
    const log = await this.#ground.log();
    for (const volume of new Set(extents.map((e) => e.volume))) {
      for (const { record, pair } of this.#ground.strands(volume)) {
        if (record.joined) {
          await this.#ground.flushVolume(record.master);
          await this.#ground.flushVolume(record.proxy);
          await pair.save('increment');
        } else {
          await pair.save('changed');
        }
      }
    }
    reach('evict:bits-durable');
    log.leave(extents);
    reach('evict:done');
  }

  /** The longest prefix of `data` whose regions all take the same steps. */
  #piece(strands: readonly Strand[], volume: number, offset: number, data: Uint8Array): Piece {
    if (strands.length === 0) return { offset, data, regions: { first: 0, count: 0 }, steps: [] };
    const { regionSize } = strands[0].pair;
    const first = Math.floor(offset / regionSize);
    const last = Math.floor((offset + data.byteLength - 1) / regionSize);
    const steps = this.#stepsOf(strands, volume, first);
    // Regions that are filled or preserved go one by one: their two ends differ.
    const alone = steps.some(
      (s) => s.includes('fill') || s.includes('preserve') || s.includes('settle'),
    );
    let end = first;
    while (!alone && end < last && this.#same(steps, this.#stepsOf(strands, volume, end + 1)))
      end++;
    const bytes = Math.min((end + 1) * regionSize - offset, data.byteLength);
    const regions = { first, count: end - first + 1 };
    return { offset, data: data.subarray(0, bytes), regions, steps };
  }

  #stepsOf(strands: readonly Strand[], volume: number, region: number) {
    return strands.map((strand) =>
      writeSteps({
        joined: strand.record.joined,
        pending: strand.pair.isPending(region),
        settling: strand.pair.settling.has(region),
        role: isTarget(strand, volume) ? 'target' : 'source',
      }),
    );
  }

  #same(a: readonly (readonly WriteStep[])[], b: readonly (readonly WriteStep[])[]): boolean {
    return a.every((steps, i) => steps.join() === b[i].join());
  }

  /** Runs the steps of all strands merged in the one order; `write` happens once. */
  async #writePiece(
    own: BlockDevice,
    volume: number,
    strands: readonly Strand[],
    piece: Piece,
  ): Promise<void> {
    const all = new Set(piece.steps.flat());
    const order = [...all].sort((a, b) => stepIndex(a) - stepIndex(b));
    if (!all.has('write')) order.push('write');
    const given = new Set<Strand>();
    for (const step of order) {
      if (step === 'write') await this.#writeOwn(own, strands, piece);
      else if (step === 'intent') await this.#enterLog(volume, piece);
      else {
        for (const [i, strand] of strands.entries()) {
          if (!piece.steps[i].includes(step) || given.has(strand)) continue;
          const goesOn = await this.#step(step, strand, volume, own, piece);
          if (!goesOn) given.add(strand);
        }
      }
    }
  }

  /** One step of one pair. False: the pair has failed in it, and the write goes on without it. */
  async #step(
    step: WriteStep,
    strand: Strand,
    volume: number,
    own: BlockDevice,
    piece: Piece,
  ): Promise<boolean> {
    const { pair } = strand;
    switch (step) {
      case 'settle':
        await this.settle(strand);
        return true;
      case 'preserve':
      case 'sync-source':
      case 'sync-target':
      case 'clear':
        return await this.#preserve(step, strand, piece.regions);
      case 'fill':
        await this.#fill(strand, volume, own, piece);
        return true;
      case 'mark':
        pair.maps.changed.set(piece.regions.first, piece.regions.count);
        return true;
      case 'mirror':
        return await this.#mirror(strand, volume, piece);
      case 'settling':
        for (let i = 0; i < piece.regions.count; i++) pair.settling.add(piece.regions.first + i);
        return true;
      default:
        assert(false, `step ${step} is no step of a pair`);
    }
  }

  async #preserve(step: WriteStep, strand: Strand, regions: Run): Promise<boolean> {
    const { record, pair } = strand;
    const source = volumeAt(record, sourceOf(record.direction));
    const target = volumeAt(record, targetOf(record.direction));
    try {
      if (step === 'preserve') {
        await this.#copyRegions(pair, source, target, regions);
        reach('write:preserved');
      } else if (step === 'sync-source') {
        await this.#ground.flushVolume(source);
      } else if (step === 'sync-target') {
        await this.#ground.flushVolume(target);
        reach('write:preserve-synced');
      } else {
        await pair.clearPending([regions]);
        reach('write:preserve-cleared');
      }
      return true;
    } catch (error) {
      await this.#ground.preserveFailed(strand, error);
      return false;
    }
  }

  async #copyRegions(pair: Pair, source: number, target: number, regions: Run): Promise<void> {
    const from = await this.#ground.device(source, 'read');
    const to = await this.#ground.device(target, 'write');
    const offset = regions.first * pair.regionSize;
    const length = Math.min(regions.count * pair.regionSize, pair.size - offset);
    const buffer = new Uint8Array(length);
    await from.read(buffer, offset);
    await to.write(buffer, offset);
  }

  /** Takes what the write leaves of its region from the source. */
  async #fill(strand: Strand, volume: number, own: BlockDevice, piece: Piece): Promise<void> {
    const { pair } = strand;
    const start = piece.regions.first * pair.regionSize;
    const end = Math.min(start + piece.regions.count * pair.regionSize, pair.size);
    const source = await this.#ground.device(otherOf(strand, volume), 'read');
    const move = async (from: number, to: number) => {
      if (to <= from) return;
      const buffer = new Uint8Array(to - from);
      await source.read(buffer, from);
      await own.write(buffer, from);
    };
    await move(start, piece.offset);
    await move(piece.offset + piece.data.byteLength, end);
  }

  async #enterLog(volume: number, piece: Piece): Promise<void> {
    const log = await this.#ground.log();
    const { extentSize } = this.#ground;
    const first = Math.floor(piece.offset / extentSize);
    const last = Math.floor((piece.offset + piece.data.byteLength - 1) / extentSize);
    const extents: HotExtent[] = [];
    for (let extent = first; extent <= last; extent++) extents.push({ volume, extent });
    if (log.covers(extents)) return;
    await this.evict(log.victims(extents));
    await log.enter(extents);
  }

  async #writeOwn(own: BlockDevice, strands: readonly Strand[], piece: Piece): Promise<void> {
    try {
      await own.write(piece.data, piece.offset);
    } catch (error) {
      for (const [i, strand] of strands.entries()) {
        if (piece.steps[i].includes('mirror')) {
          await this.#ground.masterFailed(strand, piece.regions);
        }
      }
      throw error;
    }
    reach('write:one-side');
  }

  async #mirror(strand: Strand, volume: number, piece: Piece): Promise<boolean> {
    try {
      const other = await this.#ground.device(otherOf(strand, volume), 'write');
      await other.write(piece.data, piece.offset);
      strand.pair.maps.increment.set(piece.regions.first, piece.regions.count);
      return true;
    } catch (error) {
      await this.#ground.mirrorFailed(strand, piece.regions, error);
      return false;
    }
  }
}

function single(first: number): Run {
  return { first, count: 1 };
}

export function volumeAt(record: PairRecord, side: Side): number {
  return side === 'master' ? record.master : record.proxy;
}

function sideOf(strand: Strand, volume: number): Side {
  return strand.record.master === volume ? 'master' : 'proxy';
}

function otherOf(strand: Strand, volume: number): number {
  return sideOf(strand, volume) === 'master' ? strand.record.proxy : strand.record.master;
}

function isTarget(strand: Strand, volume: number): boolean {
  return sideOf(strand, volume) === targetOf(strand.record.direction);
}
