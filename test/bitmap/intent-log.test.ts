/** The intent log: what may have writes in flight is durable before them, and leaves late enough. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { EXTENTS_MAX } from '../../src/base/limits.ts';
import { type HotExtent, IntentLog } from '../../src/bitmap/intent-log.ts';
import { type MemoryDisk, MemoryHost } from '../../src/device/memory-host.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('bitmap: intent log');
const kernel = createKernel('wasm');
const SLOT = 4096;

const hot = (...extents: number[]): HotExtent[] => extents.map((extent) => ({ volume: 1, extent }));
const numbers = (extents: readonly HotExtent[]) => extents.map(({ extent }) => extent);

function diskOf(host: MemoryHost): MemoryDisk {
  return host.folders.get('/state')!.names.get('intent')!;
}

/** What another process would find. */
async function found(host: MemoryHost, most?: number) {
  const { log, doubt } = await IntentLog.open(host.folder('/state'), kernel, most, true);
  const extents = log ? numbers(log.extents).sort((a, b) => a - b) : [];
  await log?.close();
  return { extents, doubt };
}

async function create(host: MemoryHost, most = 4): Promise<IntentLog> {
  return await IntentLog.create(host.folder('/state'), kernel, most);
}

test('a new log is empty and without doubt', async () => {
  const host = new MemoryHost(1);
  await (await create(host)).close();
  assert.equal(await found(host), { extents: [], doubt: null });
});

test('what has entered is durable, of every volume', async () => {
  const host = new MemoryHost(1);
  const log = await create(host);
  await log.enter([
    { volume: 1, extent: 7 },
    { volume: 2, extent: 7 },
    { volume: 2 ** 32 - 1, extent: 2 ** 32 - 1 },
  ]);
  host.cutPower();
  const { log: again } = await IntentLog.open(host.folder('/state'), kernel);
  assert.equal(again?.extents, [
    { volume: 1, extent: 7 },
    { volume: 2, extent: 7 },
    { volume: 2 ** 32 - 1, extent: 2 ** 32 - 1 },
  ]);
});

test('leaving is durable with the next write of the log', async () => {
  const host = new MemoryHost(1);
  const log = await create(host);
  await log.enter(hot(1, 2, 3));
  log.leave(hot(2));
  assert.equal((await found(host)).extents, [1, 2, 3]);
  await log.save();
  assert.equal((await found(host)).extents, [1, 3]);
  log.leave(hot(1, 3));
  await log.enter(hot(9));
  assert.equal((await found(host)).extents, [9]);
  const { writes } = diskOf(host);
  await log.save();
  assert.is(diskOf(host).writes, writes, 'nothing to save');
});

test('the least recently used leave first, never those that are wanted', async () => {
  const host = new MemoryHost(1);
  const log = await create(host);
  await log.enter(hot(1, 2, 3, 4));
  assert.equal(log.victims(hot(2, 3)), []);
  assert.equal(numbers(log.victims(hot(5))), [1]);
  assert.ok(log.covers(hot(1)));
  assert.equal(numbers(log.victims(hot(5))), [2], '1 was used');
  assert.not.ok(log.covers(hot(2, 5)));
  assert.equal(numbers(log.victims(hot(5, 6))), [3, 4], '2 was used, though 5 is missing');
  assert.equal(numbers(log.victims(hot(3, 5))), [4], '3 is wanted itself');
});

test('does what a list of the last used does', async () => {
  const extent = fc.record({ volume: fc.nat(2), extent: fc.nat(5) });
  const wanted = fc.uniqueArray(extent, {
    minLength: 1,
    maxLength: 4,
    selector: (e) => `${e.volume}:${e.extent}`,
  });
  await fc.assert(
    fc.asyncProperty(fc.array(wanted, { maxLength: 25 }), async (sequence) => {
      const host = new MemoryHost(1);
      const log = await create(host, 6);
      let model: string[] = [];
      const key = (e: HotExtent) => `${e.volume}:${e.extent}`;
      for (const extents of sequence) {
        const keys = extents.map(key);
        assert.is(
          log.covers(extents),
          keys.every((k) => model.includes(k)),
        );
        const known = keys.filter((k) => model.includes(k));
        model = [...model.filter((k) => !known.includes(k)), ...known];
        const fresh = keys.filter((k) => !model.includes(k));
        const surplus = Math.max(0, model.length + fresh.length - 6);
        const leaving = model.filter((k) => !keys.includes(k)).slice(0, surplus);
        const victims = log.victims(extents);
        assert.equal(victims.map(key), leaving);
        log.leave(victims);
        await log.enter(extents);
        model = [...model.filter((k) => !leaving.includes(k)), ...fresh];
        assert.equal(log.extents.map(key), model);
      }
      const { log: again, doubt } = await IntentLog.open(host.folder('/state'), kernel, 6);
      assert.is(doubt, null);
      assert.equal(again?.extents.map(key), model);
    }),
    { numRuns: 60 },
  );
});

test('as many as there may be fit, and one more is a fault of the caller', async () => {
  const host = new MemoryHost(1);
  const log = await IntentLog.create(host.folder('/state'), kernel);
  const all = Array.from({ length: EXTENTS_MAX }, (_, i) => i * 1000);
  await log.enter(hot(...all));
  assert.equal((await found(host)).extents, all);
  let message = '';
  await log.enter(hot(7)).catch((error) => {
    message = error.message;
  });
  assert.match(message, /full/);
});

test('power fails while the log is written: the state before or after', async () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 40; seed++) {
    const host = new MemoryHost(seed);
    const log = await IntentLog.create(host.folder('/state'), kernel);
    await log.enter(hot(1));
    await log.enter(hot(2));
    log.leave(hot(1));
    diskOf(host).fault = (operation) => {
      if (operation === 'flush') throw new KageError('io-error', 'cut');
    };
    await log.enter(hot(...Array.from({ length: 100 }, (_, i) => 10 + i))).catch(() => {});
    host.cutPower();
    diskOf(host).fault = undefined;
    const { extents, doubt } = await found(host);
    assert.is(doubt, null, `seed ${seed}`);
    assert.ok(['1,2', '2,10'].includes(extents.slice(0, 2).join()), `seed ${seed}: ${extents}`);
    seen.add(extents.slice(0, 2).join());
  }
  assert.ok(seen.has('1,2'));
});

test('after a torn write the log goes on in the slot that was torn', async () => {
  const host = new MemoryHost(1);
  const log = await create(host);
  await log.enter(hot(1));
  await log.enter(hot(2));
  // The second write went to slot 1.
  diskOf(host).content[SLOT + 30] ^= 1;
  assert.equal(await found(host), { extents: [1], doubt: null });
  const { log: again } = await IntentLog.open(host.folder('/state'), kernel, 4);
  const good = diskOf(host).content.slice(0, SLOT);
  await again!.enter(hot(3));
  assert.equal([...diskOf(host).content.subarray(0, SLOT)], [...good], 'the good slot is kept');
  assert.equal((await found(host)).extents, [1, 3]);
});

test('two damaged slots, a wrong size and no log are doubt', async () => {
  const host = new MemoryHost(1);
  const log = await create(host);
  await log.enter(hot(1));
  await log.enter(hot(2));
  diskOf(host).content[SLOT + 30] ^= 1;
  diskOf(host).content[30] ^= 1;
  assert.match((await found(host)).doubt ?? '', /damaged/);
  for (const size of [0, SLOT, 2 * SLOT + 1]) {
    await host.folder('/state').write('intent', new Uint8Array(size));
    assert.match((await found(host)).doubt ?? '', /missing or truncated/, String(size));
  }
  await host.folder('/state').remove('intent');
  assert.match((await found(host)).doubt ?? '', /missing/);
  assert.equal(await host.folder('/state').list(), [], 'looking made nothing');
  const { log: fresh, doubt } = await IntentLog.open(host.folder('/state'), kernel);
  assert.match(doubt ?? '', /missing/);
  await fresh!.enter(hot(5));
  assert.equal(await found(host), { extents: [5], doubt: null });
});

test('an extent whose entry failed is not believed to be noted', async () => {
  const host = new MemoryHost(1);
  const log = await create(host);
  await log.enter(hot(1));
  diskOf(host).fault = (operation) => {
    if (operation === 'flush') throw new KageError('io-error', 'fault');
  };
  await log.enter(hot(1, 2)).catch(() => {});
  diskOf(host).fault = undefined;
  assert.not.ok(log.covers(hot(2)));
  assert.ok(log.covers(hot(1)));
});

test.run();
