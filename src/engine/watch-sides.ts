/** Whether the content of a pair's sides may have changed from one moment to another. */

import type { PairRecord } from '../catalog/records.ts';
import type { Link } from '../proxy/link.ts';
import type { Side } from '../proxy/states.ts';
import { targetOf } from '../proxy/transitions.ts';
import type { State } from './state.ts';

export type SidesWatch = {
  end(): void;
  /** True if anything of ours may have written to the side until `end`. */
  moved(side: Side): boolean;
};

/** What verbs and copies leave behind in all pairs of the master, and where they write to now. */
function look(state: State, record: PairRecord) {
  const family = state.record.pairs.filter((p) => p.master === record.master);
  const targets = new Set<Side>();
  const traces = family.map(({ id, since, joined }) => {
    const { copy, copies } = state.copies.of(id);
    if (copy !== null && (id === record.id || copy.direction === 'toMaster')) {
      targets.add(targetOf(copy.direction));
    }
    return [id, since, joined, copy !== null, copies.reduce((sum, c) => sum + c.count, 0)].join();
  });
  const own = family.find((p) => p.id === record.id);
  const pair = state.pairs.get(record.id);
  // What is written to one of them reaches the other.
  const linked = own === undefined || own.joined || pair === undefined || !pair.pendingEmpty;
  return { traces: traces.join(' '), targets, linked };
}

export function watchSides(state: State, link: Link, record: PairRecord): SidesWatch {
  const watch = link.watch();
  const before = look(state, record);
  let after = before;
  return {
    end() {
      watch.end();
      after = look(state, record);
    },
    moved(side) {
      if (before.traces !== after.traces || after.targets.has(side)) return true;
      const other = side === 'master' ? 'proxy' : 'master';
      if (watch.written.has(record[side])) return true;
      return (before.linked || after.linked) && watch.written.has(record[other]);
    },
  };
}
