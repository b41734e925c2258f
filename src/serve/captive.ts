/**
 * Edge: volumes that are served for as long as somebody holds them: by the server that lives in the state
 * folder, if it serves their class, else by one of our own that exports nothing else. Volumes that were
 * stopped are started for the time, and stopped again afterwards.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { KageError } from '../base/errors.ts';
import { findServer, openServed } from '../control/client.ts';
import type { Whereabouts } from '../control/protocol.ts';
import { FileHost } from '../device/file-host.ts';
import type { DiskClass } from '../engine/api.ts';
import { formatNbdUri, isNbdUri, parseNbdUri } from '../nbd/uri.ts';
import { type RunningServer, type ServeOptions, startServer } from './serve.ts';

export type CaptiveOptions = Pick<
  ServeOptions,
  'home' | 'kernel' | 'command' | 'devices' | 'clock' | 'log'
> & {
  readonly class: string;
  /** Names of at least one volume. */
  readonly volumes: readonly string[];
};

export type Captive = {
  /** State folder, absolute. */
  readonly home: string;
  readonly volumes: readonly {
    readonly name: string;
    readonly uri: string;
    /** Its device file, where there are devices. */
    readonly device: string | undefined;
  }[];
  /** What clients wrote is written down afterwards. Throws if that cannot be done well. */
  close(): Promise<void>;
};

export async function holdVolumes(options: CaptiveOptions): Promise<Captive> {
  const home = await new FileHost().resolve(options.home);
  const diskClass = await openServed(options.class, { home });
  if (diskClass === undefined) return await serveThem(home, options);
  try {
    const where = await findServer(home);
    if (where === undefined) throw new KageError('failed', 'the server has just ended');
    await requireFitting(where, options);
    const stopAgain = await startStopped(diskClass, options.volumes);
    return {
      home,
      volumes: placesOf(where, options),
      async close() {
        try {
          await stopAgain();
        } finally {
          await diskClass.close();
        }
      },
    };
  } catch (error) {
    await diskClass.close();
    throw error;
  }
}

/** Clients come by a socket in a folder that is made for this and that nobody else may enter. */
async function serveThem(home: string, options: CaptiveOptions): Promise<Captive> {
  const folder = freshFolder();
  const remove = () => fs.rmSync(folder, { recursive: true, force: true });
  let server: RunningServer | undefined;
  try {
    server = await startServer({
      ...options,
      classes: [options.class],
      places: [{ kind: 'unix', path: path.join(folder, 'nbd.sock') }],
      control: 'if-free',
    });
    const { stop, uris, devices = null } = server;
    const served = (await server.enter(options.class))!;
    const stopAgain = await startStopped(served.diskClass, options.volumes);
    await served.refresh();
    return {
      home,
      volumes: placesOf({ uris, devices }, options),
      async close() {
        try {
          await stop(stopAgain);
        } finally {
          remove();
        }
      },
    };
  } catch (error) {
    await server?.stop().catch(() => {});
    remove();
    throw error;
  }
}

function freshFolder(): string {
  try {
    return fs.mkdtempSync(path.join(os.tmpdir(), 'kage-run-'));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new KageError('not-permitted', `no folder for a socket can be made: ${reason}`);
  }
}

/** Gives what stops those again that had to be started. */
async function startStopped(
  diskClass: DiskClass,
  names: readonly string[],
): Promise<() => Promise<void>> {
  const { volumes } = await diskClass.info();
  const stopped = names.filter((name) => volumes.find((v) => v.name === name)?.status !== 'ACTIVE');
  if (stopped.length === 0) return async () => {};
  await diskClass.start(stopped);
  return async () => {
    const now = (await diskClass.info()).volumes;
    // The command may have joined or removed them.
    const left = stopped.filter((name) => now.find((v) => v.name === name)?.status === 'ACTIVE');
    if (left.length > 0) await diskClass.stop(left);
  };
}

/** The living server may have been told to do something else than what is wanted here. */
async function requireFitting(where: Whereabouts, options: CaptiveOptions): Promise<void> {
  const missing = options.volumes.find((name) => where.volumes?.includes(name) === false);
  if (missing !== undefined) {
    throw new KageError('in-use', `${missing}: its class is held by a \`kage run\` without it`, {
      hint: `name ${missing} in that one, too`,
      data: { volume: missing, class: options.class },
    });
  }
  if (placeOf(where.uris) === undefined) {
    throw new KageError('not-permitted', 'nobody knows where the sockets of the server are', {
      hint: 'they were handed to `kage serve` when it was started; give it a --nbd unix:PATH, too',
    });
  }
  if (options.devices === undefined) return;
  if (where.devices === (await new FileHost().resolve(options.devices))) return;
  const has = where.devices === null ? 'has no devices' : `has its devices in ${where.devices}`;
  throw new KageError('not-permitted', `class ${options.class}: its server ${has}`, {
    hint: 'start `kage serve` with this --devices, or end it: then `kage run` serves by itself',
  });
}

/** Unix sockets need no TLS; of those that were handed over (`fd:N`) nobody knows the path. */
function placeOf(uris: readonly string[]): string | undefined {
  return uris.find((uri) => uri.startsWith('nbd+unix:')) ?? uris.find((uri) => isNbdUri(uri));
}

function placesOf(
  { uris, devices }: Pick<Whereabouts, 'uris' | 'devices'>,
  options: CaptiveOptions,
): Captive['volumes'] {
  const place = parseNbdUri(placeOf(uris)!);
  return options.volumes.map((name) => ({
    name,
    uri: formatNbdUri({ ...place, exportName: `${options.class}/${name}` }),
    device: devices === null ? undefined : `${devices}/${options.class}/dsk/${name}`,
  }));
}
