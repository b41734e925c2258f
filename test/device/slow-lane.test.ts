/** Who gets the threads of the runtime, when, and how many of them. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Owner, SlowLane } from '../../src/device/slow-lane.ts';

const test = suite('slow lane');

/** Jobs that end when they are told to, in the order in which they began. */
class Jobs {
  readonly began: string[] = [];
  readonly #ends = new Map<string, (error?: Error) => void>();

  job(name: string): () => Promise<void> {
    return () => {
      this.began.push(name);
      return new Promise((resolve, reject) => {
        this.#ends.set(name, (error) => (error ? reject(error) : resolve()));
      });
    };
  }

  async end(name: string, error?: Error): Promise<void> {
    this.#ends.get(name)!(error);
    for (let i = 0; i < 5; i++) await Promise.resolve();
  }
}

const disk = (isStalling = false): Owner => ({ isStalling });

test('as many at a time as there are slots, in their order', async () => {
  const lane = new SlowLane(2);
  const jobs = new Jobs();
  const a = disk();
  const all = ['1', '2', '3', '4'].map((name) => lane.run(a, jobs.job(name)));
  assert.equal(jobs.began, ['1', '2']);
  await jobs.end('2');
  assert.equal(jobs.began, ['1', '2', '3']);
  await jobs.end('1');
  await jobs.end('3');
  await jobs.end('4');
  await Promise.all(all);
});

test('disks take turns', async () => {
  const lane = new SlowLane(1);
  const jobs = new Jobs();
  const a = disk();
  const b = disk();
  for (const name of ['a1', 'a2', 'a3']) void lane.run(a, jobs.job(name));
  for (const name of ['b1', 'b2']) void lane.run(b, jobs.job(name));
  for (let i = 0; i < 5; i++) await jobs.end(jobs.began[i]);
  assert.equal(jobs.began, ['a1', 'a2', 'b1', 'a3', 'b2']);
});

test('a stalling disk has half of the slots at most', async () => {
  const lane = new SlowLane(4);
  const jobs = new Jobs();
  const slow = disk(true);
  for (const name of ['s1', 's2', 's3', 's4']) void lane.run(slow, jobs.job(name));
  assert.equal(jobs.began, ['s1', 's2']);
  void lane.run(disk(), jobs.job('other'));
  assert.equal(jobs.began, ['s1', 's2', 'other'], 'others do not wait for it');
  await jobs.end('other');
  assert.is(jobs.began.length, 3);
  await jobs.end('s1');
  assert.is(jobs.began[3], 's3');
});

test('a stalling disk gets one slot where there is only one', async () => {
  const lane = new SlowLane(1);
  const jobs = new Jobs();
  void lane.run(disk(true), jobs.job('1'));
  assert.equal(jobs.began, ['1']);
});

test('what fails is told to whoever asked, and makes room', async () => {
  const lane = new SlowLane(1);
  const jobs = new Jobs();
  const a = disk();
  const first = lane.run(a, jobs.job('1'));
  const second = lane.run(a, jobs.job('2'));
  const failed = first.then(
    () => 'done',
    (error) => error.message,
  );
  await jobs.end('1', new Error('broken'));
  assert.is(await failed, 'broken');
  await jobs.end('2');
  await second;
});

test.run();
