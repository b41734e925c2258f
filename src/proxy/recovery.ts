/**
 * What becomes of a pair when an image may have been written behind the engine's back (DESIGN
 * section 4, Trust). Pure.
 */

import { type PairView, sourceOf, targetOf } from './transitions.ts';

export type Moved = {
  /** Why the side may have been written by others, or null. */
  readonly master: string | null;
  readonly proxy: string | null;
  /** The last session did not end in order. */
  readonly unclean: boolean;
};

export type Verdict =
  /** The maps hold. */
  | { readonly kind: 'trust' }
  /** The unfinished copy begins again from its first region, comparing; its moment stays. */
  | { readonly kind: 'restart'; readonly reason: string }
  /** The maps say nothing any more: the next copy compares everything. */
  | { readonly kind: 'doubt'; readonly reason: string }
  /** The target of the unfinished copy has lost its content: INVALID, and doubt. */
  | { readonly kind: 'invalid'; readonly reason: string };

export type Unfinished = {
  /** No client wrote to either side since the copy began: the target's content is the source's. */
  readonly changedEmpty: boolean;
  /** The target is in use while it is copied. */
  readonly instant: boolean;
};

export function judge(pair: PairView, copy: Unfinished, moved: Moved): Verdict {
  const reason =
    moved.master !== null
      ? `the master ${moved.master}`
      : moved.proxy !== null
        ? `the proxy ${moved.proxy}`
        : null;
  if (reason === null) return { kind: 'trust' };
  if (pair.pendingEmpty) return { kind: 'doubt', reason };
  if (pair.joined) {
    // A target that nobody may use yet is simply compared from the start; one that clients have
    // seen would change under them.
    const seen = copy.instant && pair.direction === 'toMaster';
    return seen
      ? { kind: 'invalid', reason: `${reason}, while the master was being restored` }
      : { kind: 'doubt', reason };
  }
  const sourceMoved = sourceOf(pair.direction) === 'master' ? moved.master : moved.proxy;
  if (sourceMoved !== null) {
    const source = sourceOf(pair.direction);
    return {
      kind: 'invalid',
      reason: `the ${source} ${sourceMoved}, while the ${targetOf(pair.direction)} still depended on it`,
    };
  }
  // Only the target moved. After a crash that was most likely our own copy, cut short: comparing
  // everything with the untouched source puts it right, unless clients had written meanwhile.
  if (moved.unclean && copy.changedEmpty && !copy.instant) return { kind: 'restart', reason };
  return { kind: 'invalid', reason: `${reason}, while it was only partly copied` };
}
