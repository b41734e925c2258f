/**
 * Started volumes as device files, each mounted by a `nbdfuse` that is a client of this server. A device
 * is there for as long as its volume is started; it is taken away for a verb that needs the volume
 * unused, and the verb refused while somebody has the device open. That `nbdfuse` is connected is no
 * use of the volume: where the device is away, so is its connection.
 */

import { KageError } from '../base/errors.ts';
import type { VolumeInfo } from '../engine/api.ts';
import type { NbdExports } from '../nbd/export.ts';
import { startNbdServer } from '../nbd/server.ts';
import { formatNbdUri } from '../nbd/uri.ts';
import { type Device, openDeviceFolder } from './fuse.ts';

/** Mounts and unmounts at a time. */
const AT_ONCE = 4;
/** What `nbdfuse` has asked for gets so long once its device is away, ms. */
const DRAIN_MS = 10_000;

export type Devices = {
  /** Absolute, without links. */
  readonly folder: string;
  /**
   * What the volumes of a class are now: resolves when those that are started have their device, and the
   * others have none. A device that cannot be made is reported and left out.
   */
  match(className: string, volumes: readonly VolumeInfo[]): Promise<void>;
  /**
   * Takes the devices of volumes away until the function is called that is returned; that resolves when
   * those of started volumes are there again. Throws `wrong-state` while somebody has one of them open.
   */
  hold(className: string, volumes: readonly string[]): Promise<() => Promise<void>>;
  /** A file, or a loop device, behind which one of these devices is. */
  holds(image: string): Promise<boolean>;
  /** Takes all away, also those that are in use, and gives the folder free. */
  close(): Promise<void>;
};

export type DevicesOptions = {
  /** Made if it is missing. Belongs to one server at a time. */
  readonly folder: string;
  readonly exports: NbdExports;
  /** ms, never going back. */
  readonly clock: () => number;
  /** Something that nobody waits for has failed. */
  readonly report: (className: string, volume: string, problem: string) => void;
};

type Entry = {
  readonly name: string;
  wanted: boolean;
  holds: number;
  device: Device | undefined;
  queue: Promise<unknown>;
  /** What is in the queue. */
  tasks: number;
};

/** Throws `not-permitted` where there can be no devices, `in-use` when another server has the folder. */
export async function openDevices(options: DevicesOptions): Promise<Devices> {
  const folder = await openDeviceFolder(options.folder);
  const nbd = await startNbdServer([{ kind: 'unix', path: folder.socket }], {
    exports: options.exports,
    clock: options.clock,
    connectionsMax: Number.POSITIVE_INFINITY,
  });
  try {
    await folder.clean();
  } catch (error) {
    await nbd.stop(0);
    throw error;
  }
  const entries = new Map<string, Entry>();
  const places = slots(AT_ONCE);
  let closed = false;

  const inTurn = (entry: Entry, work: () => Promise<void>): Promise<void> => {
    entry.tasks++;
    const result = entry.queue
      .then(() => places(work))
      .finally(() => {
        entry.tasks--;
        // Not before: whoever comes under this name meanwhile has to wait in the same queue.
        const isIdle = entry.tasks === 0 && !entry.wanted && entry.holds === 0;
        if (isIdle && entries.get(entry.name) === entry) entries.delete(entry.name);
      });
    entry.queue = result.catch(() => {});
    return result;
  };
  const report = ({ name }: Entry, text: string) => {
    const [className, volume] = name.split('/');
    options.report(className, volume, text);
  };

  const mount = async (entry: Entry) => {
    const address = { kind: 'unix', path: folder.socket } as const;
    const uri = formatNbdUri({ tls: false, address, exportName: entry.name, tlsVerifyPeer: true });
    const lost = (why: string) => {
      const device = entry.device;
      entry.device = undefined;
      report(entry, `its device is gone: ${why}`);
      // What was mounted answers nobody any more.
      inTurn(entry, async () => {
        await device?.detach();
        await nbd.cut(entry.name, DRAIN_MS);
      }).catch(() => {});
    };
    entry.device = await folder.mount(entry.name, uri, lost);
  };

  /** Takes a device away; says who is in the way. */
  const unmount = async (entry: Entry): Promise<string | undefined> => {
    const user = await entry.device?.unmount();
    if (user !== undefined) return user;
    entry.device = undefined;
    if (await nbd.cut(entry.name, DRAIN_MS)) return undefined;
    return 'its last requests are not done yet';
  };

  const remove = async (entry: Entry) => {
    const user = await unmount(entry);
    if (user !== undefined) {
      report(entry, `its device is taken away although it is in use: ${user}`);
      await entry.device?.detach();
      entry.device = undefined;
      await nbd.cut(entry.name, DRAIN_MS);
    }
    await folder.unlink(entry.name);
  };

  /** Makes it so. */
  const settle = (entry: Entry) =>
    inTurn(entry, async () => {
      try {
        const wanted = entry.wanted && !closed;
        if (!wanted && entry.device !== undefined) await remove(entry);
        else if (!wanted) await folder.unlink(entry.name);
        else if (entry.holds === 0 && entry.device === undefined) await mount(entry);
      } catch (error) {
        report(entry, `has no device: ${error instanceof Error ? error.message : error}`);
      }
    });

  const entryOf = (name: string): Entry => {
    const found = entries.get(name);
    if (found !== undefined) return found;
    const entry: Entry = {
      name,
      wanted: false,
      holds: 0,
      device: undefined,
      queue: Promise.resolve(),
      tasks: 0,
    };
    entries.set(name, entry);
    return entry;
  };

  return {
    folder: folder.path,
    holds: (image) => folder.holds(image),
    async match(className, volumes) {
      if (closed) return;
      const started = volumes.filter(({ status }) => status === 'ACTIVE');
      const names = new Set(started.map(({ name }) => `${className}/${name}`));
      for (const name of names) entryOf(name);
      const own = [...entries.values()].filter(({ name }) => name.startsWith(`${className}/`));
      for (const entry of own) entry.wanted = names.has(entry.name);
      await Promise.all(own.map(settle));
    },
    async hold(className, volumes) {
      const held = volumes.map((volume) => entryOf(`${className}/${volume}`));
      for (const entry of held) entry.holds++;
      const giveBack = async () => {
        for (const entry of held) entry.holds--;
        await Promise.all(held.map(settle));
      };
      try {
        for (const entry of held) {
          await inTurn(entry, async () => {
            const user = await unmount(entry);
            if (user !== undefined) throw inUse(entry.name, folder.path, user);
          });
        }
      } catch (error) {
        await giveBack();
        throw error;
      }
      return giveBack;
    },
    async close() {
      closed = true;
      for (const entry of entries.values()) entry.wanted = false;
      await Promise.all([...entries.values()].map(settle));
      await nbd.stop(DRAIN_MS);
      await folder.close();
    },
  };
}

function inUse(name: string, folder: string, user: string): KageError {
  const [className, volume] = name.split('/');
  const device = `${folder}/${className}/dsk/${volume}`;
  return new KageError('wrong-state', `${volume}: is in use: ${user}`, {
    hint: `unmount or close ${device} first`,
    data: { volume, device },
  });
}

/** At most so many at a time. */
function slots(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = most;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free++;
      else next();
    }
  };
}
