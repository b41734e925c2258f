/**
 * Carries clients' reads, writes and flushes between the volumes of all pairs that a volume is in, by
 * the rows of the state table (`states.ts`) and in their order. Requests overlap freely: those that
 * meet, and the copier, take turns by holds on their regions. A request on warm data that no copy is
 * under way for is done within the call, without a promise and without a hold.
 */

import { assert } from '../base/assert.ts';
import { reach } from '../base/faults.ts';
import type { HotExtent, IntentLog } from '../bitmap/intent-log.ts';
import type { Run } from '../bitmap/region-map.ts';
import type { MapName, PairRecord } from '../catalog/records.ts';
import type { BlockDevice } from '../device/device.ts';
import { type Hold, Holds } from './holds.ts';
import { Intents } from './intents.ts';
import type { Pair } from './pair.ts';
import type { Moment } from './settling.ts';
import type { Side, WriteStep } from './states.ts';
import { readFrom, sourceOf, stepIndex, targetOf, writeSteps } from './transitions.ts';

/** Hot extents that one piece of a write touches at most, and what part of the log that may be. */
const PIECE_EXTENTS = 4;
const PIECE_OF_LOG = 1 / 4;

/** One pair as the volume at hand sees it. */
export type Strand = { readonly record: PairRecord; readonly pair: Pair };

/** What the link stands on: the engine gives it devices, the log and durable verdicts. */
export interface Ground {
  /** Pairs of a volume, as they are now. */
  strands(volume: number): readonly Strand[];
  /** What volumes that hold each other's data have in common: the master's number. */
  family(volume: number): number;
  /** The device, if it is open and nothing has to be written down before a write. */
  ready(volume: number, access: 'read' | 'write'): BlockDevice | undefined;
  device(volume: number, access: 'read' | 'write'): Promise<BlockDevice>;
  /** What has to be durable before the first write of a session. */
  beginWrite(volume: number): Promise<void>;
  flushVolume(volume: number): Promise<void>;
  log(): Promise<IntentLog>;
  /** Makes what was changed of a map durable. */
  saveMap(pair: Pair, name: MapName): Promise<void>;
  /** Bytes of a hot extent, a multiple of every region size. */
  readonly extentSize: number;
  /** Extents that the log holds. */
  readonly extentsMax: number;
  /** Throws when a commit has failed: the maps in memory are perhaps not those on the disk. */
  requireIntact(): void;
  /**
   * Durably: parted, the proxy INVALID, these regions and all hot ones changed, and the extents that
   * were on their way out of the log. In force at once.
   */
  mirrorFailed(
    strand: Strand,
    regions: Run,
    error: unknown,
    leaving?: readonly HotExtent[],
  ): Promise<void>;
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

const NOTHING: Moment = [];

/** Behind every volume: what only has to be over before a pause. */
const BESIDE = 2 ** 53;

export class Link {
  readonly #ground: Ground;
  readonly #holds = new Holds();
  readonly #intents: Intents;
  readonly #pieceExtents: number;
  /** How many writes of each volume are not done. */
  readonly #writing = new Map<number, number>();
  readonly #watches = new Set<Set<number>>();

  constructor(ground: Ground) {
    this.#ground = ground;
    const share = Math.floor(ground.extentsMax * PIECE_OF_LOG);
    this.#pieceExtents = Math.min(PIECE_EXTENTS, Math.max(1, share));
    this.#intents = new Intents({ log: () => ground.log(), secure: (e) => this.#secure(e) });
  }

  /** Reads from where the table says the content is. */
  read(volume: number, offset: number, into: Uint8Array): void | Promise<void> {
    const device = this.#ground.ready(volume, 'read');
    if (device === undefined || !this.#isWhole(volume, offset, into.byteLength)) {
      return this.#readSlowly(volume, offset, into);
    }
    return device.read(into, offset);
  }

  /**
   * Writes, tracked. Done when the data is on every side it belongs to (not yet durable). `data` is the
   * link's until then.
   */
  write(volume: number, offset: number, data: Uint8Array): void | Promise<void> {
    if (data.byteLength === 0) return;
    if (this.#watches.size > 0) for (const written of this.#watches) written.add(volume);
    const result = this.#write(volume, offset, data);
    if (result === undefined) return;
    this.#writing.set(volume, (this.#writing.get(volume) ?? 0) + 1);
    return result.finally(() => {
      const left = this.#writing.get(volume)! - 1;
      if (left === 0) this.#writing.delete(volume);
      else this.#writing.set(volume, left);
    });
  }

  /** From now on: the volumes that clients write to, and those with a write that is not done. */
  watch(): { readonly written: ReadonlySet<number>; end(): void } {
    const written = new Set(this.#writing.keys());
    this.#watches.add(written);
    return { written, end: () => void this.#watches.delete(written) };
  }

  #write(volume: number, offset: number, data: Uint8Array): void | Promise<void> {
    const device = this.#ground.ready(volume, 'write');
    if (device === undefined) return this.#writeSlowly(volume, offset, data);
    const strands = this.#ground.strands(volume);
    const end = offset + data.byteLength;
    const family = this.#ground.family(volume);
    const plain =
      data.byteLength <= (this.#pieceExtents - 1) * this.#ground.extentSize &&
      this.#holds.isFree(family, ...aligned(strands, offset, end), true) &&
      strands.every(({ pair }) => nothingPending(pair, offset, end));
    if (!plain) return this.#writeSlowly(volume, offset, data);
    const extents = strands.length === 0 ? [] : this.#extents(volume, offset, end);
    if (!this.#intents.tryPin(extents)) return this.#writeSlowly(volume, offset, data);
    return this.#writePlainly({ volume, device, strands, offset, data, extents });
  }

  /** FLUSH_STEPS: every side the writes went to, then the bits that the flush covers. */
  async flush(volume: number): Promise<void> {
    const hold = await this.#holdBeside(volume);
    try {
      const strands = this.#ground.strands(volume);
      // What settles later was perhaps written after the syncs.
      const settling = strands.map((strand) =>
        isTarget(strand, volume) ? strand.pair.settlingNow() : NOTHING,
      );
      await this.#ground.flushVolume(volume);
      for (const [i, strand] of strands.entries()) {
        const settles = settling[i].length > 0;
        if (!strand.record.joined && !settles) continue;
        if (!(await this.#flushMirror(strand, volume, []))) continue;
        reach('flush:synced');
        if (settles) await strand.pair.clearSettled(settling[i], this.#durably);
        reach('flush:cleared');
      }
    } finally {
      this.#holds.release(hold);
    }
  }

  /** Syncs the other side. False: it is a joined proxy that failed, and the pair is parted now. */
  async #flushMirror(
    strand: Strand,
    volume: number,
    leaving: readonly HotExtent[],
  ): Promise<boolean> {
    try {
      await this.#ground.flushVolume(otherOf(strand, volume));
      return true;
    } catch (error) {
      if (!strand.record.joined || sideOf(strand, volume) === 'proxy') throw error;
      await this.#ground.mirrorFailed(strand, { first: 0, count: 0 }, error, leaving);
      return false;
    }
  }

  /** Settles every region of a pair: sides synced, bits durably clear. */
  async settle(strand: Strand): Promise<void> {
    const { pair, record } = strand;
    if (!pair.settles) return;
    const settling = pair.settlingNow();
    await this.#ground.flushVolume(volumeAt(record, sourceOf(record.direction)));
    await this.#ground.flushVolume(volumeAt(record, targetOf(record.direction)));
    await pair.clearSettled(settling, this.#durably);
  }

  /** Takes every extent out of the log; nobody writes meanwhile. */
  async emptyLog(): Promise<void> {
    await this.#intents.empty();
  }

  /** Holds bytes of a family against its clients. */
  hold(family: number, from: number, to: number): Hold | Promise<Hold> {
    return this.#holds.acquire(family, from, to, true);
  }

  release(hold: Hold): void {
    this.#holds.release(hold);
  }

  /**
   * Runs `work` while nobody does anything with these families (in rising order: two callers never
   * wait for each other), or until `work` calls `resume`; until its end no extent leaves the log.
   */
  async whilePaused<T>(
    families: readonly number[],
    work: (resume: () => void) => Promise<T>,
  ): Promise<T> {
    const holds: Hold[] = [];
    const resume = () => {
      for (const hold of holds.splice(0)) this.#holds.release(hold);
    };
    try {
      for (const family of families) {
        holds.push(await this.#holds.acquire(family, 0, Number.POSITIVE_INFINITY, true));
      }
      // Not before: a write that has its hold may be waiting for an extent to leave.
      await this.#intents.freeze();
      try {
        return await work(resume);
      } finally {
        this.#intents.thaw();
      }
    } finally {
      resume();
    }
  }

  readonly #durably = (pair: Pair, name: MapName) => this.#ground.saveMap(pair, name);

  /** True when the range of a volume holds its own content. */
  #isWhole(volume: number, offset: number, length: number): boolean {
    const end = offset + length;
    return this.#ground
      .strands(volume)
      .every((s) => !isTarget(s, volume) || nothingPending(s.pair, offset, end));
  }

  async #readSlowly(volume: number, offset: number, into: Uint8Array): Promise<void> {
    const hold = await this.#holdRegions(volume, offset, offset + into.byteLength, false);
    try {
      // Not before: a swap gives the volume another disk.
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
    } finally {
      this.#holds.release(hold);
    }
  }

  /** A hold on the regions of a range. The family may become another one while it is waited for. */
  async #holdRegions(volume: number, from: number, to: number, exclusive: boolean): Promise<Hold> {
    for (;;) {
      const family = this.#ground.family(volume);
      const range = aligned(this.#ground.strands(volume), from, to);
      const hold = await this.#holds.acquire(family, ...range, exclusive);
      const now = aligned(this.#ground.strands(volume), from, to);
      const same = this.#ground.family(volume) === family;
      if (same && now[0] === range[0] && now[1] === range[1]) return hold;
      this.#holds.release(hold);
    }
  }

  /** What needs no region to itself, only that no verb switches meanwhile. */
  async #holdBeside(volume: number): Promise<Hold> {
    for (;;) {
      const family = this.#ground.family(volume);
      const hold = await this.#holds.acquire(family, BESIDE, BESIDE + 1, false);
      if (this.#ground.family(volume) === family) return hold;
      this.#holds.release(hold);
    }
  }

  /** Joined and parted pairs of which no region in the range is under way: two steps each. */
  #writePlainly(work: PlainWrite): void | Promise<void> {
    const { volume, strands, offset, data, extents } = work;
    const regionsOf = ({ pair }: Strand) => regionsBetween(pair, offset, offset + data.byteLength);
    for (const strand of strands) {
      if (strand.record.joined) continue;
      const { first, count } = regionsOf(strand);
      strand.pair.maps.changed.set(first, count);
    }
    let result = attempt(() => work.device.write(data, offset));
    if (strands.length > 0) {
      result = onError(result, async (error) => {
        for (const strand of strands) {
          if (strand.record.joined) await this.#ground.masterFailed(strand, regionsOf(strand));
        }
        throw error;
      });
      result = chain(result, () => reach('write:one-side'));
    }
    for (const strand of strands) {
      if (strand.record.joined) {
        result = chain(result, () => this.#mirrorPlainly(strand, volume, regionsOf(strand), work));
      }
    }
    if (result === undefined) {
      this.#intents.unpin(extents);
      reach('write:done');
      return;
    }
    // Nothing else has run since the range was found free.
    const range = aligned(strands, offset, offset + data.byteLength);
    const hold = this.#holds.acquire(this.#ground.family(volume), ...range, true) as Hold;
    return result
      .finally(() => {
        this.#intents.unpin(extents);
        this.#holds.release(hold);
      })
      .then(() => reach('write:done'));
  }

  #mirrorPlainly(
    strand: Strand,
    volume: number,
    regions: Run,
    { data, offset }: PlainWrite,
  ): void | Promise<void> {
    const other = this.#ground.ready(otherOf(strand, volume), 'write');
    const written = attempt(
      other
        ? () => other.write(data, offset)
        : () => this.#writeOther(strand, volume, offset, data),
    );
    return onError(
      chain(written, () => strand.pair.addToIncrement(regions)),
      (error) => this.#ground.mirrorFailed(strand, regions, error),
    );
  }

  async #writeOther(
    strand: Strand,
    volume: number,
    offset: number,
    data: Uint8Array,
  ): Promise<void> {
    const other = await this.#ground.device(otherOf(strand, volume), 'write');
    await other.write(data, offset);
  }

  async #writeSlowly(volume: number, offset: number, data: Uint8Array): Promise<void> {
    await this.#ground.beginWrite(volume);
    for (let done = 0; done < data.byteLength; ) {
      const begin = offset + done;
      // Up to the end of an extent, so that a piece needs few of them at once.
      const most = this.#pieceExtents * this.#ground.extentSize;
      const rest = data.subarray(done, done + most - (begin % this.#ground.extentSize));
      const hold = await this.#holdRegions(volume, begin, begin + rest.byteLength, true);
      try {
        // Not before: a swap gives the volume another disk.
        const own = await this.#ground.device(volume, 'write');
        done += await this.#writeHeld(own, volume, begin, rest);
      } finally {
        this.#holds.release(hold);
      }
    }
    reach('write:done');
  }

  /** Writes the longest piece of `data` whose regions take the same steps; its length in bytes. */
  async #writeHeld(
    own: BlockDevice,
    volume: number,
    offset: number,
    data: Uint8Array,
  ): Promise<number> {
    const tracked = this.#ground.strands(volume).length > 0;
    const extents = tracked ? this.#extents(volume, offset, offset + data.byteLength) : [];
    // Before the steps are chosen: a pair that fails while this waits takes others, and one that fails
    // later marks what is hot.
    await this.#intents.pin(extents);
    try {
      this.#ground.requireIntact();
      const strands = this.#ground.strands(volume);
      const piece = this.#piece(strands, volume, offset, data);
      await this.#writePiece(own, volume, strands, piece);
      return piece.data.byteLength;
    } finally {
      this.#intents.unpin(extents);
    }
  }

  /** EVICT_STEPS: what these extents stand for needs no log any more. */
  async #secure(extents: readonly HotExtent[]): Promise<void> {
    for (const volume of new Set(extents.map((e) => e.volume))) {
      for (const strand of this.#ground.strands(volume)) {
        const { record, pair } = strand;
        if (record.joined) {
          await this.#ground.flushVolume(record.master);
          if (!(await this.#flushMirror(strand, record.master, extents))) continue;
          await this.#ground.saveMap(pair, 'increment');
        } else {
          await this.#ground.saveMap(pair, 'changed');
        }
        // What a failed write has set there is nowhere else.
        if (pair.stale.has('pending')) await this.#ground.saveMap(pair, 'pending');
      }
    }
    reach('evict:bits-durable');
  }

  #extents(volume: number, from: number, to: number): HotExtent[] {
    const { extentSize } = this.#ground;
    const extents: HotExtent[] = [];
    const last = Math.floor((to - 1) / extentSize);
    for (let extent = Math.floor(from / extentSize); extent <= last; extent++) {
      extents.push({ volume, extent });
    }
    return extents;
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
        settling: strand.pair.isSettling(region),
        role: isTarget(strand, volume) ? 'target' : 'source',
      }),
    );
  }

  #same(a: readonly (readonly WriteStep[])[], b: readonly (readonly WriteStep[])[]): boolean {
    return a.every((steps, i) => steps.join() === b[i].join());
  }

  /**
   * Runs the steps of all strands merged in the one order; `write` happens once. The extents are hot
   * already.
   */
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
      else if (step !== 'intent') {
        for (const [i, strand] of strands.entries()) {
          // Whatever has failed, the two differ there from now on.
          if (given.has(strand) && step !== 'mark') continue;
          if (!piece.steps[i].includes(step)) continue;
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
        pair.beginSettling(piece.regions);
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
      if (step === 'settle') {
        await this.settle(strand);
      } else if (step === 'preserve') {
        await this.#copyRegions(pair, source, target, regions);
        // No comparison will come by here any more.
        if (record.direction === 'toProxy') pair.addToIncrement(regions);
        reach('write:preserved');
      } else if (step === 'sync-source') {
        await this.#ground.flushVolume(source);
      } else if (step === 'sync-target') {
        await this.#ground.flushVolume(target);
        reach('write:preserve-synced');
      } else {
        await pair.clearPending([regions], this.#durably);
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
      strand.pair.addToIncrement(piece.regions);
      return true;
    } catch (error) {
      await this.#ground.mirrorFailed(strand, piece.regions, error);
      return false;
    }
  }
}

type PlainWrite = {
  readonly volume: number;
  readonly device: BlockDevice;
  readonly strands: readonly Strand[];
  readonly offset: number;
  readonly data: Uint8Array;
  readonly extents: readonly HotExtent[];
};

/** The regions that a range of bytes touches. */
function regionsBetween({ regionSize }: Pair, from: number, to: number): Run {
  const first = Math.floor(from / regionSize);
  return { first, count: Math.ceil(to / regionSize) - first };
}

/** True when no region in the range is pending or settling. Looks at these alone: the map may be large. */
function nothingPending(pair: Pair, from: number, to: number): boolean {
  const regions = regionsBetween(pair, from, to);
  return pair.maps.pending.count(regions.first, regions.count) === 0 && !pair.settlesIn(regions);
}

/** A range of bytes out to whole regions; all pairs of a family have one region size. */
function aligned(strands: readonly Strand[], from: number, to: number): [number, number] {
  if (strands.length === 0) return [from, to];
  const { regionSize } = strands[0].pair;
  return [Math.floor(from / regionSize) * regionSize, Math.ceil(to / regionSize) * regionSize];
}

/** What is thrown at once is a rejection, like what comes later. */
function attempt(work: () => void | Promise<void>): void | Promise<void> {
  try {
    return work();
  } catch (error) {
    return Promise.reject(error);
  }
}

function chain(
  before: void | Promise<void>,
  next: () => void | Promise<void>,
): void | Promise<void> {
  return before === undefined ? attempt(next) : before.then(next);
}

function onError(
  work: void | Promise<void>,
  then: (error: unknown) => Promise<void>,
): void | Promise<void> {
  return work?.catch(then);
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
