/** When a disk is waited for in the thread, and when it is sent away. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Promptness, WRITE_MS } from '../../src/device/promptness.ts';

const test = suite('promptness');

const BLOCK = 4096;

/** A disk whose calls take what they are told, on a clock of its own. */
class Disk {
  readonly promptness: Promptness;
  now = 0;

  constructor(promptness = new Promptness()) {
    this.promptness = promptness;
  }

  /** One synchronous call; false: the disk rests, and the call is not made. */
  call(ms: number, bytes = BLOCK): boolean {
    if (!this.promptness.isPrompt(this.now)) return false;
    this.promptness.took(bytes, this.now, this.now + ms);
    this.now += ms;
    return true;
  }
}

test('warm data never sends a disk away', () => {
  const disk = new Disk();
  for (let i = 0; i < 10_000; i++) assert.ok(disk.call(0.004));
  for (let i = 0; i < 100; i++) assert.ok(disk.call(0.4, 1024 * 1024), 'a megabyte takes longer');
});

test('a write may take what a file system needs for it, a read not', () => {
  const [reads, writes] = [new Disk(), new Disk(new Promptness(WRITE_MS))];
  for (let i = 0; i < 10_000; i++) assert.ok(writes.call(0.05));
  assert.ok(reads.call(0.05));
  assert.ok(reads.call(0.05));
  assert.not.ok(reads.call(0.05));
  for (let i = 0; i < 2; i++) assert.ok(writes.call(0.5));
  assert.not.ok(writes.call(0.5), 'what takes longer waits for the disk');
});

test('a hiccup is forgiven, two close together are not', () => {
  const disk = new Disk();
  for (let i = 0; i < 50; i++) {
    assert.ok(disk.call(3), `hiccup ${i}`);
    for (let k = 0; k < 32; k++) assert.ok(disk.call(0.004));
  }
  disk.call(3);
  for (let k = 0; k < 20; k++) disk.call(0.004);
  disk.call(3);
  assert.not.ok(disk.promptness.isPrompt(disk.now));
});

test('a stalling disk stops the thread for one part in fifty, at most', () => {
  const disk = new Disk();
  let stalled = 0;
  for (; disk.now < 60_000; disk.now += 1) if (disk.call(20)) stalled += 20;
  assert.ok(stalled <= 60_000 / 50 + 40, `${stalled} ms of a minute`);
  assert.ok(stalled > 0);
});

test('a cold disk is asked again soon, and a warm one stays', () => {
  const disk = new Disk();
  disk.call(0.1);
  disk.call(0.1);
  assert.not.ok(disk.promptness.isPrompt(disk.now + 4));
  assert.ok(disk.promptness.isPrompt(disk.now + 5), 'five milliseconds at least');
  disk.now += 5;
  for (let i = 0; i < 1000; i++) assert.ok(disk.call(0.004));
});

test('soon after a rest one slow call is enough', () => {
  const disk = new Disk();
  disk.call(1);
  disk.call(1);
  disk.now += 50;
  disk.call(0.004);
  disk.call(1);
  assert.not.ok(disk.promptness.isPrompt(disk.now));
});

test('nobody rests longer than two seconds', () => {
  const disk = new Disk();
  disk.call(10_000);
  disk.call(10_000);
  assert.not.ok(disk.promptness.isPrompt(disk.now + 1999));
  assert.ok(disk.promptness.isPrompt(disk.now + 2000));
});

test.run();
