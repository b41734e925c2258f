/**
 * Random commands for an engine on disks in memory and for the model of it: each runs on both, and
 * afterwards every volume, pair and map must be what the model says.
 */

import assert from 'node:assert';
import fc from 'fast-check';
import { KageError } from '../../src/base/errors.ts';
import { loadRoots } from '../../src/catalog/root.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import type { CopyOptions, DiskClass, PairInfo, VolumeInfo } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { Pair } from '../../src/proxy/pair.ts';
import {
  MASTER,
  Model,
  PROXIES,
  REGION,
  REGIONS,
  regionsThatDiffer,
  SIZE,
  VERBS,
  type VerbName,
  type VerbOptions,
} from './pair-model.ts';

const HOME = '/home';
const CLASS = 'model';
const NAMES = [MASTER, ...PROXIES];
const kernel = createKernel('js');

/** The engine in a world of its own. */
export class Real {
  readonly host = new MemoryHost(1);
  #disks: DiskClass | undefined;

  get disks(): DiskClass {
    return this.#disks!;
  }

  async open(): Promise<void> {
    this.#disks = await openClass(CLASS, {
      home: HOME,
      host: this.host,
      kernel: 'js',
      create: true,
      // As small as one write allows, so that extents leave the log all the time.
      tuning: { extentSize: REGION, extentsMax: REGIONS },
    });
  }

  async close(): Promise<void> {
    await this.#disks?.close();
    this.#disks = undefined;
  }
}

export async function setUp(): Promise<{ model: Model; real: Real }> {
  const real = new Real();
  const contents = new Map<string, Uint8Array>();
  for (const [i, name] of NAMES.entries()) {
    const disk = real.host.addDisk(`/${name}.img`, SIZE);
    disk.write(
      Uint8Array.from({ length: SIZE }, (_, at) => at * 7 + i * 31),
      0,
    );
    disk.flush();
    contents.set(name, disk.content);
  }
  const model = new Model(contents);
  await real.open();
  await real.disks.add(NAMES.map((name) => ({ path: `/${name}.img`, name })));
  return { model, real };
}

// What must hold after every command

async function check(model: Model, real: Real): Promise<void> {
  const info = await real.disks.info();
  for (const pair of info.pairs) checkPair(model, pair);
  same(info.pairs.length, model.pairs.size, 'number of pairs');
  for (const volume of info.volumes) await checkVolume(model, real, volume);
}

function checkPair(model: Model, found: PairInfo): void {
  const pair = model.pairs.get(found.proxy);
  assert.ok(pair, `${found.proxy} is no proxy`);
  const seen = {
    joined: found.joined,
    pending: found.pendingRegions,
    changed: found.changedRegions,
    doubt: found.doubt !== null,
    state: found.state,
  };
  const wanted = {
    joined: pair.joined,
    pending: pair.pending.size,
    changed: pair.changed.size,
    doubt: pair.doubt,
    state: model.stateOf(pair),
  };
  same(seen, wanted, `the pair of ${found.proxy}`);
  if (pair.pending.size > 0) same(found.direction, pair.direction, found.proxy);
}

/** A volume that may be used is started, and holds what it must; others cannot be used at all. */
async function checkVolume(model: Model, real: Real, found: VolumeInfo): Promise<void> {
  const { name } = found;
  const volume = model.volume(name);
  const not = model.unusable(name);
  const idle = volume.started ? 'ACTIVE' : 'STOP';
  const status = volume.invalid || model.isHalf(name) ? 'INVALID' : idle;
  same(found.status, status, `status of ${name}`);
  if (not !== null) {
    await refused(() => real.disks.start([name]), `start of ${name}, ${not}`);
    await refused(() => real.disks.read(name, 0, 1), `read of ${name}, ${not}`);
    return;
  }
  if (!volume.started) await real.disks.start([name]);
  volume.started = true;
  const bytes = await real.disks.read(name, 0, SIZE);
  const differing = regionsThatDiffer(bytes, volume.data);
  same(differing.size, 0, `${name} differs in the regions ${[...differing]}`);
}

function same(is: unknown, must: unknown, what: string): void {
  const [a, b] = [JSON.stringify(is), JSON.stringify(must)];
  assert.ok(a === b, `${what}: is ${a}, must be ${b}`);
}

async function refused(action: () => Promise<unknown>, what: string): Promise<void> {
  try {
    await action();
  } catch (error) {
    assert.ok(error instanceof KageError && error.code === 'wrong-state', `${what}: ${error}`);
    return;
  }
  assert.fail(`not refused: ${what}`);
}

export async function closeAndAudit(model: Model, real: Real): Promise<void> {
  await real.close();
  model.close();
  await audit(model, real);
}

/** The maps as they lie on disk after an orderly close. */
async function audit(model: Model, real: Real): Promise<void> {
  const folder = real.host.folder(HOME).folder('classes').folder(CLASS);
  const { record } = await loadRoots(folder, kernel);
  for (const pairRecord of record?.pairs ?? []) {
    const proxy = record!.volumes.find((v) => v.id === pairRecord.proxy)!.name;
    const wanted = model.pairs.get(proxy)!;
    const { pair, doubts } = await Pair.load(folder, pairRecord, SIZE, kernel, {
      clean: true,
      readOnly: true,
    });
    same(doubts, {}, `the maps of ${proxy}`);
    for (const name of ['changed', 'pending'] as const) {
      for (let region = 0; region < REGIONS; region++) {
        const is = pair.maps[name].has(region);
        same(is, wanted[name].has(region), `region ${region} of ${name} of ${proxy}`);
      }
    }
    for (const region of wanted.increment ?? []) {
      assert.ok(pair.maps.increment.has(region), `region ${region} in the increment of ${proxy}`);
    }
    await pair.close();
  }
}

// Commands

type Command = fc.AsyncCommand<Model, Real>;

/** Notes what a command turned out to be, so that a failure shows it. */
abstract class Base implements Command {
  #said = '';

  check(): boolean {
    return true;
  }

  async run(model: Model, real: Real): Promise<void> {
    this.#said = '…';
    this.#said = await this.act(model, real);
    await check(model, real);
  }

  abstract act(model: Model, real: Real): Promise<string>;
  abstract describe(): string;

  toString(): string {
    return this.#said === '' || this.#said === '…' ? this.describe() : this.#said;
  }
}

export type Stop = number | null;
/** A verb of the table, whether the state allows it or not. */
class VerbCommand extends Base {
  readonly verb: VerbName;
  readonly proxies: readonly string[];
  readonly options: VerbOptions;
  /** Pieces after which the copy is stopped; null: never. */
  readonly stop: Stop;

  constructor(verb: VerbName, proxies: readonly string[], options: VerbOptions, stop: Stop) {
    super();
    this.verb = verb;
    this.proxies = proxies;
    const instant = options.instant && ['part', 'restore', 'restoreKeep', 'update'].includes(verb);
    this.options = { ...options, instant };
    this.stop = stop;
  }

  describe(): string {
    const flags = Object.entries(this.options).filter(([, on]) => on);
    const text = [this.verb, ...this.proxies, ...flags.map(([name]) => `--${name}`)].join(' ');
    return this.stop === null ? text : `${text} (stopped after ${this.stop})`;
  }

  async act(model: Model, real: Real): Promise<string> {
    const { verb, options } = this;
    const several = ['part', 'rejoin', 'update'].includes(verb);
    const proxies = several ? this.proxies : this.proxies.slice(0, 1);
    const wantsRefusal = model.refuses(verb, proxies, options);
    let interrupted = false;
    try {
      await call(real.disks, verb, proxies, options, this.stop);
    } catch (error) {
      if (!(error instanceof KageError)) throw error;
      if (wantsRefusal) {
        same(error.code, 'wrong-state', `${this.describe()}: ${error.message}`);
        return `${this.describe()}: refused`;
      }
      same(error.code, 'interrupted', `${this.describe()}: ${error.message}`);
      interrupted = true;
    }
    assert.ok(!wantsRefusal, `${this.describe()} was not refused`);
    const { pairs } = await real.disks.info();
    const pending = new Map(pairs.map((pair) => [pair.proxy, pair.pendingRegions]));
    model.perform(verb, proxies, options, { interrupted, pending });
    return `${this.describe()}${interrupted ? ': interrupted' : ''}`;
  }
}

/** Verbs that lead deeper come up more often than those that end what was begun. */
const TICKETS: Partial<Record<VerbName, number>> = {
  join: 4,
  part: 4,
  rejoin: 2,
  restore: 3,
  restoreKeep: 3,
  update: 5,
};

/** One of the verbs that the state allows: so that the deeper states are reached. */
class LikelyCommand extends Base {
  readonly choice: number;
  readonly proxy: string;
  readonly options: VerbOptions;
  readonly stop: Stop;

  constructor(choice: number, proxy: string, options: VerbOptions, stop: Stop) {
    super();
    this.choice = choice;
    this.proxy = proxy;
    this.options = options;
    this.stop = stop;
  }

  describe(): string {
    return `likely verb ${this.choice} ${this.proxy}`;
  }

  act(model: Model, real: Real): Promise<string> {
    const { proxy, options, stop } = this;
    const allowed = VERBS.filter((v) => !model.refuses(v, [proxy], options));
    const tickets = allowed.flatMap((verb) => new Array<VerbName>(TICKETS[verb] ?? 1).fill(verb));
    const verb = tickets[this.choice % tickets.length];
    return new VerbCommand(verb, [proxy], options, stop).act(model, real);
  }
}

function call(
  disks: DiskClass,
  verb: VerbName,
  proxies: readonly string[],
  options: VerbOptions,
  stop: Stop,
): Promise<unknown> {
  const { instant, compare, force } = options;
  const copy: CopyOptions = { compare, ...stopAfter(stop) };
  const [proxy] = proxies;
  switch (verb) {
    case 'join':
      return disks.join(MASTER, proxy, { ...copy, regionSize: REGION });
    case 'relate':
      return disks.relate(MASTER, proxy, { regionSize: REGION });
    case 'rejoin':
      return disks.rejoin(proxies, copy);
    case 'restoreKeep':
      return disks.restore(proxies, { ...copy, instant, keep: true });
    case 'swap':
    case 'cancel':
      return disks[verb](proxy, copy);
    case 'break':
      return disks.break(proxy, { restore: force });
    default:
      return disks[verb](proxies, { ...copy, instant });
  }
}

function stopAfter(pieces: Stop): CopyOptions {
  if (pieces === null) return {};
  const controller = new AbortController();
  if (pieces === 0) controller.abort();
  let left = pieces;
  return {
    // One region a piece, each long enough that it is told of and made durable by itself.
    rateBytesPerSec: 700,
    signal: controller.signal,
    onProgress: () => {
      if (--left <= 0) controller.abort();
    },
  };
}

class WriteCommand extends Base {
  readonly volume: string;
  readonly offset: number;
  readonly length: number;

  constructor(volume: string, offset: number, length: number) {
    super();
    this.volume = volume;
    this.offset = offset;
    this.length = Math.min(length, SIZE - offset);
  }

  describe(): string {
    return `write ${this.volume} ${this.offset}+${this.length}`;
  }

  async act(model: Model, real: Real): Promise<string> {
    const seed = ++model.writes * 53;
    const bytes = Uint8Array.from({ length: this.length }, (_, i) => seed + i * 3);
    const write = () => real.disks.write(this.volume, this.offset, bytes);
    if (model.unusable(this.volume) !== null) {
      await refused(write, this.describe());
      return `${this.describe()}: refused`;
    }
    await write();
    model.write(this.volume, this.offset, bytes);
    return this.describe();
  }
}

class ReadCommand extends WriteCommand {
  override describe(): string {
    return `read ${this.volume} ${this.offset}+${this.length}`;
  }

  override async act(model: Model, real: Real): Promise<string> {
    const read = () => real.disks.read(this.volume, this.offset, this.length);
    if (model.unusable(this.volume) !== null) {
      await refused(read, this.describe());
      return `${this.describe()}: refused`;
    }
    const wanted = model.volume(this.volume).data.subarray(this.offset, this.offset + this.length);
    same(Buffer.compare(await read(), wanted), 0, this.describe());
    return this.describe();
  }
}

class FlushCommand extends Base {
  readonly volume: string;

  constructor(volume: string) {
    super();
    this.volume = volume;
  }

  describe(): string {
    return `flush ${this.volume}`;
  }

  async act(model: Model, real: Real): Promise<string> {
    await real.disks.flush(this.volume);
    model.flush(this.volume);
    return this.describe();
  }
}

class VerifyCommand extends Base {
  describe(): string {
    return 'verify';
  }

  async act(model: Model, real: Real): Promise<string> {
    if (model.pairs.size === 0) return 'verify: no pairs';
    const { pairs } = await real.disks.verify([...model.pairs.keys()]);
    for (const found of pairs) {
      same(found.unexpected, 0, `unexpected differences of ${found.proxy}`);
      const pair = model.pairs.get(found.proxy)!;
      // Verify reads the images as they are: a half restored master is not yet what clients see.
      const settled = [...model.pairs.values()].every((p) => p.pending.size === 0);
      if (!settled || found.state === 'invalid') continue;
      const [master, proxy] = [model.volume(MASTER).data, model.volume(found.proxy).data];
      const differing = pair.joined ? 0 : regionsThatDiffer(master, proxy).size;
      same(found.differing, differing, `differences of ${found.proxy}`);
    }
    return 'verify';
  }
}

class ReopenCommand extends Base {
  describe(): string {
    return 'reopen';
  }

  async act(model: Model, real: Real): Promise<string> {
    await closeAndAudit(model, real);
    await real.open();
    return 'reopen';
  }
}

const options = fc.record<VerbOptions>({
  instant: fc.boolean(),
  compare: fc.nat(9).map((n) => n === 9),
  force: fc.boolean(),
});
const stop: fc.Arbitrary<Stop> = fc.oneof(
  { arbitrary: fc.constant(null), weight: 3 },
  { arbitrary: fc.nat(REGIONS), weight: 2 },
);
const proxy = fc.constantFrom(...PROXIES);
const volume = fc.constantFrom(MASTER, MASTER, ...PROXIES);
const offset = fc.oneof(
  fc.nat(SIZE - 1),
  fc.nat(REGIONS - 1).map((region) => region * REGION),
);
const length = fc.oneof(fc.nat(600), fc.nat(3 * REGION), fc.constant(REGION));

/** `fc.commands` of everything that can be done to a master and its proxies. */
export const commands = fc.commands(
  [
    ...Array.from({ length: 4 }, () =>
      fc
        .tuple(fc.nat(999), proxy, options, stop)
        .map((args): Command => new LikelyCommand(...args)),
    ),
    fc
      .tuple(
        fc.constantFrom(...VERBS),
        fc.uniqueArray(proxy, { minLength: 1, maxLength: 3 }),
        options,
        stop,
      )
      .map((args): Command => new VerbCommand(...args)),
    ...Array.from({ length: 3 }, () =>
      fc.tuple(volume, offset, length).map((args): Command => new WriteCommand(...args)),
    ),
    fc.tuple(volume, offset, length).map((args): Command => new ReadCommand(...args)),
    volume.map((name): Command => new FlushCommand(name)),
    fc.constant(null).map((): Command => new VerifyCommand()),
    fc.constant(null).map((): Command => new ReopenCommand()),
  ],
  { maxCommands: 60, size: 'max' },
);
