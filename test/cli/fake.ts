/**
 * A command line without a disk: an environment that records what is printed, and an engine that
 * records what it is asked and answers from one class in memory.
 */

import { KageError } from '../../src/base/errors.ts';
import type { CliEnvironment, EngineApi, Output } from '../../src/cli/environment.ts';
import { runCli } from '../../src/cli/run.ts';
import type {
  ClassInfo,
  CopyReport,
  DiskClass,
  ImageReport,
  PairInfo,
  PairReport,
  Progress,
  VerbReport,
  VolumeInfo,
} from '../../src/engine/api.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
const T = Date.UTC(2026, 0, 31, 12, 0, 0);

export function volume(name: string, more: Partial<VolumeInfo> = {}): VolumeInfo {
  return {
    name,
    disk: name,
    path: `/images/${name}.img`,
    offset: 0,
    size: 2 * MIB,
    status: 'ACTIVE',
    problem: null,
    locked: false,
    readOnly: false,
    role: null,
    ...more,
  };
}

export function pair(more: Partial<PairInfo> = {}): PairInfo {
  return {
    master: 'vm',
    proxy: 'vm-proxy',
    state: 'parted',
    joined: false,
    direction: 'toProxy',
    regionSize: 64 * KIB,
    regions: 32,
    changedRegions: 3,
    pendingRegions: 0,
    incrementRegions: 0,
    since: T,
    lastVerb: 'part',
    doubt: null,
    next: {
      verb: 'rejoin',
      direction: 'toProxy',
      method: 'differential',
      reason: 'tracked since the part',
      bytes: 192 * KIB,
    },
    lastCopy: null,
    ...more,
  };
}

export function classInfo(more: Partial<ClassInfo> = {}): ClassInfo {
  const volumes = more.volumes ?? [
    volume('vm', { role: 'master' }),
    volume('vm-proxy', { role: 'proxy', path: '/images/vm.proxy.img' }),
    volume('other'),
  ];
  return {
    class: 'default',
    folder: '/state/default',
    generation: 7,
    closed: null,
    holder: null,
    disks: volumes.map((v) => ({
      name: v.disk,
      type: 'keep',
      path: v.path,
      size: v.size,
      status: 'ENABLE',
      problem: null,
      exclusive: false,
      free: 0,
    })),
    volumes,
    pairs: [pair()],
    ...more,
  };
}

export const COPY: CopyReport = {
  direction: 'toProxy',
  method: 'differential',
  reason: 'tracked since the part',
  regions: 3,
  regionsWritten: 3,
  bytesRead: 192 * KIB,
  bytesWritten: 128 * KIB,
  seconds: 0.25,
};

export const IMAGES: ImageReport = {
  source: 'a.img',
  target: 'b.img',
  size: 2 * MIB,
  regionSize: 64 * KIB,
  regions: 32,
  differing: 2,
  ranges: [{ offset: 0, length: 128 * KIB }],
  rangesLeftOut: 0,
  bytesRead: 4 * MIB,
  bytesWritten: 0,
  seconds: 0.1,
  notes: [],
};

export type Call = { readonly name: string; readonly args: readonly unknown[] };

const STATES: Readonly<Record<string, PairReport['state']>> = {
  join: 'joined',
  rejoin: 'joined',
  restore: 'joined',
  swap: 'joined',
  break: 'unrelated',
};
const COPYING = ['join', 'rejoin', 'restore', 'update'];

export type World = {
  readonly calls: Call[];
  readonly out: () => string;
  readonly err: () => string;
  readonly bytes: () => Uint8Array;
  readonly env: CliEnvironment;
  run(...argv: string[]): Promise<number>;
  /** The arguments of the last engine call of that name, options stripped of functions. */
  last(name: string): readonly unknown[] | undefined;
  names(): string[];
};

export type WorldOptions = {
  readonly classes?: readonly ClassInfo[];
  readonly env?: Readonly<Record<string, string>>;
  readonly userId?: number;
  readonly isTTY?: boolean;
  readonly stdin?: readonly Uint8Array[];
  /** Thrown after `stdin`. */
  readonly stdinError?: Error;
  readonly stdinIsTTY?: boolean;
  readonly files?: readonly string[];
  /** Runs instead of the answer of one call; may throw. */
  readonly on?: Readonly<Record<string, (...args: never[]) => unknown>>;
  readonly stdout?: Partial<Output>;
  readonly stderr?: Partial<Output>;
  readonly shell?: CliEnvironment['shell'];
  readonly signal?: AbortSignal;
  /** A server has the classes open. */
  readonly served?: boolean;
};

export function world(options: WorldOptions = {}): World {
  const calls: Call[] = [];
  const out: (string | Uint8Array)[] = [];
  const err: string[] = [];
  const classes = options.classes ?? [classInfo()];
  const text = (pieces: readonly (string | Uint8Array)[]) =>
    pieces.map((p) => (typeof p === 'string' ? p : new TextDecoder().decode(p))).join('');
  const record = (name: string, args: readonly unknown[]): unknown => {
    calls.push({ name, args: args.map(plain) });
    return options.on?.[name]?.(...(args as never[]));
  };
  const engine = fakeEngine(classes, options.files ?? [], record);
  const env: CliEnvironment = {
    stdout: {
      write: async (data) => void out.push(data),
      isTTY: false,
      columns: 80,
      ...options.stdout,
    },
    stderr: {
      write: async (data) => void err.push(String(data)),
      isTTY: options.isTTY ?? false,
      columns: 80,
      ...options.stderr,
    },
    stdinIsTTY: options.stdinIsTTY ?? false,
    readStdin: async function* () {
      yield* options.stdin ?? [];
      if (options.stdinError) throw options.stdinError;
    },
    env: (name) => ({ KAGE_HOME: '/state', ...options.env })[name],
    userId: () => options.userId,
    processId: 77,
    hostName: () => 'node1',
    exists: (path) => options.files?.includes(path) ?? false,
    version: '0.1.0',
    clock: () => 0,
    ...(options.shell === undefined ? {} : { shell: options.shell }),
    signal: options.signal ?? new AbortController().signal,
    engine,
    execute: async (command, variables) =>
      (record('execute', [command, variables]) as { status: number } | undefined) ?? { status: 0 },
    server: {
      openServed: async (name, how) => (options.served ? engine.openClass(name, how) : undefined),
      start: async (how) => {
        record('start', [how]);
        const stop = async () => {};
        const control = '/state/control.sock';
        return {
          uris: ['nbd://there'],
          control,
          devices: undefined,
          enter: async () => undefined,
          stop,
        };
      },
      hold: async (how) => {
        record('hold', [how]);
        const volumes = how.volumes.map((name) => ({
          name,
          uri: `nbd://there/${name}`,
          device: how.devices && `${how.devices}/${how.class}/dsk/${name}`,
        }));
        return { home: '/state', volumes, close: async () => void record('give back', []) };
      },
    },
  };
  return {
    calls,
    env,
    out: () => text(out),
    err: () => err.join(''),
    bytes: () => Buffer.concat(out.map((p) => Buffer.from(p))),
    run: (...argv) => runCli(argv, env),
    last: (name) => calls.findLast((call) => call.name === name)?.args,
    names: () => calls.map((call) => call.name),
  };
}

function plain(value: unknown): unknown {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
  if (Array.isArray(value)) return value;
  const kept = Object.entries(value).filter(([, v]) => typeof v !== 'function');
  return Object.fromEntries(kept.filter(([key]) => key !== 'signal'));
}

function fakeEngine(
  classes: readonly ClassInfo[],
  files: readonly string[],
  record: (name: string, args: readonly unknown[]) => unknown,
): EngineApi {
  const find = (name: string): ClassInfo => {
    const info = classes.find((c) => c.class === name);
    if (info) return info;
    throw new KageError('no-such-object', `no class ${name}`, { data: { class: name } });
  };
  return {
    async openClass(name, options) {
      const answer = record('openClass', [name, options]);
      const info = options.create
        ? (classes.find((c) => c.class === name) ??
          classInfo({ class: name, volumes: [], pairs: [] }))
        : find(name);
      return (answer as DiskClass | undefined) ?? fakeClass(info, record);
    },
    async readClass(name, options) {
      record('readClass', [name, options]);
      return find(name);
    },
    async listClasses(options) {
      record('listClasses', [options]);
      return classes.map((c) => c.class);
    },
    async findImage(path, options) {
      record('findImage', [path, options]);
      for (const info of classes) {
        const found = info.volumes.find((v) => v.path === path);
        if (found) return { class: info.class, volume: found.name };
      }
      return undefined;
    },
    async reopenCatalog(name, options) {
      record('reopenCatalog', [name, options]);
      return 'goes on from generation 6';
    },
    async diffImages(a, b, options) {
      return (record('diffImages', [a, b, options]) as ImageReport) ?? IMAGES;
    },
    async copyImage(a, b, options) {
      const report = record('copyImage', [a, b, options]) as ImageReport | undefined;
      if (files.includes(b) && !options.dryRun) await options.onOverwrite?.();
      return report ?? IMAGES;
    },
  };
}

function fakeClass(
  info: ClassInfo,
  record: (name: string, args: readonly unknown[]) => unknown,
): DiskClass {
  const report = (verb: string, proxies: readonly string[], options: object): VerbReport => ({
    verb,
    class: info.class,
    dryRun: (options as { dryRun?: boolean }).dryRun === true,
    pairs: proxies.map((proxy) => ({
      master: 'vm',
      proxy,
      state: STATES[verb] ?? 'parted',
      ...(COPYING.includes(verb)
        ? { copy: { ...COPY, direction: verb === 'restore' ? 'toMaster' : 'toProxy' } }
        : {}),
      notes: [],
    })),
  });
  const overPairs = (verb: string) => async (refs: string | readonly string[], options: object) =>
    (record(verb, [refs, options]) as VerbReport | undefined) ??
    report(verb, [refs].flat(), options);
  const overTwo = (verb: string) => async (master: string, proxy: string, options: object) =>
    (record(verb, [master, proxy, options]) as VerbReport | undefined) ??
    report(verb, ['vm-proxy'], options);
  const other = (name: string, answer: (...args: never[]) => unknown) => {
    return async (...args: unknown[]) => record(name, args) ?? answer(...(args as never[]));
  };
  return {
    name: info.class,
    add: other('add', (images: { path: string; name?: string }[]) =>
      images.map((i) => volume(i.name ?? 'vm', { path: i.path })),
    ),
    create: other('create', (name: string, size: number, path: string) =>
      volume(name, { size, path }),
    ),
    remove: other('remove', () => undefined),
    addDisk: other('addDisk', (path: string, name: string, type: 'keep') => ({
      ...classInfo().disks[0],
      path,
      name,
      type,
    })),
    removeDisk: other('removeDisk', () => undefined),
    addVolume: other('addVolume', (disk: string, name: string, size: number) =>
      volume(name, { disk, size }),
    ),
    removeClass: other('removeClass', () => undefined),
    start: other('start', () => undefined),
    stop: other('stop', () => undefined),
    lock: other('lock', () => undefined),
    unlock: other('unlock', () => undefined),
    fix: other('fix', () => undefined),
    join: overTwo('join'),
    relate: overTwo('relate'),
    part: overPairs('part'),
    rejoin: overPairs('rejoin'),
    restore: overPairs('restore'),
    update: overPairs('update'),
    swap: overPairs('swap'),
    cancel: overPairs('cancel'),
    break: overPairs('break'),
    verify: other('verify', (proxies: string[]) => ({
      verb: 'verify',
      class: info.class,
      pairs: proxies.map((proxy) => ({
        master: 'vm',
        proxy,
        state: 'joined',
        regions: 32,
        differing: 0,
        unexpected: 0,
        masterHash: '0123456789abcdef',
        proxyHash: '0123456789abcdef',
        seconds: 0.5,
        notes: [],
      })),
    })),
    write: other('write', () => undefined),
    read: other('read', (_name: string, offset: number, length: number) =>
      new Uint8Array(length).fill(offset === 0 ? 65 : 66),
    ),
    flush: other('flush', () => undefined),
    info: async () => info,
    close: other('close', () => undefined),
  } as DiskClass;
}

export function progressOf(more: Partial<Progress> = {}): Progress {
  return {
    verb: 'join',
    master: 'vm',
    proxy: 'vm-proxy',
    direction: 'toProxy',
    method: 'full',
    reason: 'first copy',
    doneBytes: MIB,
    totalBytes: 2 * MIB,
    bytesRead: MIB,
    bytesWritten: MIB,
    seconds: 1,
    rateBytesPerSec: MIB,
    secondsLeft: 1,
    finished: false,
    ...more,
  };
}
