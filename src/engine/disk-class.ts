/**
 * An open class as its users hold it: every call waits for the one before, resolves names, and hands
 * the work to the verbs. Closing writes everything down and records the identities of the images.
 */

import { KageError } from '../base/errors.ts';
import { reach } from '../base/faults.ts';
import { HEARTBEAT_MS } from '../base/limits.ts';
import type { PairRecord, VolumeRecord } from '../catalog/records.ts';
import { interrupted } from '../copy/job.ts';
import { Link } from '../proxy/link.ts';
import { VERBS, type Verb } from '../proxy/states.ts';
import { Alive } from './alive.ts';
import type * as api from './api.ts';
import { attachVolume } from './attach.ts';
import { groundOf } from './ground.ts';
import { freezeIncrement } from './increment.ts';
import { describeClass, describeDisk, describeDraft, describeVolume } from './info.ts';
import { joinPair, relatePair } from './join.ts';
import { lookAt } from './look.ts';
import * as members from './members.ts';
import { Stillness } from './quiesce.ts';
import { finishRemoval, markRemoved } from './removal.ts';
import type { State } from './state.ts';
import { lookAgain, takeStamps } from './trust.ts';
import { guardVerb, type VerbOptions } from './verb-guards.ts';
import { type Begun, beginVerb } from './verbs.ts';
import { verifyPair } from './verify.ts';

/** While threads of ours write: more often than `Alive` notes anything. */
const COPY_BEAT_MS = 50;

const nothing = () => {};

export class OpenClass implements api.OwnClass {
  readonly #state: State;
  readonly #link: Link;
  readonly #owner: members.Owner;
  readonly #heart: ReturnType<typeof setInterval> | undefined;
  /** Time passes by itself. */
  readonly #hasTime: boolean;
  #alive: Alive | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #open = true;
  #closing: Promise<void> | undefined;
  /** Copies that run beside other calls, by pair. */
  readonly #copies = new Map<number, { ended: Promise<void>; abort(): void }>();
  /** Those who read beside other calls. */
  readonly #readers = new Set<{ readonly ended: Promise<void>; abort(): void }>();
  /** Pairs whose copy goes on when no other runs any more. */
  readonly #stopped = new Set<number>();
  /** Something was written by clients since the last heartbeat. */
  #beats = false;

  constructor(state: State, owner: members.Owner, options: { heartbeat: boolean }) {
    this.#state = state;
    this.#owner = owner;
    this.#link = new Link(groundOf(state));
    this.#hasTime = options.heartbeat;
    if (!options.heartbeat) return;
    this.#heart = setInterval(() => {
      if (this.#beats) this.#do(() => this.#heartbeat()).catch(() => {});
    }, HEARTBEAT_MS);
    (this.#heart as { unref?: () => void }).unref?.();
  }

  /** From now on volumes can be attached. `epoch`: the lock's, which the next commit writes down. */
  async goLive(epoch: number): Promise<void> {
    const state = this.#state;
    // What was believed of the last session's end is written down before its note is written over.
    if (!state.record.clean && state.record.generation > 0) await this.#writeDown(false);
    this.#alive = await Alive.create(state.folder, state.host, epoch);
    // Opened for recovery: clients need patient ones.
    await state.closeDevices();
    state.live = true;
  }

  get name(): string {
    return this.#state.record.class;
  }

  add(images: readonly api.AddRequest[], options: api.RunOptions = {}) {
    return this.#do(async () => {
      const added = await members.addImages(this.#state, images, this.#owner, options);
      if (options.dryRun) return added.map(describeDraft);
      return added.map(({ volume }) =>
        describeVolume(this.#state, this.#state.volume(volume.name)),
      );
    });
  }

  create(name: string, size: number, path: string, options: api.RunOptions = {}) {
    return this.#do(async () => {
      const made = await members.createImage(this.#state, path, size, name, this.#owner, options);
      if (options.dryRun) return describeDraft(made);
      return describeVolume(this.#state, this.#state.volume(name));
    });
  }

  remove(volumes: readonly api.VolumeRef[], options: api.RunOptions = {}) {
    return this.#do(async () =>
      members.removeVolumes(this.#state, await this.#volumes(volumes), options),
    );
  }

  addDisk(path: string, name: string, type: api.DiskInfo['type'], options: api.RunOptions = {}) {
    return this.#do(async () => {
      await members.addDisk(this.#state, path, name, type, this.#owner, options);
      return describeDisk(this.#state, name);
    });
  }

  removeDisk(name: string, options: api.RunOptions = {}) {
    return this.#do(() => members.removeDisk(this.#state, name, options));
  }

  addVolume(disk: string, name: string, size: number, options: api.RunOptions = {}) {
    return this.#do(async () => {
      await members.addVolume(this.#state, disk, name, size, options);
      return describeVolume(this.#state, this.#state.volume(name));
    });
  }

  removeClass(options: api.RunOptions = {}) {
    return this.#do(async () => {
      const [volume] = this.#state.record.volumes;
      if (volume) {
        throw new KageError('not-permitted', `class ${this.name}: holds volume ${volume.name}`, {
          hint: 'remove its volumes first',
          data: { class: this.name },
        });
      }
      if (options.dryRun) return;
      await this.#state.commit(markRemoved, { clean: true });
      this.#stop();
      reach('class:removed');
      try {
        await finishRemoval(this.#state.folder, this.#state.record);
      } finally {
        await this.#state.dispose();
      }
      await this.#state.folder.removeSelf();
    });
  }

  start(volumes: readonly api.VolumeRef[], options: api.StartOptions = {}) {
    return this.#do(async () =>
      members.startVolumes(this.#state, await this.#volumes(volumes), options),
    );
  }

  stop(volumes: readonly api.VolumeRef[], options: { force?: boolean } = {}) {
    return this.#do(async () =>
      members.stopVolumes(this.#state, await this.#volumes(volumes), options),
    );
  }

  lock(volumes: readonly api.VolumeRef[]) {
    return this.#setLocked(volumes, true);
  }

  unlock(volumes: readonly api.VolumeRef[]) {
    return this.#setLocked(volumes, false);
  }

  fix(volume: api.VolumeRef) {
    return this.#do(async () =>
      members.fixVolume(this.#state, await members.findVolume(this.#state, volume)),
    );
  }

  join(
    master: api.VolumeRef,
    proxy: api.VolumeRef,
    options: Parameters<api.DiskClass['join']>[2] = {},
  ) {
    return this.#run(async () => {
      const known = await this.#pairOf(proxy);
      const busy = await this.#clearTheWay('join', known ? [known] : [], options);
      return busy ?? joinPair(this.#state, this.#link, master, proxy, this.#owner, options);
    }, options);
  }

  relate(
    master: api.VolumeRef,
    proxy: api.VolumeRef,
    options: Parameters<api.DiskClass['relate']>[2] = {},
  ) {
    return this.#do(() => relatePair(this.#state, this.#link, master, proxy, this.#owner, options));
  }

  part(proxies: readonly api.VolumeRef[], options: Parameters<api.DiskClass['part']>[1] = {}) {
    return this.#verb('part', proxies, options);
  }

  rejoin(proxies: readonly api.VolumeRef[], options: Parameters<api.DiskClass['rejoin']>[1] = {}) {
    return this.#verb('rejoin', proxies, options);
  }

  restore(
    proxies: readonly api.VolumeRef[],
    options: Parameters<api.DiskClass['restore']>[1] = {},
  ) {
    return this.#verb(options.keep ? 'restoreKeep' : 'restore', proxies, options);
  }

  async update(
    proxies: readonly api.VolumeRef[],
    options: Parameters<api.DiskClass['update']>[1] = {},
  ) {
    if (options.quiesce && !this.#state.live) {
      throw new KageError('usage', 'update: a freeze around it needs a server', {
        hint: 'without one the service must stand still until the copy has ended: stop it yourself',
      });
    }
    return await this.#verb('update', proxies, options);
  }

  swap(proxy: api.VolumeRef, options: api.CopyOptions = {}) {
    return this.#verb('swap', [proxy], options);
  }

  cancel(proxy: api.VolumeRef, options: api.RunOptions = {}) {
    return this.#verb('cancel', [proxy], options);
  }

  break(proxy: api.VolumeRef, options: api.RunOptions & { restore?: boolean } = {}) {
    return this.#verb('break', [proxy], options);
  }

  async verify(proxies: readonly api.VolumeRef[], options: api.VerifyOptions = {}) {
    const begun = await this.#do(async () => {
      const ids = (await this.#pairs(proxies)).map(({ id }) => id);
      if (this.#state.live) return { report: this.#verifyBeside(ids, options) };
      return { report: await this.#verifyAll(ids, options) };
    });
    return await begun.report;
  }

  async #verifyAll(ids: readonly number[], options: api.VerifyOptions): Promise<api.VerifyReport> {
    const pairs = [];
    for (const id of ids) pairs.push(await verifyPair(this.#state, this.#link, id, options));
    return { verb: 'verify', class: this.name, pairs };
  }

  /** Beside whatever else is called; closing the class stops it. */
  #verifyBeside(ids: readonly number[], options: api.VerifyOptions): Promise<api.VerifyReport> {
    const stop = new AbortController();
    const abort = () => stop.abort();
    options.signal?.addEventListener('abort', abort);
    if (options.signal?.aborted) abort();
    const work = this.#verifyAll(ids, { ...options, signal: stop.signal });
    const reader = { abort, ended: work.then(nothing, nothing) };
    this.#readers.add(reader);
    void reader.ended.then(() => {
      options.signal?.removeEventListener('abort', abort);
      this.#readers.delete(reader);
    });
    return work;
  }

  write(volume: api.VolumeRef, offset: number, data: Uint8Array) {
    return this.#do(async () => {
      const record = await this.#usable(volume, offset, data.byteLength);
      if (record.readOnly) throw members.startedReadOnly(record.name);
      this.#beats = true;
      this.#state.addUser(record.id);
      try {
        await this.#link.write(record.id, offset, data);
      } finally {
        this.#state.removeUser(record.id);
      }
    });
  }

  read(volume: api.VolumeRef, offset: number, length: number) {
    return this.#do(async () => {
      const record = await this.#usable(volume, offset, length);
      const into = new Uint8Array(length);
      await this.#link.read(record.id, offset, into);
      return into;
    });
  }

  flush(volume: api.VolumeRef) {
    return this.#do(async () => {
      const record = await members.findVolume(this.#state, volume);
      await this.#link.flush(record.id);
    });
  }

  attach(volume: api.VolumeRef, options: { readOnly?: boolean } = {}) {
    return this.#do(async () => {
      if (!this.#state.live) throw new KageError('usage', `class ${this.name}: not opened live`);
      await this.#lookAtProxy(volume);
      this.#state.requireIntact();
      const record = await this.#usable(volume, 0, 0);
      return attachVolume(this.#state, this.#link, record, {
        readOnly: options.readOnly ?? false,
        increment: freezeIncrement(this.#state, record),
        written: () => {
          this.#beats = true;
          this.#alive?.beat();
        },
      });
    });
  }

  look() {
    return lookAt(this.#state);
  }

  info() {
    return this.#do(async () => describeClass(this.#state, null, undefined));
  }

  close() {
    if (!this.#open) return this.#closing ?? Promise.resolve();
    const works = () => [...this.#copies.values(), ...this.#readers];
    for (const work of works()) work.abort();
    this.#closing ??= this.#do(async () => {
      this.#stop();
      await Promise.all(
        works().map((work) => {
          // What began while this waited for its turn.
          work.abort();
          return work.ended;
        }),
      );
      try {
        if (this.#state.changed && !this.#state.broken) await this.#writeDown(true);
        await this.#alive?.close(this.#state.folder);
      } finally {
        await this.#state.dispose();
      }
    });
    return this.#closing;
  }

  #stop(): void {
    this.#open = false;
    clearInterval(this.#heart);
  }

  /** Everything durable, the log empty, the identities recorded: one commit. */
  async #writeDown(clean: boolean): Promise<void> {
    const state = this.#state;
    const disks = [...state.written];
    for (const disk of disks) {
      // Nobody relies on what an INVALID volume holds, nor on its disk's answer.
      const volume = state.record.volumes.find((v) => v.disk === disk && v.invalid === null);
      if (volume && !state.problems.has(disk)) await state.flushVolume(volume);
    }
    for (const record of state.record.pairs) {
      const pair = state.pair(record);
      await this.#link.settle({ record, pair });
      await pair.save('changed');
      await pair.save('increment');
    }
    if (clean && state.logIsOpen) await this.#link.emptyLog();
    const stamps = await takeStamps(state);
    reach('close:stamped');
    await state.commit(
      (next) => {
        for (const disk of next.disks) disk.stamp = stamps.get(disk.name) ?? disk.stamp;
      },
      { clean },
    );
  }

  /** While clients write: what a crash would cost is bounded by this. */
  async #heartbeat(): Promise<void> {
    this.#beats = false;
    if (this.#open && !this.#state.broken) await this.#writeDown(false);
  }

  #do<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(() => {
      // The call before this one may have been the last.
      if (!this.#open) throw new KageError('usage', `class ${this.name}: used after close`);
      return work();
    });
    this.#queue = result.catch(() => {});
    return result;
  }

  async #verb(
    verb: Verb,
    proxies: readonly api.VolumeRef[],
    options: VerbOptions & { quiesce?: api.Quiesce },
  ): Promise<api.VerbReport> {
    const still = this.#stillness(`${verb} ${proxies.join(', ')}`, options);
    const begin = async () => {
      const records = await this.#pairs(proxies);
      const busy = await this.#clearTheWay(verb, records, options);
      const isCopying = (pair: number) => this.#copies.has(pair);
      const all = { ...options, isCopying, still };
      return busy ?? beginVerb(this.#state, this.#link, verb, records, all);
    };
    const work = this.#run(begin, options);
    return await (still?.around(work) ?? work);
  }

  #stillness(what: string, options: VerbOptions & { quiesce?: api.Quiesce }) {
    const { quiesce, dryRun, signal } = options;
    return quiesce && !dryRun ? new Stillness(what, quiesce, this.#state.host, signal) : undefined;
  }

  /**
   * Begins a verb in its turn and copies what it has to: before the next call, or, while clients use
   * the class, beside whatever comes next. `begin` answers a promise in an array when something has to
   * end first that others may wait for in their turn.
   */
  async #run(
    begin: () => Promise<Begun | readonly Promise<void>[]>,
    options: api.CopyOptions,
  ): Promise<api.VerbReport> {
    if (!this.#state.live) {
      return await this.#do(async () => {
        const begun = (await begin()) as Begun;
        await begun.copy(options.signal);
        return begun.report();
      });
    }
    for (;;) {
      const begun = await this.#do(async () => {
        const answer = await begin();
        return 'report' in answer ? { answer, copying: this.#copyBeside(answer, options) } : answer;
      });
      if ('answer' in begun) {
        // Whoever does not wait sees in `info` how it ended.
        if (options.wait === false) begun.copying.catch(() => {});
        else await begun.copying;
        return begun.answer.report();
      }
      await endedOrAborted(begun, options.signal);
    }
  }

  /** The copy of a verb, which others can stop by its pairs. Its error is for whoever waits for it. */
  #copyBeside(begun: Begun, options: api.CopyOptions): Promise<void> {
    if (begun.copies.length === 0) return Promise.resolve();
    const controller = new AbortController();
    const abort = () => controller.abort();
    options.signal?.addEventListener('abort', abort);
    if (options.signal?.aborted) abort();
    const copy = { ended: Promise.resolve(), abort };
    const beat = () => this.#alive?.beat();
    const beating = this.#hasTime ? setInterval(beat, COPY_BEAT_MS) : undefined;
    this.#alive?.beat();
    const work = begun.copy(controller.signal).finally(() => {
      clearInterval(beating);
      options.signal?.removeEventListener('abort', abort);
      for (const id of begun.copies) {
        if (this.#copies.get(id) === copy) this.#copies.delete(id);
      }
      if (this.#copies.size === 0) this.#resume();
    });
    copy.ended = work.catch(() => {});
    for (const id of begun.copies) this.#copies.set(id, copy);
    return work;
  }

  /**
   * What is being copied for these pairs ends before `verb` begins: a part waits for it, an instant
   * part goes on beside it, everything else stops it. A restore stops the copies to joined siblings,
   * too; they go on afterwards.
   */
  async #clearTheWay(
    verb: Verb,
    records: readonly PairRecord[],
    options: VerbOptions,
  ): Promise<readonly Promise<void>[] | undefined> {
    if (options.dryRun || (verb === 'part' && options.instant)) return undefined;
    const own = records.flatMap(({ id }) => this.#copies.get(id) ?? []);
    if (verb === 'part' || verb === 'swap') {
      return own.length === 0 ? undefined : own.map(({ ended }) => ended);
    }
    // Nothing is stopped for a verb that is refused.
    guardVerb(this.#state, verb, records, options);
    const siblings = VERBS[verb].spreads
      ? records.flatMap((r) => this.#state.siblings(r)).filter((s) => this.#copies.has(s.id))
      : [];
    for (const { id } of siblings) this.#stopped.add(id);
    const running = [...own, ...siblings.map(({ id }) => this.#copies.get(id)!)];
    for (const copy of running) copy.abort();
    await Promise.all(running.map(({ ended }) => ended));
    return undefined;
  }

  /** Takes up the copies to joined proxies that a restore has stopped. */
  #resume(): void {
    const stopped = [...this.#stopped];
    this.#stopped.clear();
    for (const id of stopped) {
      const record = this.#state.record.pairs.find((p) => p.id === id);
      if (!this.#open || !record?.joined || this.#state.pair(record).pendingEmpty) continue;
      const proxy = this.#state.volumeById(record.proxy).name;
      // Whoever looks sees that it is joining, or why not.
      this.#verb('join', [proxy], { wait: false }).catch(() => {});
    }
  }

  /** What a stranger wrote to a snapshot since the last look is in no map. */
  async #lookAtProxy(ref: api.VolumeRef): Promise<void> {
    const volume = await members.findVolume(this.#state, ref);
    const pair = volume.readOnly ? this.#state.pairOfProxy(volume) : undefined;
    if (pair && !pair.joined) await this.#state.turn(() => lookAgain(this.#state, [pair]));
  }

  async #pairOf(ref: api.VolumeRef): Promise<PairRecord | undefined> {
    const volume = await members.findVolume(this.#state, ref).catch(() => undefined);
    return volume && this.#state.pairOfProxy(volume);
  }

  #setLocked(volumes: readonly api.VolumeRef[], locked: boolean) {
    return this.#do(async () =>
      members.setFlag(this.#state, await this.#volumes(volumes), (volume) => {
        volume.locked = locked;
      }),
    );
  }

  async #volumes(refs: readonly api.VolumeRef[]): Promise<VolumeRecord[]> {
    const volumes: VolumeRecord[] = [];
    for (const ref of refs) {
      const volume = await members.findVolume(this.#state, ref);
      if (!volumes.includes(volume)) volumes.push(volume);
    }
    return volumes;
  }

  /** The pairs whose proxies are named; a master with one proxy stands for that. */
  async #pairs(refs: readonly api.VolumeRef[]): Promise<PairRecord[]> {
    if (refs.length === 0) throw new KageError('usage', 'name at least one proxy');
    const pairs: PairRecord[] = [];
    for (const volume of await this.#volumes(refs)) {
      const pair = this.#state.pairOfProxy(volume);
      if (!pair) throw this.#noProxy(volume);
      pairs.push(pair);
    }
    return pairs;
  }

  #noProxy(volume: VolumeRecord): KageError {
    const proxies = this.#state.pairsOf(volume).map((p) => this.#state.volumeById(p.proxy).name);
    return new KageError(
      'wrong-state',
      proxies.length > 0
        ? `${volume.name}: is a master, not a proxy`
        : `${volume.name}: is not the proxy of any volume`,
      {
        hint: proxies.length > 0 ? `its proxies: ${proxies.join(', ')}` : undefined,
        data: { volume: volume.name },
      },
    );
  }

  async #usable(ref: api.VolumeRef, offset: number, length: number): Promise<VolumeRecord> {
    const volume = await members.findVolume(this.#state, ref);
    this.#state.usable(volume);
    members.requireWhole(this.#state, volume);
    if (!volume.started) {
      throw new KageError('wrong-state', `${volume.name}: is stopped`, {
        hint: `kage start ${volume.name}`,
        data: { volume: volume.name },
      });
    }
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > volume.size) {
      throw new KageError(
        'usage',
        `${volume.name}: bytes ${offset} to ${offset + length} are not inside its ${volume.size} bytes`,
        { data: { volume: volume.name, size: volume.size } },
      );
    }
    return volume;
  }
}

/** Waits for what others run; whoever gives up does not wait for its end. */
async function endedOrAborted(
  running: readonly Promise<void>[],
  signal: AbortSignal | undefined,
): Promise<void> {
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(interrupted('waiting for an unfinished copy'));
  });
  signal?.addEventListener('abort', stop);
  if (signal?.aborted) stop();
  try {
    await Promise.race([Promise.all(running), aborted]);
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
