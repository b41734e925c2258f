/** Holds: nobody who meets another has his at the same time, everybody gets his in turn. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Hold, Holds } from '../../src/proxy/holds.ts';

const test = suite('proxy: holds');
const FOREVER = Number.POSITIVE_INFINITY;

/** Whether a hold was granted at once; what is granted later comes into the list. */
function ask(
  holds: Holds,
  list: Hold[],
  from: number,
  to: number,
  exclusive: boolean,
  key = 1,
): boolean {
  const answer = holds.acquire(key, from, to, exclusive);
  if ('then' in answer) {
    answer.then((hold) => list.push(hold));
    return false;
  }
  list.push(answer);
  return true;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('readers share, a writer has it alone, neighbours do not meet', () => {
  const holds = new Holds();
  const got: Hold[] = [];
  assert.ok(ask(holds, got, 0, 10, false));
  assert.ok(ask(holds, got, 5, 15, false));
  assert.not.ok(ask(holds, got, 9, 10, true));
  assert.ok(ask(holds, got, 15, 20, true));
  assert.ok(ask(holds, got, 0, FOREVER, true, 2), 'another family');
});

test('what is behind a waiting one that it meets waits too', async () => {
  const holds = new Holds();
  const got: Hold[] = [];
  ask(holds, got, 0, 10, false);
  assert.not.ok(ask(holds, got, 0, FOREVER, true), 'a pause waits for the reader');
  assert.not.ok(ask(holds, got, 20, 30, false), 'a later reader waits for the pause');
  assert.not.ok(holds.isFree(1, 20, 30, false));
  holds.release(got[0]);
  await turn();
  assert.is(got.length, 2);
  assert.is(got[1].to, FOREVER);
  holds.release(got[1]);
  await turn();
  assert.is(got.length, 3);
  assert.ok(holds.isFree(1, 0, 20, true));
});

test('a hold is given back once', () => {
  const holds = new Holds();
  const hold = holds.acquire(1, 0, 1, true) as Hold;
  holds.release(hold);
  assert.throws(() => holds.release(hold));
});

test('random askers: never two that meet, first come first served, all are served', async () => {
  const asker = fc.record({
    key: fc.nat(1),
    from: fc.nat(12),
    length: fc.integer({ min: 1, max: 12 }),
    exclusive: fc.boolean(),
  });
  const step = fc.oneof(asker, fc.nat(1000));
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const holds = new Holds();
      const active: { hold: Hold; order: number }[] = [];
      const waiting: { hold: Hold; order: number }[] = [];
      const meet = (a: Hold, b: Hold) =>
        a.key === b.key && (a.exclusive || b.exclusive) && a.from < b.to && b.from < a.to;
      const granted = (hold: Hold, order: number) => {
        assert.not.ok(
          active.some((other) => meet(other.hold, hold)),
          'two that meet',
        );
        const passed = waiting.filter((w) => w.order < order && meet(w.hold, hold));
        assert.is(passed.length, 0, 'somebody was passed who came before');
        const place = waiting.findIndex((w) => w.order === order);
        if (place >= 0) waiting.splice(place, 1);
        active.push({ hold, order });
      };
      for (const [order, s] of steps.entries()) {
        if (typeof s === 'number') {
          if (active.length === 0) continue;
          const [{ hold }] = active.splice(s % active.length, 1);
          holds.release(hold);
          await turn();
          continue;
        }
        const to = s.from + s.length;
        const free = holds.isFree(s.key, s.from, to, s.exclusive);
        const answer = holds.acquire(s.key, s.from, to, s.exclusive);
        assert.is(!('then' in answer), free);
        if ('then' in answer) {
          waiting.push({ hold: { ...s, to }, order });
          answer.then((hold) => granted(hold, order));
        } else granted(answer, order);
      }
      while (active.length > 0) {
        holds.release(active.pop()!.hold);
        await turn();
      }
      assert.is(waiting.length, 0, 'somebody was never served');
    }),
    { numRuns: 150 },
  );
});

test.run();
