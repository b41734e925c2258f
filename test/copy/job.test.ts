/** One copy from begin to end, on disks in memory and a clock of its own: order, stops, errors, figures. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { RegionMap, type Run } from '../../src/bitmap/region-map.ts';
import { type Crew, inlineCrew } from '../../src/copy/crew.ts';
import { interrupted, type JobOptions, type JobProgress, runJob } from '../../src/copy/job.ts';
import { type CopyMode, sideOf } from '../../src/copy/task.ts';
import type { BlockDevice } from '../../src/device/device.ts';
import { MemoryHost } from '../../src/device/memory-host.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('copy: job');
const kernel = createKernel('js');
const REGION = 4096;
const SIZE = 20 * REGION + 123;
const REGIONS = 21;

/** Two disks, what is pending between them, and a log of everything that is done to them. */
class World {
  readonly host = new MemoryHost(1);
  readonly pending = new RegionMap(kernel, REGIONS);
  readonly events: string[] = [];
  clock = 1000;
  mode: CopyMode = 'write';

  constructor(pending: readonly number[] = Array.from({ length: REGIONS }, (_, i) => i)) {
    for (const name of ['source', 'target']) this.host.addDisk(`/${name}`, SIZE);
    this.source.content.forEach((_, i, all) => {
      all[i] = i * 7 + (i >> 9) + 1;
    });
    for (const region of pending) this.pending.set(region);
  }

  get source() {
    return this.host.disks.get('/source')!;
  }

  get target() {
    return this.host.disks.get('/target')!;
  }

  async run(options: Partial<JobOptions> = {}, crewOf?: (crew: Crew) => Crew) {
    const source = this.#recorded(await this.host.openDevice('/source', { readOnly: true }));
    const target = this.#recorded(await this.host.openDevice('/target', { readOnly: false }));
    const crew = inlineCrew(kernel, source, target, this.mode, REGION);
    try {
      return await runJob({
        crew: crewOf ? crewOf(crew) : crew,
        source,
        target,
        pending: this.pending,
        regionSize: REGION,
        size: SIZE,
        clear: async (runs) => this.#clear(runs),
        now: () => this.clock,
        sleep: async (ms) => {
          this.clock += ms;
        },
        ...options,
      });
    } finally {
      await crew.close();
    }
  }

  #clear(runs: readonly Run[]): void {
    for (const { first, count } of runs) this.pending.clear(first, count);
    this.events.push(`clear ${runs.reduce((sum, run) => sum + run.count, 0)}`);
  }

  #recorded(device: BlockDevice): BlockDevice {
    const side = device.name.slice(1);
    return {
      name: device.name,
      size: device.size,
      readOnly: device.readOnly,
      read: (into, offset) => device.read(into, offset),
      zero: (offset, length) => device.zero(offset, length),
      close: () => device.close(),
      write: (from, offset) => {
        this.events.push('write');
        return device.write(from, offset);
      },
      flush: () => {
        this.events.push(`flush ${side}`);
        return device.flush();
      },
    };
  }

  get left(): number[] {
    return Array.from({ length: REGIONS }, (_, i) => i).filter((i) => this.pending.has(i));
  }
}

/** Events with repeated ones once. */
function order(events: readonly string[]): string {
  return events.filter((event, i) => event !== events[i - 1]).join(', ');
}

async function failure(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

test('written, source flushed, target flushed, then cleared', async () => {
  const w = new World();
  const result = await w.run();
  assert.is(order(w.events), 'write, flush source, flush target, clear 21');
  assert.is(Buffer.compare(w.target.durable, w.source.content), 0);
  assert.equal(w.left, []);
  assert.equal(result, {
    regions: REGIONS,
    regionsWritten: REGIONS,
    bytesRead: SIZE,
    bytesWritten: SIZE,
    seconds: 0,
    complete: true,
  });
});

test('also where a comparison writes nothing: equal is cleared only when both sides are durable', async () => {
  const w = new World();
  w.mode = 'compare';
  w.target.content.set(w.source.content);
  const result = await w.run();
  assert.is(order(w.events), 'flush source, flush target, clear 21');
  assert.equal([result.bytesRead, result.bytesWritten, result.regionsWritten], [2 * SIZE, 0, 0]);
});

test('only what is pending is touched', async () => {
  const w = new World([0, 3, 4, 20]);
  const result = await w.run();
  for (let region = 0; region < REGIONS; region++) {
    const [begin, end] = [region * REGION, (region + 1) * REGION];
    const is = Buffer.compare(
      w.target.content.subarray(begin, end),
      w.source.content.subarray(begin, end),
    );
    assert.is(is === 0, [0, 3, 4, 20].includes(region), `region ${region}`);
  }
  assert.equal([result.regions, result.bytesRead], [4, 3 * REGION + 123]);
});

test('nothing pending is complete at once, also when it is to be stopped', async () => {
  const w = new World([]);
  const stop = new AbortController();
  stop.abort();
  const result = await w.run({ signal: stop.signal });
  assert.ok(result.complete);
  assert.equal(w.events, []);
});

test('every five seconds what is done so far is cleared, in the same order', async () => {
  const w = new World();
  await w.run({ rateBytesPerSec: REGION });
  const round = 'write, flush source, flush target, clear';
  const rounds = order(w.events)
    .split(/ \d+(?:, |$)/)
    .filter(Boolean);
  assert.ok(rounds.length >= 4, `${rounds.length} rounds`);
  assert.ok(
    rounds.every((text) => text === round),
    order(w.events),
  );
  assert.equal(w.left, []);
});

test('a stop leaves the rest pending, and all that was done is durable', async () => {
  const w = new World();
  const stop = new AbortController();
  let pieces = 0;
  const result = await w.run({
    rateBytesPerSec: REGION,
    signal: stop.signal,
    onProgress: () => {
      if (++pieces === 3) stop.abort();
    },
  });
  assert.not.ok(result.complete);
  assert.equal(
    w.left,
    Array.from({ length: REGIONS - 3 }, (_, i) => i + 3),
  );
  const done = 3 * REGION;
  assert.is(
    Buffer.compare(w.target.durable.subarray(0, done), w.source.content.subarray(0, done)),
    0,
  );
  assert.is((await w.run()).regions, REGIONS - 3, 'the next run has the rest to do');
  assert.equal(w.left, []);
});

test('a stop is heard while the job waits for its rate', async () => {
  const w = new World();
  const stop = new AbortController();
  const begin = w.clock;
  const result = await w.run({
    rateBytesPerSec: 1,
    signal: stop.signal,
    sleep: async (ms) => {
      w.clock += ms;
      if (w.clock > begin + 1000) stop.abort();
    },
  });
  assert.not.ok(result.complete);
  assert.ok(w.clock < begin + 1500, 'and not an hour later');
});

for (const [path, operation, side] of [
  ['/source', 'read', 'source'],
  ['/target', 'write', 'target'],
] as const) {
  test(`an error on the ${side} ends it, is named, and loses nothing that was done`, async () => {
    const w = new World();
    let left = 5;
    w.host.disks.get(path)!.fault = (op) => {
      if (op === operation && left-- <= 0) throw new KageError('io-error', `${path} broke`);
    };
    const error = await failure(w.run({ rateBytesPerSec: REGION }));
    assert.is((error as Error).message, `${path} broke`);
    assert.is(sideOf(error), side);
    assert.equal(
      w.left,
      Array.from({ length: REGIONS - 5 }, (_, i) => i + 5),
    );
    const done = 5 * REGION;
    assert.is(
      Buffer.compare(w.target.durable.subarray(0, done), w.source.content.subarray(0, done)),
      0,
    );
  });
}

for (const side of ['source', 'target'] as const) {
  test(`nothing is cleared when the ${side} cannot be flushed`, async () => {
    const w = new World();
    w.host.disks.get(`/${side}`)!.fault = (op) => {
      if (op === 'flush') throw new KageError('io-error', 'broke');
    };
    assert.is(((await failure(w.run())) as KageError).code, 'io-error');
    assert.is(w.left.length, REGIONS);
    assert.not.ok(w.events.some((event) => event.startsWith('clear')));
  });
}

test('an error of the map is an error of the job', async () => {
  const w = new World();
  const clear = async () => {
    throw new KageError('disk-full', 'map');
  };
  assert.is(((await failure(w.run({ clear }))) as KageError).code, 'disk-full');
});

test('without a map to clear the target is flushed at the end', async () => {
  const w = new World();
  await w.run({ clear: undefined });
  assert.is(order(w.events), 'write, flush target');
  assert.is(w.left.length, REGIONS);
});

test('a comparison that only looks writes and flushes nothing, and tells what differs', async () => {
  const w = new World();
  w.mode = 'diff';
  w.target.content.set(w.source.content);
  w.target.content[3 * REGION] ^= 1;
  w.target.content[SIZE - 1] ^= 1;
  const found: number[] = [];
  const onRegions = (runs: readonly Run[]) => found.push(...runs.map((run) => run.first));
  const result = await w.run({ readOnly: true, clear: undefined, onRegions });
  assert.equal(found, [3, 20]);
  assert.equal(w.events, []);
  assert.is(result.regionsWritten, 2);
});

test('a rate is kept, over all and at every moment', async () => {
  const w = new World();
  const rate = 3 * REGION;
  const begin = w.clock;
  await w.run({
    rateBytesPerSec: rate,
    onProgress: ({ doneBytes, seconds }) => {
      // A piece is done at once here: the pause comes after it.
      assert.ok(doneBytes <= rate * seconds + REGION + 1, `${doneBytes} bytes after ${seconds} s`);
    },
  });
  const seconds = (w.clock - begin) / 1000;
  assert.ok(seconds >= SIZE / rate - 0.5 && seconds <= SIZE / rate + 1, `${seconds} s`);
});

test('a rate that could not be kept up with is not made up for later', async () => {
  const w = new World();
  const rate = 2 * REGION;
  const times: number[] = [];
  let slow = 3;
  const crewOf = (crew: Crew): Crew => ({
    ...crew,
    async run(ranges) {
      times.push(w.clock);
      // The disk hangs for a minute once.
      if (slow-- === 0) w.clock += 60_000;
      return await crew.run(ranges);
    },
  });
  await w.run({ rateBytesPerSec: rate }, crewOf);
  const after = times.slice(5);
  const seconds = (after.at(-1)! - after[0]) / 1000;
  assert.ok(seconds >= (after.length - 1) / 2 - 1.5, `${after.length} regions in ${seconds} s`);
});

test('a delay comes after each transfer, one at a time', async () => {
  const w = new World();
  let atOnce = 0;
  const begin = w.clock;
  let transfers = 0;
  const crewOf = (crew: Crew): Crew => ({
    members: 4,
    close: crew.close,
    async run(ranges) {
      assert.is(++atOnce, 1);
      transfers++;
      const result = await crew.run(ranges);
      atOnce--;
      return result;
    },
  });
  await w.run({ delayMs: 700 }, crewOf);
  assert.ok(transfers > 0);
  assert.ok(w.clock - begin >= 700 * (transfers - 1), `${transfers} in ${w.clock - begin} ms`);
});

test('progress: figures that fit, at most two a second, and a last one', async () => {
  const w = new World();
  const told: JobProgress[] = [];
  const result = await w.run({ rateBytesPerSec: 10 * REGION, onProgress: (p) => told.push(p) });
  const last = told.at(-1)!;
  assert.ok(told.length > 2);
  assert.equal(
    told.map((p) => p.finished),
    told.map((_, i) => i === told.length - 1),
  );
  for (const [i, p] of told.entries()) {
    assert.is(p.totalBytes, SIZE);
    assert.is(p.bytesRead, p.doneBytes);
    assert.is(p.bytesWritten, p.doneBytes);
    if (p.seconds > 0) assert.ok(Math.abs(p.rateBytesPerSec - p.doneBytes / p.seconds) < 1e-6);
    else assert.is(p.secondsLeft, null);
    const before = told[i - 1];
    if (!before) continue;
    assert.ok(p.doneBytes >= before.doneBytes);
    if (!p.finished) assert.ok(p.seconds - before.seconds >= 0.5, `${p.seconds - before.seconds}`);
  }
  assert.is(last.doneBytes, SIZE);
  assert.is(last.secondsLeft, 0);
  assert.is(last.seconds, result.seconds);
});

test('progress of a stopped job does not say that all is done', async () => {
  const w = new World();
  const stop = new AbortController();
  stop.abort();
  const told: JobProgress[] = [];
  await w.run({ signal: stop.signal, onProgress: (p) => told.push(p) });
  assert.equal([told.length, told[0].doneBytes, told[0].finished], [1, 0, true]);
});

test('the error of a stopped job says how to go on', () => {
  const error = interrupted('join a / b');
  assert.is(error.exitStatus, 130);
  assert.match(error.hint ?? '', /continue/);
});

test.run();
