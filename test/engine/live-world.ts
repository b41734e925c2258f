/** A class in memory that clients use, and whose disk operations a test lets go one by one. */

import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { type MemoryDisk, MemoryHost } from '../../src/device/memory-host.ts';
import type { AttachedVolume, ClassEvent, DiskClass } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';
import type { State } from '../../src/engine/state.ts';

export const REGION = 4096;
export const SIZE = 8 * REGION;

export class World {
  readonly host = new MemoryHost(1);
  /** Where the proxy lies; an NBD URI is a disk that verbs open anew after a fault. */
  proxyPath = '/p.img';
  extentsMax = 8;
  readonly waiting: (() => void)[] = [];
  disks!: DiskClass;
  /** What the session believes. */
  state!: State;

  /** The master is full of ones, the proxy of twos. */
  static async create(exclusive = true, proxyPath = '/p.img'): Promise<World> {
    const world = new World();
    world.proxyPath = proxyPath;
    const paths = { m: '/m.img', p: proxyPath };
    for (const [name, path] of Object.entries(paths)) {
      const disk = world.host.addDisk(path, SIZE);
      disk.write(new Uint8Array(SIZE).fill(name === 'm' ? 1 : 2), 0);
      disk.flush();
    }
    await world.open();
    await world.disks.add(Object.entries(paths).map(([name, path]) => ({ path, name, exclusive })));
    return world;
  }

  get m(): MemoryDisk {
    return this.host.disks.get('/m.img')!;
  }

  get p(): MemoryDisk {
    return this.host.disks.get(this.proxyPath)!;
  }

  /** The first byte of a region on a disk. */
  byte(disk: MemoryDisk, region: number): number {
    return disk.content[region * REGION];
  }

  async open(onEvent?: (event: ClassEvent) => void): Promise<void> {
    this.disks = await openClass('live', {
      onEvent,
      home: '/home',
      host: this.host,
      kernel: 'js',
      create: true,
      live: true,
      tuning: {
        extentSize: REGION,
        extentsMax: this.extentsMax,
        pieceSize: REGION,
        watch: (state) => {
          this.state = state;
        },
      },
    });
  }

  /** From now on every disk operation waits until `goOn` lets it go. */
  hold(): void {
    this.host.latency = () => new Promise((resolve) => this.waiting.push(resolve));
  }

  async turn(): Promise<void> {
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Lets `count` operations go on, each as far as it comes. */
  async goOn(count = 1): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.turn();
      this.waiting.shift()?.();
    }
    await this.turn();
  }

  /** Lets everything go on until `work` has ended, however. */
  async until(work: Promise<unknown>): Promise<void> {
    let ended = false;
    const end = () => {
      ended = true;
    };
    work.then(end, end);
    await this.turn();
    while (!ended) await this.goOn();
  }

  async finish(): Promise<void> {
    this.host.latency = undefined;
    while (this.waiting.length > 0) await this.goOn();
  }

  async pair() {
    return (await this.disks.info()).pairs[0];
  }
}

export async function refused(work: Promise<unknown>): Promise<KageError> {
  try {
    await work;
  } catch (error) {
    assert.instance(error, KageError);
    return error as KageError;
  }
  throw new Error('nothing was refused');
}

export async function contentOf(volume: AttachedVolume): Promise<number[]> {
  const into = new Uint8Array(SIZE);
  await volume.read(into, 0);
  return Array.from({ length: SIZE / REGION }, (_, region) => into[region * REGION]);
}

export const join = (world: World, wait = true) =>
  world.disks.join('m', 'p', { regionSize: REGION, wait });

/** The n-th such operation of the disk fails, and with `lasts` all from then on. */
export function failing(disk: MemoryDisk, operation: string, n = 1, lasts = false): void {
  let left = n;
  disk.fault = (op) => {
    if (op !== operation || --left > 0) return;
    if (!lasts) disk.fault = undefined;
    throw new KageError('io-error', `${disk.name}: ${operation} failed: EIO`);
  };
}
