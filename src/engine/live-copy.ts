/**
 * A copy while clients use its volumes: each piece is held against them, what they have filled or
 * preserved meanwhile is left out, and what was copied settles (`proxy/pair.ts`) until both sides are
 * synced.
 */

import type { CopyGuard } from '../copy/job.ts';
import type { Piece } from '../copy/plan.ts';
import type { Range } from '../copy/task.ts';
import type { Link } from '../proxy/link.ts';
import type { Pair } from '../proxy/pair.ts';
import type { State } from './state.ts';

/** `family`: the number of the pair's master. */
export function guardOf(state: State, link: Link, pair: Pair, family: number): CopyGuard {
  return {
    async enter({ ranges }) {
      const from = ranges[0].offset;
      const last = ranges[ranges.length - 1];
      const hold = await link.hold(family, from, last.offset + last.length);
      const wanted = ranges.flatMap((range) => stillPending(pair, range));
      return {
        ranges: wanted,
        leave(copied) {
          if (copied) {
            for (const { offset, length } of wanted) {
              const { regionSize } = pair;
              pair.beginSettling({
                first: offset / regionSize,
                count: Math.ceil(length / regionSize),
              });
            }
          }
          link.release(hold);
        },
      };
    },
    batch() {
      const settling = pair.settlingNow();
      return () => pair.clearSettled(settling, state.saveMap);
    },
  };
}

/** The parts of a range whose regions are pending and not settling. */
function stillPending(pair: Pair, { offset, length }: Piece['ranges'][number]): Range[] {
  const { regionSize } = pair;
  const found: Range[] = [];
  const end = offset + length;
  for (let at = offset; at < end; at += regionSize) {
    if (!pair.isPending(at / regionSize)) continue;
    const bytes = Math.min(regionSize, end - at);
    const before = found.at(-1);
    if (before && before.offset + before.length === at) {
      found[found.length - 1] = { offset: before.offset, length: before.length + bytes };
    } else {
      found.push({ offset: at, length: bytes });
    }
  }
  return found;
}
