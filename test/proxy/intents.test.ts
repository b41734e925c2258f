/** The intent log among concurrent writers: what is pinned is durably hot, and stays so. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type HotExtent, IntentLog } from '../../src/bitmap/intent-log.ts';
import { MemoryHost, seededRandom } from '../../src/device/memory-host.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { Intents } from '../../src/proxy/intents.ts';

const test = suite('proxy: intents');
const kernel = createKernel('js');
const hot = (...extents: number[]): HotExtent[] => extents.map((extent) => ({ volume: 1, extent }));
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A log of `most` extents in a world whose operations wait until they are let go. */
async function world(most: number, secure: (extents: readonly HotExtent[]) => Promise<void>) {
  const host = new MemoryHost(1);
  const log = await IntentLog.create(host.folder('/state'), kernel, most);
  const waiting: (() => void)[] = [];
  host.latency = () => new Promise((resolve) => waiting.push(resolve));
  const intents = new Intents({ log: async () => log, secure });
  const goOn = async () => {
    for (let i = 0; i < 100; i++) {
      await turn();
      waiting.shift()?.();
    }
  };
  /** What a crash now would leave in the log. */
  const durable = async () => {
    const { latency } = host;
    host.latency = undefined;
    const own = createKernel('js');
    const found = await IntentLog.open(host.folder('/state'), own, most, true);
    host.latency = latency;
    return found.log!.extents.map(({ extent }) => extent).sort((a, b) => a - b);
  };
  return { host, log, intents, goOn, durable, waiting };
}

test('a pin waits until it is durable, and what is hot is pinned at once', async () => {
  const { intents, goOn, durable } = await world(4, async () => {});
  let pinned = false;
  const pin = intents.pin(hot(1)).then(() => {
    pinned = true;
  });
  await turn();
  assert.not.ok(pinned);
  assert.not.ok(intents.tryPin(hot(1)), 'in the log, but not yet on the disk');
  await goOn();
  await pin;
  assert.equal(await durable(), [1]);
  assert.ok(intents.tryPin(hot(1)));
  assert.ok(intents.tryPin([]), 'nothing is always hot');
});

test('writers that come together share one write of the log', async () => {
  const { host, intents, goOn } = await world(8, async () => {});
  const pins = [1, 2, 3, 4].map((extent) => intents.pin(hot(extent)));
  await goOn();
  await Promise.all(pins);
  const { writes } = host.folders.get('/state')!.names.get('intent')!;
  assert.ok(writes <= 3, `${writes} writes`);
});

test('who comes just when others have been served is served too', async () => {
  for (let depth = 0; depth < 12; depth++) {
    const host = new MemoryHost(1);
    const log = await IntentLog.create(host.folder('/state'), kernel, 1);
    const intents = new Intents({ log: async () => log, secure: async () => {} });
    // The first pin is through so many turns of the loop after its extent is durable.
    let second: Promise<void> | undefined;
    const enter = log.enter.bind(log);
    log.enter = async (extents) => {
      await enter(extents);
      const steps = async () => {
        for (let i = 0; i < depth; i++) await null;
        second ??= intents.pin(hot(2));
      };
      void steps();
    };
    await intents.pin(hot(1));
    await turn();
    intents.unpin(hot(1));
    let served = false;
    void second!.then(() => {
      served = true;
    });
    for (let i = 0; i < 10; i++) await turn();
    assert.ok(served, `it waits for ever when it comes ${depth} microtasks later`);
  }
});

test('what is pinned never leaves: who needs room waits', async () => {
  const left: number[] = [];
  const { intents, goOn, durable } = await world(2, async (extents) => {
    left.push(...extents.map(({ extent }) => extent));
  });
  const first = intents.pin(hot(1, 2));
  await goOn();
  await first;
  let third = false;
  const pin = intents.pin(hot(3)).then(() => {
    third = true;
  });
  await goOn();
  assert.not.ok(third);
  intents.unpin(hot(2));
  await goOn();
  await pin;
  assert.equal(left, [2]);
  assert.equal(await durable(), [1, 3]);
});

test('an extent that is leaving is hot for nobody, and comes back when it cannot leave', async () => {
  let fail: (error: Error) => void = () => {};
  const { intents, goOn, durable, log } = await world(
    1,
    () =>
      new Promise((_, reject) => {
        fail = reject;
      }),
  );
  const first = intents.pin(hot(1));
  await goOn();
  await first;
  intents.unpin(hot(1));
  let message = '';
  const second = intents.pin(hot(2)).catch((error) => {
    message = error.message;
  });
  await turn();
  assert.not.ok(intents.tryPin(hot(1)), 'a write now would be forgotten');
  fail(new Error('no sync'));
  await goOn();
  await second;
  assert.is(message, 'no sync');
  assert.equal(log.extents, hot(1));
  assert.equal(await durable(), [1]);
  assert.ok(intents.tryPin(hot(1)));
});

test('nothing leaves between freeze and thaw, and freeze waits for what is leaving', async () => {
  let done: () => void = () => {};
  const { intents, goOn } = await world(
    1,
    () =>
      new Promise((resolve) => {
        done = resolve;
      }),
  );
  const first = intents.pin(hot(1));
  await goOn();
  await first;
  intents.unpin(hot(1));
  const second = intents.pin(hot(2));
  await turn();
  let frozen = false;
  const freeze = intents.freeze().then(() => {
    frozen = true;
  });
  await turn();
  assert.not.ok(frozen);
  done();
  await goOn();
  await Promise.all([freeze, second]);
  intents.unpin(hot(2));
  let third = false;
  intents.pin(hot(3)).then(() => {
    third = true;
  });
  await goOn();
  assert.not.ok(third);
  intents.thaw();
  await turn();
  done();
  await goOn();
  assert.ok(third);
});

test('random writers: what a writer has pinned is on the disk all the time', async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = seededRandom(seed);
    const { intents, durable, waiting } = await world(3, async () => {
      await turn();
    });
    const pinned = new Map<number, number>();
    let writers = 0;
    const writer = async () => {
      writers++;
      for (let i = 0; i < 6; i++) {
        const first = Math.floor(random() * 6);
        const extents = random() < 0.3 ? hot(first, first + 1) : hot(first);
        if (!intents.tryPin(extents)) await intents.pin(extents);
        for (const { extent } of extents) pinned.set(extent, (pinned.get(extent) ?? 0) + 1);
        const there = await durable();
        for (const { extent } of extents) assert.ok(there.includes(extent), `seed ${seed}`);
        await turn();
        for (const { extent } of extents) pinned.set(extent, pinned.get(extent)! - 1);
        intents.unpin(extents);
      }
      writers--;
    };
    // Two at most hold two extents each; the log has room for three, so that they must wait.
    const all = [writer()];
    for (let i = 0; i < 2000 && writers > 0; i++) {
      if (i === 3) all.push(writer());
      await turn();
      waiting.splice(Math.floor(random() * waiting.length), 1)[0]?.();
      const there = new Set(await durable());
      for (const [extent, count] of pinned) {
        if (count > 0) assert.ok(there.has(extent), `seed ${seed}: ${extent} is pinned`);
      }
    }
    assert.is(writers, 0, `seed ${seed}: somebody waits for ever`);
    await Promise.all(all);
  }
});

test.run();
