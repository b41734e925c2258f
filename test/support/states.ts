/** Brings a pair `vm` / `vm-proxy` into each state there is, with work done on both sides before. */

import type { DiskClass } from '../../src/engine/api.ts';
import type { World } from './world.ts';

export const STATES = [
  'unrelated',
  'joining',
  'joined',
  'parted',
  'copying',
  'restoring',
  'restoring-keep',
  'invalid-proxy',
  'invalid-master',
] as const;
export type StateName = (typeof STATES)[number];

/** A copy that is stopped before its first piece: the pair stays in the middle of it. */
async function interrupted(run: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
  const stop = new AbortController();
  stop.abort();
  try {
    await run(stop.signal);
  } catch (error) {
    if ((error as { code?: string }).code === 'interrupted') return;
    throw error;
  }
  throw new Error('the copy was not interrupted');
}

export type PairOptions = {
  /** Bytes of each image. */
  readonly size?: number;
  /** Nobody else writes: stamps are not asked. */
  readonly exclusive?: boolean;
};

/** Registers both images; the proxy holds something else than the master. */
async function volumes(w: World, disks: DiskClass, options: PairOptions): Promise<void> {
  const size = options.size ?? 1024 * 1024;
  w.image('vm.img', size, 1);
  w.image('vm-proxy.img', size, 2);
  const exclusive = options.exclusive ?? false;
  await disks.add([
    { path: w.path('vm.img'), exclusive },
    { path: w.path('vm-proxy.img'), exclusive },
  ]);
}

/** Regions 1 and 3 are written on the master, 3 and 5 on the proxy. */
async function work(disks: DiskClass): Promise<void> {
  await disks.write('vm', 70_000, Buffer.alloc(5000, 'm'));
  await disks.write('vm', 200_000, Buffer.alloc(5000, 'M'));
  await disks.write('vm-proxy', 201_000, Buffer.alloc(5000, 'p'));
  await disks.write('vm-proxy', 330_000, Buffer.alloc(5000, 'P'));
}

export async function bringTo(
  w: World,
  state: StateName,
  options: PairOptions = {},
): Promise<void> {
  await w.engine(async (disks) => {
    await volumes(w, disks, options);
    if (state === 'unrelated') return;
    if (state === 'joining') {
      return await interrupted((signal) => disks.join('vm', 'vm-proxy', { signal }));
    }
    await disks.join('vm', 'vm-proxy');
    if (state === 'joined') return;
    await disks.part(['vm-proxy']);
    await work(disks);
    switch (state) {
      case 'copying':
        return await interrupted((signal) => disks.update(['vm-proxy'], { signal }));
      case 'restoring':
        return await interrupted((signal) => disks.restore(['vm-proxy'], { signal }));
      case 'restoring-keep':
        return await interrupted((signal) => disks.restore(['vm-proxy'], { signal, keep: true }));
      case 'invalid-proxy':
        await interrupted((signal) => disks.update(['vm-proxy'], { signal }));
        return void (await disks.cancel('vm-proxy'));
      case 'invalid-master':
        await interrupted((signal) => disks.restore(['vm-proxy'], { signal, keep: true }));
        return void (await disks.cancel('vm-proxy'));
    }
  });
}
