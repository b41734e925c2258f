/**
 * A host whose images may also lie behind NBD servers: a path that is a URI (`nbd://`, `nbd+unix://`)
 * is an export there. All that has an export open shares one connection, since many a server takes no
 * second one. Nobody can tell who else writes to it: its stamps prove nothing.
 */

import { KageError } from '../base/errors.ts';
import type { BlockDevice } from '../device/device.ts';
import type { Folder, Host, ImageFacts, OpenOptions } from '../device/host.ts';
import type { Stamp } from '../device/stamp.ts';
import type { NbdDevice } from './client-device.ts';
import { formatNbdUri, isNbdUri, parseNbdUri } from './uri.ts';

type Shared = { readonly device: NbdDevice; users: number };

export class NbdHost implements Host {
  readonly #below: Host;
  readonly #open = new Map<string, Promise<Shared>>();

  constructor(below: Host) {
    this.#below = below;
  }

  async resolve(path: string): Promise<string> {
    return isNbdUri(path) ? formatNbdUri(parseNbdUri(path)) : await this.#below.resolve(path);
  }

  async inspect(path: string): Promise<ImageFacts | undefined> {
    if (!isNbdUri(path)) return await this.#below.inspect(path);
    const uri = await this.resolve(path);
    return await this.#with(uri, ({ device }) => ({
      path: uri,
      kind: 'remote',
      size: device.size,
      identity: `nbd ${uri}`,
      behind: undefined,
      readable: true,
      writable: !device.readOnly,
      busy: false,
      allocated: device.size,
    }));
  }

  async stamp(path: string, settle: boolean): Promise<Stamp> {
    if (!isNbdUri(path)) return await this.#below.stamp(path, settle);
    const uri = await this.resolve(path);
    return await this.#with(uri, ({ device }) => ({
      kind: 'file',
      id: uri,
      birth: '0',
      size: device.size,
      mtime: '0',
      ctime: '0',
      takenAt: this.#below.now(),
      boot: this.#below.boot(),
      unreliable: 'lies behind an NBD server, which does not tell who writes to it',
    }));
  }

  async openDevice(path: string, options: OpenOptions): Promise<BlockDevice> {
    if (!isNbdUri(path)) return await this.#below.openDevice(path, options);
    const uri = await this.resolve(path);
    const shared = await this.#enter(uri);
    if (!options.readOnly && shared.device.readOnly) {
      await this.#leave(shared);
      throw new KageError('image-readonly', `${uri}: the server offers it to read only`, {
        data: { path: uri },
      });
    }
    return new SharedDevice(shared.device, options.readOnly, () => this.#leave(shared));
  }

  async checkPlace(path: string): Promise<void> {
    if (isNbdUri(path)) throw notHere(path);
    await this.#below.checkPlace(path);
  }

  async createImage(path: string, size: number): Promise<void> {
    if (isNbdUri(path)) throw notHere(path);
    await this.#below.createImage(path, size);
  }

  async removeImage(path: string): Promise<void> {
    if (!isNbdUri(path)) await this.#below.removeImage(path);
  }

  renameImage(from: string, to: string): Promise<void> {
    return this.#below.renameImage(from, to);
  }

  async namesFrom(path: string): Promise<string[]> {
    return isNbdUri(path) ? [] : await this.#below.namesFrom(path);
  }

  hasOpen(pid: number, path: string): boolean {
    return !isNbdUri(path) && this.#below.hasOpen(pid, path);
  }

  now(): number {
    return this.#below.now();
  }

  sleep(ms: number): Promise<void> {
    return this.#below.sleep(ms);
  }

  randomId(): string {
    return this.#below.randomId();
  }

  self(): { pid: number; machine: string | null } {
    return this.#below.self();
  }

  boot(): string | null {
    return this.#below.boot();
  }

  folder(path: string): Folder {
    return this.#below.folder(path);
  }

  get threads(): boolean {
    return this.#below.threads;
  }

  async #with<T>(uri: string, work: (shared: Shared) => T): Promise<T> {
    const shared = await this.#enter(uri);
    try {
      return work(shared);
    } finally {
      await this.#leave(shared);
    }
  }

  /** The connection of an export, made if there is none or if it has a fault. */
  async #enter(uri: string): Promise<Shared> {
    for (let opening = this.#open.get(uri); opening; opening = this.#open.get(uri)) {
      const known = await opening.catch(() => undefined);
      if (this.#open.get(uri) !== opening) continue;
      if (known !== undefined && known.users > 0 && known.device.faulted === undefined) {
        known.users++;
        return known;
      }
      this.#open.delete(uri);
    }
    const opening = this.#connect(uri).then((device) => ({ device, users: 1 }));
    this.#open.set(uri, opening);
    return await opening;
  }

  async #connect(uri: string): Promise<NbdDevice> {
    // Few commands need it, and each start would pay for it.
    const { NbdDevice } = await import('./client-device.ts');
    try {
      return await NbdDevice.connect(uri, { clock: this.#below });
    } catch (error) {
      const refused =
        error instanceof KageError && ['image-readonly', 'not-permitted'].includes(error.code);
      if (!refused) throw error;
      return await NbdDevice.connect(uri, { clock: this.#below, readOnly: true });
    }
  }

  async #leave(shared: Shared): Promise<void> {
    shared.users--;
    if (shared.users > 0) return;
    // Whoever asks from now on finds no users and connects anew.
    await shared.device.close();
  }
}

/** One of those who have a connection: closing it leaves the others theirs. */
class SharedDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly #device: NbdDevice;
  readonly #leave: () => Promise<void>;
  #left: Promise<void> | undefined;

  constructor(device: NbdDevice, readOnly: boolean, leave: () => Promise<void>) {
    this.name = device.name;
    this.size = device.size;
    this.readOnly = readOnly;
    this.#device = device;
    this.#leave = leave;
  }

  read(into: Uint8Array, offset: number): void | Promise<void> {
    return this.#device.read(into, offset);
  }

  write(from: Uint8Array, offset: number): void | Promise<void> {
    return this.#device.write(from, offset);
  }

  zero(offset: number, length: number): void | Promise<void> {
    return this.#device.zero(offset, length);
  }

  flush(): Promise<void> {
    return this.#device.flush();
  }

  close(): Promise<void> {
    this.#left ??= this.#leave();
    return this.#left;
  }
}

function notHere(uri: string): KageError {
  return new KageError('not-permitted', `${uri}: an image there is made by its server`, {
    data: { path: uri },
  });
}
