/** Copies that an earlier process did not finish: which call goes on with each. */

import type { CopyOptions, DiskClass, PairInfo } from '../engine/api.ts';

export type Continuation = {
  /** Master and direction and proxy, for people. */
  readonly text: string;
  /** Undefined: the record names no verb that would go on with it. */
  readonly run: ((options: CopyOptions) => Promise<unknown>) | undefined;
};

/** One for each pair with regions that are still to be copied. */
export function unfinishedCopies(diskClass: DiskClass, pairs: readonly PairInfo[]): Continuation[] {
  return pairs
    .filter((pair) => pair.pendingRegions > 0)
    .map((pair) => ({
      text: `${pair.master} ${pair.direction === 'toProxy' ? '->' : '<-'} ${pair.proxy}`,
      run: continuationOf(diskClass, pair),
    }));
}

/**
 * Only the verb that is recorded goes on with a copy: another one would take a newer state. Clients may
 * use a master that is being restored: what is not there yet comes from the proxy.
 */
function continuationOf(diskClass: DiskClass, pair: PairInfo): Continuation['run'] {
  const { master, proxy, joined, direction, next } = pair;
  const inUse = { instant: true, live: true };
  if (joined && direction === 'toProxy') return (options) => diskClass.join(master, proxy, options);
  if (joined) return (options) => diskClass.restore([proxy], { ...options, ...inUse });
  if (next?.verb === 'update') return (options) => diskClass.update([proxy], options);
  if (next?.verb !== 'restore --keep') return undefined;
  return (options) => diskClass.restore([proxy], { ...options, ...inUse, keep: true });
}
