/**
 * The server of a state folder: keeps classes open, exports their started volumes over NBD, answers
 * thin clients on the control socket, and finishes copies that an earlier process left unfinished.
 *
 * The control socket is taken before a class is opened: of two servers the second one fails at once. A
 * class that cannot be opened does not keep the others from being served, unless it was named.
 */

import { KageError } from '../base/errors.ts';
import { plural } from '../base/units.ts';
import { FileHost } from '../device/file-host.ts';
import type { DiskClass } from '../engine/api.ts';
import { listClasses, openClass } from '../engine/open.ts';
import type { Place } from '../nbd/places.ts';
import { type NbdServer, prepareNbdServer } from '../nbd/server.ts';
import type { TlsOptions } from '../nbd/tls.ts';
import { formatNbdUri } from '../nbd/uri.ts';
import { type ServedClasses, serveClasses } from './classes.ts';
import { controlPath } from './client.ts';
import { exportsOf } from './exports.ts';
import { refused } from './http.ts';
import type { Request } from './protocol.ts';
import { type ControlServer, listenControl } from './server.ts';
import { unfinishedCopies } from './unfinished.ts';

export type { Place } from '../nbd/places.ts';

/** What clients of NBD still work on gets so long when the server stops, ms. */
const DRAIN_MS = 10_000;

/** Something that happened, for people and, as JSON, for programs. */
export type ServeEvent = {
  readonly event: 'class' | 'call' | 'copy' | 'nbd';
  readonly class?: string;
  readonly text: string;
  readonly failed: boolean;
  /** ms since 1970. */
  readonly time: number;
};

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
  /** ms, never going back. */
  readonly clock: () => number;
  readonly log: (event: ServeEvent) => void;
};

export type RunningServer = {
  /** Of the places; a client adds `CLASS/VOLUME`. */
  readonly uris: readonly string[];
  readonly control: string;
  /** Lets clients finish what is under way, closes the classes. Throws if one cannot be closed well. */
  stop(): Promise<void>;
};

type Log = (event: Omit<ServeEvent, 'time'>) => void;

/**
 * Resolves when clients are accepted. Throws `in-use` when the folder has a server or somebody else
 * listens at a place, before any class is opened.
 */
export async function startServer(options: ServeOptions): Promise<RunningServer> {
  const host = new FileHost();
  const home = await host.resolve(options.home);
  const log: Log = (event) => options.log({ ...event, time: host.now() });
  const places = options.places ?? [{ kind: 'unix', path: `${home}/nbd.sock` }];
  const startNbd = await prepareNbdServer(places, {
    ...(options.tls && { tls: { ...options.tls, mode: 'required', unixMode: 'off' } }),
    ...(options.insecure && { insecure: true }),
  });
  await host.folder(home).create();
  const copies = new Set<Promise<void>>();
  const classes = serveClasses(async (name, create) => {
    const { kernel, command } = options;
    const diskClass = await openClass(name, {
      home,
      create,
      live: true,
      ...(kernel === undefined ? {} : { kernel }),
      ...(command === undefined ? {} : { command }),
    });
    await takeOver(diskClass, copies, log);
    return diskClass;
  }, options.classes);
  const ready = deferred();
  const control = await listenControl(controlPath(home), {
    classes,
    ready: ready.promise,
    onCall: (call, error) => log(callEvent(call, error)),
    answer: () => refused(404, 'nothing is here'),
  });
  let nbd: NbdServer | undefined;
  try {
    nbd = await startNbd({
      exports: exportsOf(classes),
      clock: options.clock,
      ready: ready.promise,
    });
    await openAll(classes, options, home, log);
  } catch (error) {
    ready.reject(error);
    await stop(control, nbd, classes, log).catch(() => {});
    throw error;
  }
  ready.resolve();
  const server = nbd;
  return {
    uris: server.places.map((address) =>
      formatNbdUri({
        tls: options.tls !== undefined && address.kind === 'tcp',
        address,
        exportName: '',
        tlsVerifyPeer: true,
      }),
    ),
    control: controlPath(home),
    async stop() {
      await stop(control, server, classes, log);
      await Promise.all(copies);
    },
  };
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
      const text = `${error.message}: not served`;
      log({ event: 'class', class: name, text, failed: true });
    }
  }
}

/** What is due when the server gets a class: locked volumes rest, unfinished copies go on. */
async function takeOver(diskClass: DiskClass, copies: Set<Promise<void>>, log: Log): Promise<void> {
  const { name } = diskClass;
  const say = (text: string, failed = false) => log({ event: 'class', class: name, text, failed });
  const { volumes, pairs } = await diskClass.info();
  const resting = volumes.filter((v) => v.locked && v.status === 'ACTIVE').map((v) => v.name);
  if (resting.length > 0) {
    await diskClass.stop(resting);
    say(`locked, so stopped: ${resting.join(', ')}`);
  }
  say(`open, ${plural(volumes.length, 'volume')}`);
  for (const { text, run } of unfinishedCopies(diskClass, pairs)) {
    if (run === undefined) {
      say(`the unfinished copy ${text} is not continued`, true);
      continue;
    }
    log({ event: 'copy', class: name, text: `${text}: goes on`, failed: false });
    const work = run({}).then(
      () => log({ event: 'copy', class: name, text: `${text}: finished`, failed: false }),
      (error) => {
        if (wasStopped(error)) return;
        log({ event: 'copy', class: name, text: `${text}: ${messageOf(error)}`, failed: true });
      },
    );
    copies.add(work);
    void work.finally(() => copies.delete(work));
  }
}

function callEvent(call: Extract<Request, { class: string }>, error: unknown) {
  const words = call.args.flat().map((word) => (word as { path?: unknown } | null)?.path ?? word);
  const text = [call.method, ...words.filter((word) => typeof word === 'string')].join(' ');
  return {
    event: 'call',
    class: call.class,
    text: error === undefined ? text : `${text}: ${messageOf(error)}`,
    failed: error !== undefined && !wasStopped(error),
  } as const;
}

async function stop(
  control: ControlServer,
  nbd: NbdServer | undefined,
  classes: ServedClasses,
  log: Log,
): Promise<void> {
  const [drained = true] = await Promise.all([nbd?.stop(DRAIN_MS), control.stop()]);
  if (!drained) log({ event: 'nbd', text: 'clients were cut off', failed: true });
  await classes.close();
}

/** Somebody wanted it to stop: nothing has failed. */
function wasStopped(error: unknown): boolean {
  return error instanceof KageError && error.code === 'interrupted';
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
