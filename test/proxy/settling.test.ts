/** Regions that settle: cleared durably when both sides were synced since, and not a write later. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { PairRecord } from '../../src/catalog/records.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { type Durably, Pair } from '../../src/proxy/pair.ts';

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

test.run();
