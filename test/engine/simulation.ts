/**
 * The real engine in a world in memory, driven from one seed: random verbs, client writes, foreign
 * writes, aborted copies, failing disks, processes killed and power cut at any step; held against a
 * model of versions a sector. After everything the invariants of DESIGN section 2 are checked on the
 * bytes themselves.
 */

import assert from 'node:assert';
import { KageError } from '../../src/base/errors.ts';
import { setFaultHook } from '../../src/base/faults.ts';
import { loadRoots } from '../../src/catalog/root.ts';
import { MemoryHost, PowerCut, seededRandom } from '../../src/device/memory-host.ts';
import type {
  ClassInfo,
  CopyOptions,
  DiskClass,
  VerbReport,
  VolumeInfo,
} from '../../src/engine/api.ts';
import { openClass, readClass } from '../../src/engine/open.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { Pair } from '../../src/proxy/pair.ts';

const SECTOR = 512;
const REGION = 4096;
/** Twelve regions and a bit: no multiple of the region, nor of the sector. */
const SIZE = 12 * REGION + 1300;
const SECTORS = Math.ceil(SIZE / SECTOR);
const PROXIES = ['p1', 'p2'];
const HOME = '/home';
const NAME = 'sim';

/** Allowed versions of each sector: the flushed one, then later ones; the last is current. */
type Content = number[][];
type Sides = { content: Content[] | null; mayBeInvalid: boolean };

export type SimulationOptions = {
  /** `cuts`: nobody else writes and power fails; `strangers`: others write and processes are killed. */
  readonly mode: 'cuts' | 'strangers';
  readonly steps: number;
};

/** What a run did, so that a test can see that it tested something. */
export type SimulationCounts = Record<string, number>;

export async function simulate(
  seed: number,
  options: SimulationOptions,
): Promise<SimulationCounts> {
  const simulation = new Simulation(seed, options);
  try {
    await simulation.run();
    return simulation.counts;
  } catch (error) {
    const text = error instanceof Error ? error.stack : String(error);
    throw new Error(
      `seed ${seed} ${options.mode}: ${text}\n  ${simulation.trace.slice(-60).join('\n  ')}`,
    );
  } finally {
    setFaultHook();
  }
}

class Simulation {
  readonly host: MemoryHost;
  readonly kernel: Kernel = createKernel('js');
  readonly options: SimulationOptions;
  readonly random: () => number;
  readonly trace: string[] = [];
  readonly counts: SimulationCounts = {};
  readonly model = new Map<string, Sides>();
  #class: DiskClass | undefined;
  #version = 1;

  constructor(seed: number, options: SimulationOptions) {
    this.host = new MemoryHost(seed);
    this.random = seededRandom(seed ^ 0x5eed);
    this.options = options;
  }

  async run(): Promise<void> {
    await this.#begin();
    for (let i = 0; i < this.options.steps; i++) {
      await this.#step();
    }
    await this.#reopen('close');
  }

  async #begin(): Promise<void> {
    for (const name of ['m', ...PROXIES]) {
      const disk = this.host.addDisk(`/${name}.img`, SIZE);
      const version = this.#version++;
      for (let s = 0; s < SECTORS; s++) disk.write(sectorBytes(s, version), s * SECTOR);
      disk.flush();
      this.model.set(name, { content: [fill(version)], mayBeInvalid: false });
    }
    const disks = await this.#open();
    const exclusive = this.options.mode === 'cuts';
    await disks.add(['m', ...PROXIES].map((name) => ({ path: `/${name}.img`, name, exclusive })));
  }

  // One random event

  async #step(): Promise<void> {
    const kinds = ['verb', 'verb', 'verb', 'write', 'write', 'write', 'flush', 'close'];
    if (this.options.mode === 'cuts') kinds.push('cut', 'cut', 'cutVerb', 'cutVerb', 'cutWrite');
    else kinds.push('kill', 'killVerb', 'foreign', 'foreign', 'killWrite');
    kinds.push('fault');
    const kind = this.#pick(kinds);
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    switch (kind) {
      case 'verb':
        return await this.#verb();
      case 'write':
        return await this.#write();
      case 'flush':
        return await this.#flush();
      case 'close':
        return await this.#reopen('close');
      case 'foreign':
        return await this.#foreign();
      case 'fault':
        return await this.#withFault();
      case 'cut':
      case 'kill':
        return await this.#crash();
      default:
        return await this.#interrupted(kind.endsWith('Verb'));
    }
  }

  /** Runs a verb or a write, and stops the world in the middle of it. */
  async #interrupted(verb: boolean): Promise<void> {
    let left = 1 + Math.floor(this.random() ** 2 * 60);
    const strike = () => {
      if (this.#checking || --left !== 0) return;
      this.#log('the world stops');
      this.#stopWorld();
      throw new PowerCut();
    };
    setFaultHook(strike);
    this.host.onOperation = strike;
    try {
      await (verb ? this.#verb() : this.#write());
    } finally {
      setFaultHook();
      this.host.onOperation = undefined;
    }
    await this.#crash();
  }

  #stopWorld(): void {
    if (this.options.mode === 'cuts') this.host.cutPower();
    else this.host.killProcesses();
  }

  async #crash(): Promise<void> {
    this.#log('crash');
    this.#stopWorld();
    this.#class = undefined;
    for (const pair of (await this.#info()).pairs) {
      if (pair.pendingRegions === 0 || this.options.mode === 'cuts') continue;
      this.#side(pair.direction === 'toProxy' ? pair.proxy : pair.master).mayBeInvalid = true;
    }
    await this.#audit('after the crash');
    await this.#open();
    await this.#check('after recovery');
  }

  /** A disk fails for one operation in the middle of something. */
  async #withFault(): Promise<void> {
    const disk = this.host.disks.get(`/${this.#pick(['m', ...PROXIES])}.img`)!;
    const operation = this.#pick(['read', 'write', 'flush'] as const);
    let left = 1 + Math.floor(this.random() * 12);
    this.#log(`fault: ${operation} of ${disk.name}, the ${left}.`);
    for (const side of this.model.values()) side.mayBeInvalid = true;
    disk.fault = (op) => {
      if (!this.#checking && op === operation && --left <= 0)
        throw new KageError('io-error', `${disk.name}: fault`);
    };
    try {
      await (this.random() < 0.6 ? this.#verb() : this.#write());
    } finally {
      disk.fault = undefined;
    }
    // A joined proxy whose disk failed is parted and INVALID, and so is a copy's target.
    for (const side of this.model.values()) side.mayBeInvalid = true;
    await this.#reopen('close after a fault');
  }

  async #reopen(why: string): Promise<void> {
    this.#log(why);
    try {
      await this.#class?.close();
    } catch (error) {
      if (!(error instanceof KageError)) throw error;
      this.#log(`close failed: ${error.message}`);
      this.host.killProcesses();
    }
    this.#class = undefined;
    await this.#audit(why);
    await this.#open();
    await this.#check(why);
  }

  async #open(): Promise<DiskClass> {
    this.#class ??= await openClass(NAME, {
      home: HOME,
      host: this.host,
      kernel: 'js',
      create: true,
      // As small as one write allows, so that extents leave the log all the time.
      tuning: { extentSize: REGION, extentsMax: 5 },
    });
    return this.#class;
  }

  // Client writes

  async #write(): Promise<void> {
    const name = this.#pick(['m', 'm', ...PROXIES]);
    // Often where the last write was: one region written from both sides is the hard case.
    const first = this.random() < 0.4 ? this.#lastFirst : Math.floor(this.random() * SECTORS);
    this.#lastFirst = first;
    const count = Math.min(
      SECTORS - first,
      1 + Math.floor(this.random() * this.#pick([3, 10, 30])),
    );
    const version = this.#version++;
    const bytes = versionBytes(first, count, version);
    const disks = await this.#open();
    try {
      await disks.write(name, first * SECTOR, bytes);
    } catch (error) {
      this.#log(`write ${name} ${first}+${count} v${version}: ${tell(error)}`);
      if (error instanceof KageError && ['wrong-state', 'image-changed'].includes(error.code))
        return;
      if (!expected(error)) throw error;
      this.#noteWrite(name, first, count, version);
      // A failed write leaves old or new bytes, sector by sector: only a look can tell.
      if (!(error instanceof PowerCut)) this.#unsureNames.add(name);
      return;
    }
    this.#log(`write ${name} ${first}+${count} v${version}`);
    this.#noteWrite(name, first, count, version);
    if (this.random() < 0.3) await this.#flush(name);
  }

  #noteWrite(name: string, first: number, count: number, version: number, foreign = false): void {
    const contents = [...(this.#side(name).content ?? [])];
    // While a joined pair is restored, what clients write to the master is mirrored to the proxy.
    if (name === 'm' && this.#mirrors && !foreign) contents.push(...(this.#restoring ?? []));
    for (const content of contents) {
      for (let s = first; s < first + count; s++) content[s] = [...content[s], version];
    }
  }

  #lastFirst = 0;
  readonly #unsureNames = new Set<string>();

  async #flush(name = this.#pick(['m', ...PROXIES])): Promise<void> {
    try {
      await (await this.#open()).flush(name);
    } catch (error) {
      this.#log(`flush ${name}: ${tell(error)}`);
      if (!expected(error)) throw error;
      return;
    }
    this.#log(`flush ${name}`);
    if (!this.#unsureNames.has(name)) this.#collapse(name);
  }

  /** Somebody else writes to an image while no process has the class open. */
  async #foreign(): Promise<void> {
    await this.#reopen('close for a stranger');
    await this.#class?.close();
    this.#class = undefined;
    const info = await this.#info();
    const name = this.#pick(['m', ...PROXIES]);
    const volume = info.volumes.find((v) => v.name === name)!;
    const first = Math.floor(this.random() * SECTORS);
    const version = this.#version++;
    this.#log(`a stranger writes ${name} (${volume.path}) ${first} v${version}`);
    this.host.disks.get(volume.path)!.write(sectorBytes(first, version), first * SECTOR);
    this.#noteWrite(name, first, 1, version, true);
    this.#collapse(name);
    for (const pair of info.pairs) {
      const inPair = pair.master === name || pair.proxy === name;
      if (!inPair || pair.pendingRegions === 0) continue;
      if (pair.direction === 'toMaster' && pair.proxy === name) {
        // A restore that goes on brings the proxy as it is by then.
        for (const content of this.#restoring ?? []) content[first] = [version];
        for (const content of this.#side('m').content ?? []) content[first].push(version);
      }
      this.#side(pair.direction === 'toProxy' ? pair.proxy : pair.master).mayBeInvalid = true;
    }
    await this.#open();
    await this.#check('after a stranger');
  }

  // Verbs

  async #verb(): Promise<void> {
    const disks = await this.#open();
    const proxy = this.#pick(PROXIES);
    const before = await this.#info();
    const verb = this.#pick(this.#likely(before, proxy));
    const several = ['part', 'rejoin', 'update'].includes(verb) && this.random() < 0.2;
    const both = several ? PROXIES : [proxy];
    const options = this.#copyOptions();
    this.#log(`${verb} ${both.join()} ${options.signal ? '(to be stopped)' : ''}`);
    let continued: readonly string[] = [];
    try {
      const report = await this.#call(disks, verb, proxy, both, options);
      continued = goneOn(report);
    } catch (error) {
      this.#log(`  ${tell(error)}`);
      if (!expected(error)) throw error;
      this.#afterFailedVerb(verb, both, before, error);
      return;
    }
    this.counts[`did ${verb}`] = (this.counts[`did ${verb}`] ?? 0) + 1;
    this.#afterVerb(verb, proxy, both, continued);
    await this.#check(`after ${verb}`);
  }

  /** Mostly verbs that the state allows, so that the interesting states are reached. */
  #likely(info: ClassInfo, proxy: string): readonly string[] {
    const all = [
      'join',
      'part',
      'rejoin',
      'restore',
      'restoreKeep',
      'update',
      'swap',
      'cancel',
      'break',
      'relate',
      'verify',
    ];
    const pair = info.pairs.find((p) => p.proxy === proxy);
    if (this.random() < 0.15) return all;
    if (!pair) return ['join', 'join', 'join', 'relate'];
    if (pair.joined && pair.direction === 'toMaster') return ['restore', 'restore', 'break'];
    if (pair.joined) return ['part', 'part', 'part', 'part', 'swap', 'join'];
    if (pair.pendingRegions > 0) return ['update', 'restore', 'restoreKeep', 'rejoin', 'cancel'];
    return ['rejoin', 'rejoin', 'restore', 'restoreKeep', 'update', 'update', 'break', 'verify'];
  }

  #copyOptions(): CopyOptions {
    const compare = this.random() < 0.15;
    if (this.random() < 0.6) return { compare };
    const controller = new AbortController();
    let left = Math.floor(this.random() * 14);
    const stop = this.random() < 0.7;
    return {
      compare,
      // One region a piece, each long enough that it is made durable by itself.
      rateBytesPerSec: 700,
      signal: controller.signal,
      onProgress: () => {
        if (stop && left-- <= 0) controller.abort();
      },
    };
  }

  async #call(
    disks: DiskClass,
    verb: string,
    proxy: string,
    both: readonly string[],
    options: CopyOptions,
  ): Promise<unknown> {
    const instant = this.random() < 0.5;
    switch (verb) {
      case 'join':
        return await disks.join('m', proxy, { ...options, regionSize: REGION });
      case 'relate':
        return await disks.relate('m', proxy, { regionSize: REGION });
      case 'part':
        return await disks.part(both, options);
      case 'rejoin':
        return await disks.rejoin(both, options);
      case 'restore':
        return await disks.restore([proxy], { ...options, instant });
      case 'restoreKeep':
        return await disks.restore([proxy], { ...options, instant, keep: true });
      case 'update':
        return await disks.update(both, { ...options, instant });
      case 'swap':
        return await disks.swap(proxy, options);
      case 'cancel':
        return await disks.cancel(proxy);
      case 'verify': {
        const report = await disks.verify([proxy]);
        for (const pair of report.pairs) {
          if (this.options.mode === 'cuts') assert.equal(pair.unexpected, 0, 'verify found a lie');
        }
        return report;
      }
      default:
        return await disks.break(proxy, { restore: this.random() < 0.5 });
    }
  }

  #afterVerb(
    verb: string,
    proxy: string,
    all: readonly string[],
    continued: readonly string[],
  ): void {
    const m = this.#side('m');
    const keepsMoment = ['update', 'restore', 'restoreKeep'].includes(verb);
    const both = keepsMoment ? all.filter((p) => !continued.includes(p)) : all;
    if (continued.length > 0 && keepsMoment) {
      // The moment is that of the first run: what the sides may hold is known since then.
      this.counts.continued = (this.counts.continued ?? 0) + 1;
      for (const p of continued) this.#side(p).mayBeInvalid = false;
      if (verb !== 'update') {
        if (verb === 'restore') this.#set(proxy, null);
        m.mayBeInvalid = false;
        this.#restoring = null;
        return;
      }
    }
    if (verb !== 'verify' && verb !== 'cancel' && verb !== 'relate') this.#collapse('m');
    if (verb === 'join') this.#set(proxy, null);
    if (verb === 'part' || verb === 'update') {
      for (const p of both) this.#set(p, m.content && copyOf(m.content));
    }
    if (verb === 'rejoin') for (const p of both) this.#set(p, null);
    if (verb === 'restore' || verb === 'restoreKeep') {
      this.#collapse(proxy);
      const source = this.#side(proxy).content;
      // A restore that went on after its first commit has no separate proxy content to know.
      this.#set('m', source ? copyOf(source) : this.#restoring);
      if (verb === 'restore') this.#set(proxy, null);
      this.#restoring = null;
    }
    if (verb === 'swap') for (const p of [proxy]) this.#set(p, null);
    if (verb === 'break' || verb === 'cancel') {
      this.#side('m').mayBeInvalid = this.#side(proxy).mayBeInvalid = true;
      this.#askUnknown.add('m').add(proxy);
    }
  }

  /** Content that an interrupted restore is bringing to the master. */
  #restoring: Content[] | null = null;
  /** That restore keeps the pair joined. */
  #mirrors = false;
  /** Volumes whose content has to be taken from the disk: the model cannot know it. */
  readonly #askUnknown = new Set<string>();

  /** Stopped, crashed, failed or refused: which contents are possible now. */
  #afterFailedVerb(verb: string, both: readonly string[], before: ClassInfo, error: unknown): void {
    if (error instanceof KageError && REFUSALS.includes(error.code)) return;
    const m = this.#side('m');
    for (const p of both) {
      const side = this.#side(p);
      const parted = before.pairs.some((pair) => pair.proxy === p && !pair.joined);
      if (verb === 'restore' || verb === 'restoreKeep') {
        m.mayBeInvalid = true;
        if (side.content) {
          this.#restoring = copyOf(side.content);
          this.#mirrors = verb === 'restore';
        }
        if (parted && side.content && m.content)
          m.content = [...m.content, ...copyOf(side.content)];
        // Taken up again, it may have been finished before the world stopped.
        if (!parted && this.#restoring) {
          m.content = [...(m.content ?? []), ...copyOf(this.#restoring)];
        }
      }
      if (verb === 'part' || verb === 'update') {
        side.mayBeInvalid = true;
        const snapshot = m.content && copyOf(m.content);
        side.content = snapshot && side.content ? [...side.content, ...snapshot] : snapshot;
      }
      if (['join', 'rejoin', 'swap'].includes(verb)) side.mayBeInvalid = true;
      if (verb === 'break' || verb === 'cancel') {
        m.mayBeInvalid = side.mayBeInvalid = true;
        this.#askUnknown.add(p).add('m');
      }
    }
    if (verb === 'swap') this.#askUnknown.add('m');
  }

  // Checks

  /** Through the engine's own eyes: what it calls valid must be what the model allows. */
  async #check(where: string): Promise<void> {
    this.#checking = true;
    await this.#checkAll(where);
    this.#checking = false;
  }

  /** The world neither fails nor stops while we look at it. */
  #checking = false;

  async #checkAll(where: string): Promise<void> {
    const info = await this.#info();
    for (const volume of info.volumes) {
      const side = this.#side(volume.name);
      const joined = info.pairs.some((p) => p.proxy === volume.name && p.joined);
      if (joined) {
        this.#set(volume.name, null);
        continue;
      }
      if (volume.status === 'INVALID') {
        assert.ok(side.mayBeInvalid, `${where}: ${volume.name} is INVALID: ${volume.problem}`);
        continue;
      }
      const found = await this.#contentOf(volume, `${where}: ${volume.name}`);
      const known = side.content !== null && !this.#askUnknown.has(volume.name);
      if (known) this.#mustMatch(side.content!, found, `${where}: ${volume.name}`);
      this.#askUnknown.delete(volume.name);
      this.#unsureNames.delete(volume.name);
      // What is on the disk now is the one content; what is not yet flushed may still be lost.
      side.content =
        known && !where.includes('crash') && !where.includes('recovery')
          ? [narrow(side.content!, found)]
          : [found.map((v) => [v])];
      if (!info.pairs.some((p) => p.pendingRegions > 0)) side.mayBeInvalid = false;
    }
  }

  #mustMatch(candidates: readonly Content[], found: readonly number[], where: string): void {
    const fits = candidates.some((c) => c.every((versions, s) => versions.includes(found[s])));
    if (fits) return;
    const bad = candidates.map((c) => {
      const s = c.findIndex((versions, i) => !versions.includes(found[i]));
      return `sector ${s} holds v${found[s]}, allowed ${c[s].map((v) => `v${v}`)}`;
    });
    assert.fail(`${where}: ${bad.join(' | ')}`);
  }

  /** Nobody has the class open: no region that is believed equal may differ. */
  async #audit(where: string): Promise<void> {
    const folder = this.host.folder(HOME).folder('classes').folder(NAME);
    const { record, closed } = await loadRoots(folder, this.kernel);
    assert.equal(closed, null, `${where}: the class is closed`);
    if (!record) return;
    const hot = new Set((await this.#hotExtents(record.clean)).map((e) => e.volume));
    for (const pairRecord of record.pairs) {
      const { pair } = await Pair.load(folder, pairRecord, SIZE, this.kernel, {
        clean: record.clean,
        readOnly: true,
      });
      const side = (id: number) => record.volumes.find((v) => v.id === id)!;
      const [master, proxy] = [side(pairRecord.master), side(pairRecord.proxy)];
      const disk = (name: string) =>
        this.host.disks.get(record.disks.find((d) => d.name === name)!.path)!.content;
      // Before recovery, hot extents (here: all of a volume) are in doubt as well.
      const doubt = pairRecord.doubt !== null || hot.has(master.id) || hot.has(proxy.id);
      const strangers = this.options.mode === 'strangers';
      if (!doubt && !strangers) {
        for (let r = 0; r < pair.regions; r++) {
          if (pair.maps.changed.has(r) || pair.maps.pending.has(r)) continue;
          const a = disk(master.disk).subarray(r * REGION, (r + 1) * REGION);
          const b = disk(proxy.disk).subarray(r * REGION, (r + 1) * REGION);
          assert.ok(
            Buffer.compare(a, b) === 0,
            `${where}: region ${r} of ${master.name}/${proxy.name} is believed equal and differs`,
          );
        }
      }
      await pair.close();
    }
  }

  async #hotExtents(clean: boolean) {
    if (clean) return [];
    const { IntentLog } = await import('../../src/bitmap/intent-log.ts');
    const folder = this.host.folder(HOME).folder('classes').folder(NAME);
    if (!(await folder.list()).includes('intent')) return [];
    const { log } = await IntentLog.open(folder, this.kernel);
    const extents = log?.extents ?? [];
    await log?.close();
    return extents;
  }

  async #info(): Promise<ClassInfo> {
    if (this.#class) return await this.#class.info();
    return await readClass(NAME, { home: HOME, host: this.host, kernel: 'js' });
  }

  /** As a client sees it: a volume whose copy is unfinished has part of its content elsewhere. */
  async #contentOf(volume: VolumeInfo, where: string): Promise<number[]> {
    const disks = this.#class;
    if (!disks) return this.#versionsOf(this.host.disks.get(volume.path)!.content, where);
    if (volume.status === 'STOP') await disks.start([volume.name], { unlock: true });
    const bytes = await disks.read(volume.name, 0, SIZE);
    if (volume.status === 'STOP') await disks.stop([volume.name]);
    return this.#versionsOf(bytes, where);
  }

  #versionsOf(bytes: Uint8Array, where: string): number[] {
    return Array.from({ length: SECTORS }, (_, s) => {
      const part = bytes.subarray(s * SECTOR, Math.min(SIZE, (s + 1) * SECTOR));
      const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
      assert.equal(view.getUint32(4, true), s, `${where}: sector ${s} holds another's content`);
      return view.getUint32(0, true);
    });
  }

  #side(name: string): Sides {
    return this.model.get(name)!;
  }

  #set(name: string, content: Content[] | null): void {
    const side = this.#side(name);
    side.content = content;
    if (content !== null) side.mayBeInvalid = false;
  }

  #collapse(name: string): void {
    const side = this.#side(name);
    if (side.content) side.content = side.content.map((c) => c.map((v) => v.slice(-1)));
  }

  #pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.random() * items.length)];
  }

  #log(text: string): void {
    this.trace.push(text);
  }
}

/** Proxies whose unfinished copy a report says to have been finished. */
function goneOn(report: unknown): string[] {
  const { pairs } = report as Partial<VerbReport>;
  return (pairs ?? [])
    .filter((pair) => pair.copy?.reason.startsWith('continues '))
    .map((pair) => pair.proxy);
}

/** Refused before anything was touched. */
const REFUSALS: readonly string[] = ['wrong-state', 'usage', 'not-permitted', 'same-file'];

function expected(error: unknown): boolean {
  return error instanceof KageError || error instanceof PowerCut;
}

function tell(error: unknown): string {
  return error instanceof KageError ? `${error.code}: ${error.message}` : String(error);
}

function fill(version: number): Content {
  return Array.from({ length: SECTORS }, () => [version]);
}

function copyOf(contents: readonly Content[]): Content[] {
  return contents.map((c) => c.map((versions) => versions.slice()));
}

/** The allowed versions up to the one that is there now. */
function narrow(candidates: readonly Content[], found: readonly number[]): Content {
  const fit = candidates.find((c) => c.every((versions, s) => versions.includes(found[s])))!;
  return fit.map((versions, s) => versions.slice(0, versions.lastIndexOf(found[s]) + 1));
}

function sectorBytes(sector: number, version: number): Uint8Array {
  return versionBytes(sector, 1, version);
}

/** Each sector holds its version and its own number. */
function versionBytes(first: number, count: number, version: number): Uint8Array {
  const bytes = new Uint8Array(Math.min(count * SECTOR, SIZE - first * SECTOR));
  const view = new DataView(bytes.buffer);
  for (let s = 0; s < count; s++) {
    view.setUint32(s * SECTOR, version, true);
    view.setUint32(s * SECTOR + 4, first + s, true);
  }
  return bytes;
}
