/** Regions that settle: cleared durably when both sides were synced since, and not a write later. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Run } from '../../src/bitmap/region-map.ts';
import type { PairRecord } from '../../src/catalog/records.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { type Durably, Pair } from '../../src/proxy/pair.ts';
import { type Moment, Settling } from '../../src/proxy/settling.ts';

const test = suite('proxy: settling');
const REGION = 4096;

function pairOf(regions: number): Pair {
  const record = { id: 1, regionSize: REGION } as PairRecord;
  const pair = Pair.fresh(record, regions * REGION, createKernel('js'));
  pair.maps.pending.setAll();
  return pair;
}

const durably: Durably = async () => {};

test('a settling region reads from the target, and is pending for whoever asks if all is done', async () => {
  const pair = pairOf(4);
  pair.beginSettling({ first: 1, count: 2 });
  assert.not.ok(pair.isPending(1));
  assert.ok(pair.isPending(0));
  assert.ok(pair.maps.pending.has(1), 'its bit stays until both sides are synced');
  await pair.clearSettled(pair.settlingNow(), durably);
  assert.not.ok(pair.isSettling(1));
  assert.not.ok(pair.maps.pending.has(1));
  assert.not.ok(pair.pendingEmpty);
});

test('what settles after the syncs began is not cleared with them', async () => {
  const pair = pairOf(4);
  pair.beginSettling({ first: 0, count: 1 });
  const before = pair.settlingNow();
  pair.beginSettling({ first: 3, count: 1 });
  await pair.clearSettled(before, durably);
  assert.not.ok(pair.maps.pending.has(0));
  assert.ok(pair.maps.pending.has(3));
  assert.ok(pair.isSettling(3));
});

test('of a copy that was given up nothing settles any more', async () => {
  const pair = pairOf(4);
  pair.dropPending();
  pair.beginSettling({ first: 0, count: 2 });
  assert.not.ok(pair.settles);
  await pair.clearPending([{ first: 2, count: 1 }], durably);
  assert.ok(pair.pendingEmpty);
});

test('a region whose bit another call has put back settles later', async () => {
  const pair = pairOf(2);
  pair.beginSettling({ first: 0, count: 1 });
  const before = pair.settlingNow();
  await pair.clearSettled(before, async () => {
    pair.maps.pending.set(0);
  });
  assert.ok(pair.isSettling(0));
  await pair.clearSettled(pair.settlingNow(), durably);
  assert.not.ok(pair.maps.pending.has(0));
});

test('a region that is pending again meanwhile stays so', async () => {
  const pair = pairOf(4);
  pair.beginSettling({ first: 0, count: 2 });
  const before = pair.settlingNow();
  pair.pendAgain({ first: 0, count: 1 });
  await pair.clearSettled(before, durably);
  assert.ok(pair.isPending(0));
  assert.not.ok(pair.maps.pending.has(1));
});

test('a region that settled and began anew waits for its own syncs', async () => {
  const pair = pairOf(2);
  pair.beginSettling({ first: 0, count: 1 });
  const before = pair.settlingNow();
  pair.pendAgain({ first: 0, count: 1 });
  pair.beginSettling({ first: 0, count: 1 });
  await pair.clearSettled(before, durably);
  assert.ok(pair.maps.pending.has(0));
  assert.ok(pair.isSettling(0));
});

test('until its bit is durably clear a region is settling for everybody else', async () => {
  const pair = pairOf(1);
  pair.beginSettling({ first: 0, count: 1 });
  let save: () => void = () => {};
  const clearing = pair.clearSettled(
    pair.settlingNow(),
    () =>
      new Promise((resolve) => {
        save = resolve;
      }),
  );
  assert.ok(pair.isSettling(0), 'a write to its source must wait');
  assert.not.ok(pair.pendingEmpty);
  save();
  await clearing;
  assert.not.ok(pair.isSettling(0));
  assert.ok(pair.pendingEmpty);
});

test('a bit that could not be saved is set again', async () => {
  const pair = pairOf(2);
  pair.beginSettling({ first: 0, count: 1 });
  let message = '';
  await pair
    .clearSettled(pair.settlingNow(), () => Promise.reject(new Error('disk full')))
    .catch((error) => {
      message = error.message;
    });
  assert.is(message, 'disk full');
  assert.ok(pair.maps.pending.has(0));
  assert.ok(pair.isSettling(0));
  await pair.clearSettled(pair.settlingNow(), durably);
  assert.not.ok(pair.maps.pending.has(0));
});

test('regions that are held are cleared as one', async () => {
  const pair = pairOf(4);
  const saved: number[] = [];
  await pair.clearPending([{ first: 1, count: 2 }], async ({ maps }) => {
    saved.push(maps.pending.count());
  });
  assert.equal(saved, [2]);
  assert.not.ok(pair.isSettling(1));
});

test('a map that becomes stale again while it is committed stays stale', () => {
  const { stale } = pairOf(1);
  const [[name, added]] = [...stale.now()];
  stale.add(name);
  stale.written(name, added);
  assert.ok(stale.has(name), 'what was added meanwhile is in no file');
  stale.written(name, stale.now().get(name)!);
  assert.not.ok(stale.has(name));
});

/** The same by one number for each region and each time that it began. */
class Model {
  readonly begun = new Map<number, number>();
  #next = 0;

  begin({ first, count }: Run): void {
    for (let r = first; r < first + count; r++) this.begun.set(r, this.#next++);
  }

  remove({ first, count }: Run): void {
    for (let r = first; r < first + count; r++) this.begun.delete(r);
  }

  of(moment: ReadonlyMap<number, number>): number[] {
    return [...moment.keys()].filter((r) => this.begun.get(r) === moment.get(r)).sort(rising);
  }
}

const rising = (a: number, b: number) => a - b;
const regionsOf = (runs: readonly Run[]) =>
  runs
    .flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i))
    .sort(rising);

/** Over the seams of words and of pieces. */
const runs = fc
  .tuple(
    fc.oneof(fc.nat(100), fc.integer({ min: 4050, max: 4200 })),
    fc.integer({ min: 1, max: 90 }),
  )
  .map(([first, count]) => ({ first, count }));
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('begin' as const), run: runs }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), run: runs }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('now' as const), run: runs }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('only' as const), run: runs }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('settle' as const), run: runs }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('clear' as const), run: runs }) },
  ),
  { maxLength: 60 },
);

test('layers of bits are what numbers would be', () => {
  fc.assert(
    fc.property(steps, (all) => {
      const settling = new Settling();
      const model = new Model();
      const moments: { real: Moment; model: ReadonlyMap<number, number> }[] = [];
      for (const [i, step] of all.entries()) {
        const { run } = step;
        if (step.do === 'begin') {
          settling.begin(run);
          model.begin(run);
        } else if (step.do === 'remove') {
          settling.remove(run);
          model.remove(run);
        } else if (step.do === 'now') {
          moments.push({ real: settling.now(), model: new Map(model.begun) });
        } else if (step.do === 'only') {
          const real = settling.nowOnly([run]);
          model.begin(run);
          const own = [...model.begun].filter(([r]) => r >= run.first && r < run.first + run.count);
          moments.push({ real, model: new Map(own) });
        } else if (step.do === 'settle' && moments.length > 0) {
          const moment = moments[i % moments.length];
          for (const settled of settling.of(moment.real)) settling.remove(settled);
          for (const region of model.of(moment.model)) model.begun.delete(region);
        } else if (step.do === 'clear') {
          settling.clear();
          model.begun.clear();
        }
        assert.is(settling.isEmpty, model.begun.size === 0);
        for (const moment of moments) {
          assert.equal(regionsOf(settling.of(moment.real)), model.of(moment.model));
        }
        const settles = [...model.begun.keys()];
        assert.is(
          settling.meets(run),
          settles.some((r) => r >= run.first && r < run.first + run.count),
        );
        for (const region of settles.slice(0, 5)) assert.ok(settling.has(region));
        assert.not(settling.has(5000));
      }
    }),
    { numRuns: 500 },
  );
});

test('of more moments than syncs are under way the oldest ones forget, and nothing is forgotten', () => {
  const settling = new Settling();
  const moments: { moment: Moment; may: (region: number) => boolean }[] = [];
  for (let now = 0; now < 200; now++) {
    const own = { first: now, count: 1 };
    if (now % 3 !== 0) settling.begin(own);
    else moments.push({ moment: settling.nowOnly([own]), may: (region) => region === now });
    moments.push({ moment: settling.now(), may: (region) => region <= now });
  }
  for (const { moment, may } of moments) {
    assert.ok(regionsOf(settling.of(moment)).every(may));
    assert.ok(moment.length <= 40, `${moment.length} layers`);
  }
  assert.equal(regionsOf(settling.of(settling.now())), [...Array(200).keys()]);
});

test.run();
