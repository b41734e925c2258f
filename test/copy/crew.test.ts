/** The threads of a copy: the same result as one thread, errors with their side, and no hanging. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import {
  type Crew,
  type FileSpec,
  inlineCrew,
  threadCrew,
  workerCode,
} from '../../src/copy/crew.ts';
import { type CopyMode, type Range, sideOf, type TaskResult } from '../../src/copy/task.ts';
import { FileDevice } from '../../src/device/file.ts';
import { OffsetLayer } from '../../src/device/layers/offset.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { chance, inWorld, type World } from '../support/world.ts';

const test = suite('copy: crew');
const REGION = 4096;
/** Volumes that begin inside their images and end oddly. */
const OFFSET = 1536;
const SIZE = 400 * REGION + 777;
const CODE = workerCode.text;

function specOf(file: string, offset = OFFSET, size = SIZE): FileSpec {
  const stat = fs.statSync(file, { bigint: true });
  return { path: file, offset, size, identity: `${stat.dev}:${stat.ino}` };
}

/** Two images that differ here and there; the source has regions of zeros. */
function images(w: World): void {
  w.image('source', OFFSET + SIZE + 99, 1);
  const zeros = new Uint8Array(3 * REGION);
  for (let i = 0; i < 50; i++) w.scribble('source', OFFSET + i * 8 * REGION, zeros);
  fs.copyFileSync(w.path('source'), w.path('target'));
  const next = chance(3);
  for (let i = 0; i < 60; i++) w.scribble('target', OFFSET + next(SIZE), 'x');
}

function ranges(): Range[][] {
  const pieces: Range[][] = [];
  for (let at = 0; at < SIZE; at += 10 * REGION) {
    pieces.push([{ offset: at, length: Math.min(10 * REGION, SIZE - at) }]);
  }
  return pieces;
}

async function runAll(crew: Crew): Promise<TaskResult> {
  const sum: TaskResult = { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 };
  try {
    for (const result of await Promise.all(ranges().map((piece) => crew.run(piece)))) {
      sum.bytesRead += result.bytesRead;
      sum.bytesWritten += result.bytesWritten;
      sum.regionCount += result.regionCount;
      sum.regions.push(...result.regions);
    }
  } finally {
    await crew.close();
  }
  sum.regions.sort((a, b) => a.first - b.first);
  return sum;
}

/** A member that never gets anything done: the threads do it all. */
const NEVER: Crew = { members: 1, run: () => new Promise(() => {}), async close() {} };

function orderOf(w: World) {
  return { source: specOf(w.path('source')), target: specOf(w.path('target')) };
}

/** Only threads, once the one piece of this thread is under way for ever. */
function onlyThreads(
  order: { source: FileSpec; target: FileSpec },
  mode: CopyMode = 'compare',
  kind: 'wasm' | 'js' = 'js',
  threads = 1,
): Crew {
  const crew = threadCrew(NEVER, { ...order, mode, regionSize: REGION }, kind, threads);
  void crew.run([]);
  return crew;
}

async function inThisThread(w: World, mode: CopyMode): Promise<TaskResult> {
  const open = (name: string, readOnly: boolean) => new FileDevice(w.path(name), { readOnly });
  const devices = [open('source', true), open('target', mode === 'diff')];
  const [source, target] = devices.map((device) => new OffsetLayer(device, OFFSET, SIZE));
  try {
    return await runAll(inlineCrew(createKernel('wasm'), source, target, mode, REGION));
  } finally {
    for (const device of devices) await device.close();
  }
}

for (const mode of ['write', 'fresh', 'compare', 'diff'] as const) {
  test(`${mode}: threads and one thread do the same`, async () => {
    const outcomes: string[] = [];
    for (const [threads, kind] of [
      [0, 'wasm'],
      [3, 'wasm'],
      [2, 'js'],
    ] as const) {
      await inWorld(async (w) => {
        images(w);
        if (mode === 'fresh') {
          fs.truncateSync(w.path('target'), 0);
          fs.truncateSync(w.path('target'), OFFSET + SIZE + 99);
        }
        const source = w.hash('source');
        const result = await (threads === 0
          ? inThisThread(w, mode)
          : runAll(onlyThreads(orderOf(w), mode, kind, threads)));
        assert.is(w.hash('source'), source, 'the source is untouched');
        outcomes.push(JSON.stringify([w.hash('target'), result]));
        if (mode === 'diff') return;
        const [a, b] = ['source', 'target'].map((n) => w.read(n).subarray(OFFSET, OFFSET + SIZE));
        assert.is(Buffer.compare(a, b), 0);
      });
    }
    assert.is(new Set(outcomes).size, 1, outcomes.join('\n').slice(0, 500));
  });
}

test('beside clients the threads do it alone, whatever the clients write', () =>
  inWorld(async (w) => {
    images(w);
    const own: Crew = {
      members: 1,
      run: () => Promise.reject(new Error('this thread is for the clients')),
      async close() {},
    };
    const clients = new Int32Array(new SharedArrayBuffer(4));
    // One write that never ends.
    clients[0] = 1;
    const order = { ...orderOf(w), mode: 'compare', regionSize: REGION, clients } as const;
    const crew = threadCrew(own, order, 'js', 2);
    assert.is(crew.members, 2, 'a piece a thread');
    await runAll(crew);
    const [a, b] = ['source', 'target'].map((n) => w.read(n).subarray(OFFSET, OFFSET + SIZE));
    assert.is(Buffer.compare(a, b), 0);
  }));

async function failure(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it did not fail');
}

test('an error in a thread keeps its code, its words and its side', () =>
  inWorld(async (w) => {
    images(w);
    const order = orderOf(w);
    fs.truncateSync(w.path('target'), OFFSET + 100 * REGION);
    const crew = onlyThreads(order);
    const error = await failure(crew.run([{ offset: 200 * REGION, length: REGION }]));
    assert.instance(error, KageError);
    assert.is((error as KageError).code, 'image-changed');
    assert.match(error.message, w.path('target'));
    assert.is(sideOf(error), 'target');
    await crew.close();
  }));

test('an image that was replaced after the plan fails the copy', () =>
  inWorld(async (w) => {
    images(w);
    const order = orderOf(w);
    fs.renameSync(w.path('source'), w.path('old'));
    w.image('source', OFFSET + SIZE + 99, 2);
    const before = w.hash('target');
    const slow: Crew = {
      members: 1,
      async run() {
        await new Promise((resolve) => setTimeout(resolve, 5));
        return { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 };
      },
      async close() {},
    };
    const crew = threadCrew(slow, { ...order, mode: 'compare', regionSize: REGION }, 'js', 1);
    let error: unknown;
    for (let i = 0; i < 2000 && error === undefined; i++) {
      error = await crew.run([{ offset: 0, length: REGION }]).then(
        () => undefined,
        (thrown) => thrown,
      );
    }
    await crew.close();
    assert.is((error as KageError | undefined)?.code, 'image-changed');
    assert.is(w.hash('target'), before);
  }));

for (const clients of [undefined, new Int32Array(new SharedArrayBuffer(4))]) {
  test(`threads that cannot be started are not missed${clients ? ', beside clients' : ''}`, () =>
    inWorld(async (w) => {
      images(w);
      workerCode.text = 'throw new Error("no thread here")';
      const source = new FileDevice(w.path('source'), { readOnly: true });
      const target = new FileDevice(w.path('target'), { readOnly: false });
      const own = inlineCrew(createKernel('js'), source, target, 'compare', REGION);
      try {
        const order = { ...orderOf(w), mode: 'compare', regionSize: REGION, clients } as const;
        const result = await runAll(threadCrew(own, order, 'js', 2));
        assert.is(result.bytesRead, 2 * SIZE);
        assert.ok(result.regionCount > 0);
      } finally {
        workerCode.text = CODE;
        await source.close();
        await target.close();
      }
    }));
}

test('a thread that dies fails its piece, and nobody waits for ever', () =>
  inWorld(async (w) => {
    images(w);
    workerCode.text = `
      const { parentPort } = require('node:worker_threads');
      parentPort.postMessage({ result: { regions: [] } });
      parentPort.on('message', () => process.exit(1));`;
    try {
      const crew = onlyThreads(orderOf(w));
      const [piece] = ranges();
      const errors = await Promise.all([1, 2].map(() => failure(crew.run(piece))));
      for (const error of errors) assert.match(error.message, /ended by itself/);
      await crew.close();
    } finally {
      workerCode.text = CODE;
    }
  }));

test.run();
