/**
 * The server of a state folder: keeps classes open, exports their started volumes over NBD, answers
 * thin clients on the control socket, and finishes copies that an earlier process left unfinished.
 *
 * The control socket is taken before a class is opened: of two servers the second one fails at once. A
 * class that cannot be opened does not keep the others from being served, unless it was named.
 */

import { KageError } from '../base/errors.ts';
import { plural } from '../base/units.ts';
import { type Served, type ServedClasses, serveClasses } from '../control/classes.ts';
import { controlPath } from '../control/client.ts';
import { type HttpAnswer, refused } from '../control/http.ts';
import { type ControlServer, listenControl } from '../control/server.ts';
import { FileHost } from '../device/file-host.ts';
import type { OwnClass } from '../engine/api.ts';
import { listClasses, openClass } from '../engine/open.ts';
import { createKernel } from '../kernel/select.ts';
import { NbdMetrics } from '../nbd/metrics.ts';
import { type Place, placeText } from '../nbd/places.ts';
import { type NbdServer, prepareNbdServer } from '../nbd/server.ts';
import type { TlsOptions } from '../nbd/tls.ts';
import { formatNbdUri } from '../nbd/uri.ts';
import { ZeroFinder } from '../nbd/zeros.ts';
import { type Devices, openDevices } from './devices.ts';
import { exportsOf } from './exports.ts';
import { EXPOSITION_TYPE } from './exposition.ts';
import { type Health, healthAnswer } from './health.ts';
import {
  callEvent,
  classEvent,
  classLine,
  clientLog,
  deviceEvent,
  type Log,
  logTo,
  messageOf,
  type ServeEvent,
  serverEvent,
} from './log.ts';
import { makeWay } from './make-way.ts';
import { metricsText, type Watched } from './metrics.ts';
import { unfinishedCopies } from './unfinished.ts';

export type { Place } from '../nbd/places.ts';
export type { ServeEvent } from './log.ts';

/** What clients of NBD still work on gets so long when the server stops, ms. */
const DRAIN_MS = 10_000;
/** Classes that could not be opened are tried again, ms. */
const AGAIN_MS = 30_000;

export type ServeOptions = {
  /** State folder; made if it does not exist. */
  readonly home: string;
  readonly kernel?: 'wasm' | 'js';
  /** What others see as the holder of the classes. */
  readonly command?: string;
  /** Without it all classes, also those that clients make later. */
  readonly classes?: readonly string[];
  /** Where NBD clients connect; without it `nbd.sock` in the state folder. */
  readonly places?: readonly Place[];
  /** Required of clients over TCP; on unix sockets, which are for their owner alone, there is none. */
  readonly tls?: Pick<TlsOptions, 'certificate' | 'psk'>;
  /** TCP that other machines reach, without TLS. */
  readonly insecure?: boolean;
  /** Folder in which started volumes are device files; without it there are none. */
  readonly devices?: string;
  /** The volumes that clients see; without it all. */
  readonly volumes?: readonly string[];
  /** `if-free`: goes without a control socket when another server of the state folder has it. */
  readonly control?: 'needed' | 'if-free';
  /** ms, never going back. */
  readonly clock: () => number;
  readonly log: (event: ServeEvent) => void;
};

export type RunningServer = {
  /** Of the places; a client adds `CLASS/VOLUME`. `fd:N` for a unix socket that was handed over. */
  readonly uris: readonly string[];
  /** Undefined: another server has the control socket. */
  readonly control: string | undefined;
  /** Folder of the devices, absolute. */
  readonly devices: string | undefined;
  /** A class; undefined: it was told not to serve that one. */
  enter(name: string): Promise<Served | undefined>;
  /**
   * Lets clients finish what is under way, closes the classes. Throws if one cannot be closed well.
   * `last` runs when all clients are gone and the classes are still open.
   */
  stop(last?: () => Promise<void>): Promise<void>;
};

/**
 * Resolves when clients are accepted. Throws `in-use` when the folder has a server or somebody else
 * listens at a place, before any class is opened.
 */
export async function startServer(options: ServeOptions): Promise<RunningServer> {
  const host = new FileHost();
  const home = await host.resolve(options.home);
  const log = logTo(options.log, () => host.now());
  const places = options.places ?? [{ kind: 'unix', path: `${home}/nbd.sock` }];
  const startNbd = await prepareNbdServer(places, {
    ...(options.tls && { tls: { ...options.tls, mode: 'required', unixMode: 'off' } }),
    ...(options.insecure && { insecure: true }),
  });
  await host.folder(home).create();
  const parts: Parts = { log };
  const classes = serveClasses(
    async (name, create) => {
      const { kernel, command } = options;
      const diskClass = await openClass(name, {
        home,
        create,
        live: true,
        ...(kernel === undefined ? {} : { kernel }),
        ...(command === undefined ? {} : { command }),
        onEvent(event) {
          log(classEvent(name, event));
          // Its device goes at once.
          if (event.kind === 'invalid') void classes.refresh(name).catch(() => {});
        },
      });
      try {
        await takeOver(diskClass, log);
      } catch (error) {
        // Nobody else could open it as long as this process lives.
        await diskClass.close().catch(() => {});
        throw error;
      }
      return diskClass;
    },
    {
      classes: options.classes,
      volumes: options.volumes,
      changed: async (name, volumes) => await parts.devices?.match(name, volumes),
    },
  );
  parts.classes = classes;
  const exports = exportsOf(classes, new ZeroFinder(createKernel(options.kernel), turn));
  const ready = deferred();
  const startedAt = host.now();
  let isReady = false;
  const uris = () => (parts.nbd?.places ?? []).map((place) => uriOf(place, options));
  try {
    // What is missing for devices is said before anybody is let in.
    if (options.devices !== undefined) {
      parts.devices = await openDevices({
        folder: options.devices,
        exports,
        clock: options.clock,
        report: (name, volume, problem) => log(deviceEvent(name, volume, problem)),
      });
    }
    const control = listenControl(controlPath(home), {
      classes,
      ready: ready.promise,
      where: () => ({
        uris: uris(),
        devices: parts.devices?.folder ?? null,
        volumes: options.volumes ?? null,
      }),
      makeWay: (diskClass, call) =>
        makeWay(diskClass, call, { ...parts, resolve: (path) => host.resolve(path) }),
      onCall: (call, error) => log(callEvent(call, error)),
      answer: ({ path }) =>
        page(path, {
          ready: isReady,
          now: host.now(),
          startedAt,
          classes: classes.looks(),
          problems: classes.problems(),
          nbd: parts.nbd?.metrics ?? new NbdMetrics(),
        }),
    });
    parts.control = await control.catch((error) => {
      if (options.control === 'if-free' && isInUse(error)) return undefined;
      throw error;
    });
    parts.nbd = await startNbd({
      exports,
      clock: options.clock,
      ready: ready.promise,
      onClient: clientLog(log, options.clock),
    });
    await openAll(classes, options, home, log);
  } catch (error) {
    ready.reject(error);
    await stop(parts).catch(() => {});
    throw error;
  }
  isReady = true;
  ready.resolve();
  const again = setInterval(() => void openAgain(classes), AGAIN_MS);
  return {
    uris: uris(),
    control: parts.control === undefined ? undefined : controlPath(home),
    devices: parts.devices?.folder,
    enter: (name) => classes.enter(name, false),
    async stop(last) {
      clearInterval(again);
      await stop(parts, last);
    },
  };
}

function uriOf(address: Place, { tls }: ServeOptions): string {
  if (address.kind === 'fd') return placeText(address);
  return formatNbdUri({
    tls: tls !== undefined && address.kind === 'tcp',
    address,
    exportName: '',
    tlsVerifyPeer: true,
  });
}

function isInUse(error: unknown): boolean {
  return error instanceof KageError && error.code === 'in-use';
}

function page(path: string, seen: Watched & Health): HttpAnswer {
  if (path === '/healthz') return healthAnswer(seen);
  if (path === '/metrics') return { status: 200, type: EXPOSITION_TYPE, body: metricsText(seen) };
  return refused(404, 'what is here: /healthz and /metrics');
}

/** Resolves once other work had its turn. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function deferred() {
  let resolve = () => {};
  let reject = (_error: unknown) => {};
  const promise = new Promise<void>((done, failed) => {
    resolve = done;
    reject = failed;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}

async function openAll(
  classes: ServedClasses,
  options: ServeOptions,
  home: string,
  log: Log,
): Promise<void> {
  for (const name of options.classes ?? (await listClasses({ home }))) {
    try {
      await classes.enter(name, false);
    } catch (error) {
      if (options.classes !== undefined || !(error instanceof KageError)) throw error;
      log(classLine(name, `${error.message}: not served`, true));
    }
  }
}

/** Classes that could not be opened: whatever is in the way may have gone. */
async function openAgain(classes: ServedClasses): Promise<void> {
  for (const name of [...classes.problems().keys()]) {
    // Why not is in `/healthz`; that it is open is in the log.
    await classes.enter(name, false).catch(() => {});
  }
}

/** What is due when the server gets a class: locked volumes rest, unfinished copies go on. */
async function takeOver(diskClass: OwnClass, log: Log): Promise<void> {
  const { name } = diskClass;
  const say = (text: string, failed = false) => log(classLine(name, text, failed));
  const { volumes, pairs } = await diskClass.info();
  const resting = volumes.filter((v) => v.locked && v.status === 'ACTIVE').map((v) => v.name);
  if (resting.length > 0) {
    await diskClass.stop(resting);
    say(`locked, so stopped: ${resting.join(', ')}`);
  }
  say(`open, ${plural(volumes.length, 'volume')}`);
  const seen = diskClass.look();
  for (const { name: volume, status, problem } of seen.volumes) {
    if (status !== 'INVALID' || problem === null) continue;
    log(classEvent(name, { kind: 'invalid', volume, problem }));
  }
  for (const { master, proxy, doubt } of seen.pairs) {
    if (doubt !== null) log(classEvent(name, { kind: 'doubt', master, proxy, reason: doubt }));
  }
  for (const { text, run } of unfinishedCopies(diskClass, pairs)) {
    if (run === undefined) say(`the unfinished copy ${text} is not continued`, true);
    // The copy itself is in the log from its begin to its end.
    else run({ wait: false }).catch((error) => say(`${text}: ${messageOf(error)}`, true));
  }
}

/** What there is of a server, as it comes into being. */
type Parts = {
  readonly log: Log;
  classes?: ServedClasses;
  devices?: Devices | undefined;
  control?: ControlServer | undefined;
  nbd?: NbdServer;
};

async function stop(parts: Parts, last?: () => Promise<void>): Promise<void> {
  const { log, classes, devices, control, nbd } = parts;
  const [drained = true] = await Promise.all([
    nbd?.stop(DRAIN_MS),
    control?.stop(),
    devices?.close(),
  ]);
  if (!drained) log(serverEvent('clients were cut off', true));
  let failure: unknown;
  await last?.().catch((error) => {
    failure = error;
  });
  await classes?.close();
  if (failure !== undefined) throw failure;
}
