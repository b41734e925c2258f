/**
 * The classes that a server has open, by name. Each stays open until the server ends, but for one
 * without volumes: that is closed when its last client leaves. What is opened and closed takes turns.
 *
 * Of each class it keeps how its volumes looked last, for those who cannot wait for an answer.
 */

import { type ErrorCode, KageError } from '../base/errors.ts';
import type { ClassLook, DiskClass, OwnClass, VolumeInfo } from '../engine/api.ts';

/** A class in the hands of one client. */
export type Served = {
  readonly diskClass: DiskClass;
  /** To be called when volumes may have come, gone, started or stopped. */
  refresh(): Promise<void>;
  /** The class was removed: it is open no more. */
  forget(): void;
  leave(): Promise<void>;
};

export type ServedClasses = {
  /**
   * Opens a class unless it is open. Undefined: this server has been told not to serve it. Throws what
   * opening it throws.
   */
  enter(name: string, create: boolean): Promise<Served | undefined>;
  /** Looks at an open class again: something has happened to its volumes without a call. */
  refresh(name: string): Promise<void>;
  /** The volumes of an open class as they looked last. */
  find(name: string): { diskClass: DiskClass; volumes: readonly VolumeInfo[] } | undefined;
  names(): readonly string[];
  /** How the open classes look at this moment. */
  looks(): readonly ClassLook[];
  /** Classes that are there and could not be opened when it was last tried, and why; for people. */
  problems(): ReadonlyMap<string, string>;
  /** Closes all, one after the other; no further one is opened. The first error is thrown at the end. */
  close(): Promise<void>;
};

type Entry = { readonly diskClass: OwnClass; volumes: readonly VolumeInfo[]; users: number };

/** Errors that say that there is no such class to be served. */
const NOT_THERE: readonly ErrorCode[] = ['no-such-object', 'bad-name', 'usage'];

export type Choice = {
  /** Names of the classes to serve; without it all. */
  readonly classes?: readonly string[] | undefined;
  /** Names of the volumes that clients see; without it all. */
  readonly volumes?: readonly string[] | undefined;
  /** Told how the volumes of an open class look, each time before anybody else is. Does not throw. */
  readonly changed?: ((name: string, volumes: readonly VolumeInfo[]) => Promise<void>) | undefined;
};

export function serveClasses(
  open: (name: string, create: boolean) => Promise<OwnClass>,
  choice: Choice = {},
): ServedClasses {
  const entries = new Map<string, Entry>();
  const problems = new Map<string, string>();
  let closed = false;
  let queue: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = queue.then(work);
    queue = result.catch(() => {});
    return result;
  };
  const isChosen = ({ name }: VolumeInfo) => choice.volumes?.includes(name) ?? true;
  const refresh = async (entry: Entry) => {
    entry.volumes = (await entry.diskClass.info()).volumes.filter(isChosen);
    const { name } = entry.diskClass;
    if (entries.get(name) === entry) await choice.changed?.(name, entry.volumes);
  };
  const forget = (name: string, entry: Entry) => {
    if (entries.get(name) === entry) entries.delete(name);
  };

  const opened = async (name: string, create: boolean): Promise<Entry> => {
    const known = entries.get(name);
    if (known !== undefined) return known;
    const entry: Entry = { diskClass: await open(name, create), volumes: [], users: 0 };
    try {
      await refresh(entry);
    } catch (error) {
      await entry.diskClass.close().catch(() => {});
      throw error;
    }
    entries.set(name, entry);
    await choice.changed?.(name, entry.volumes);
    return entry;
  };

  /** The same, and whether it went well is remembered. */
  const noted = async (name: string, create: boolean): Promise<Entry> => {
    try {
      const entry = await opened(name, create);
      problems.delete(name);
      return entry;
    } catch (error) {
      if (error instanceof KageError && NOT_THERE.includes(error.code)) problems.delete(name);
      else problems.set(name, error instanceof Error ? error.message : String(error));
      throw error;
    }
  };

  const leave = (name: string, entry: Entry) =>
    inTurn(async () => {
      entry.users--;
      if (entry.users > 0 || entries.get(name) !== entry) return;
      await refresh(entry);
      if (entry.volumes.length > 0) return;
      forget(name, entry);
      await entry.diskClass.close();
    });

  return {
    enter: (name, create) =>
      inTurn(async () => {
        if (closed) throw new KageError('failed', 'the server is about to end');
        if (choice.classes !== undefined && !choice.classes.includes(name)) return undefined;
        const entry = await noted(name, create);
        entry.users++;
        let left: Promise<void> | undefined;
        return {
          diskClass: entry.diskClass,
          refresh: () => refresh(entry),
          forget: () => forget(name, entry),
          leave: () => {
            left ??= leave(name, entry);
            return left;
          },
        };
      }),
    async refresh(name) {
      const entry = entries.get(name);
      if (entry !== undefined) await refresh(entry);
    },
    find: (name) => entries.get(name),
    names: () => [...entries.keys()],
    looks: () => [...entries.values()].map(({ diskClass }) => diskClass.look()),
    problems: () => problems,
    close: () =>
      inTurn(async () => {
        closed = true;
        let failure: unknown;
        for (const [name, entry] of [...entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
          forget(name, entry);
          await entry.diskClass.close().catch((error) => {
            failure ??= error;
          });
        }
        if (failure !== undefined) throw failure;
      }),
  };
}
