/** Descriptors of one file: one call at a time on each but the first, as many as overlap, none leaks. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Descriptor,
  Descriptors,
  descriptorsOf,
  readersOf,
} from '../../src/device/descriptors.ts';
import { inWorld } from '../support/world.ts';

const test = suite('descriptors');

/** Its calls end when they are told to. */
class Fake implements Descriptor {
  readonly name: string;
  calls = 0;
  most = 0;
  closed = false;
  readonly ends: (() => void)[] = [];

  constructor(name: string) {
    this.name = name;
  }

  async read(): Promise<number> {
    assert.not(this.closed, 'used after close');
    this.calls++;
    this.most = Math.max(this.most, this.calls);
    await new Promise<void>((resolve) => this.ends.push(resolve));
    this.calls--;
    return 1;
  }

  write(): Promise<number> {
    return this.read();
  }

  close(): void {
    assert.not(this.closed, 'closed twice');
    this.closed = true;
  }
}

const NOTHING = new Uint8Array(1);
const reading = (descriptor: Descriptor) => descriptor.read(NOTHING, 0);
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test('without more of them the first one serves all calls at once', async () => {
  const first = new Fake('first');
  const descriptors = new Descriptors(first);
  const calls = [1, 2, 3].map(() => descriptors.use(reading));
  await turn();
  assert.is(first.most, 3);
  for (const end of first.ends) end();
  await Promise.all(calls);
  descriptors.close();
  assert.not(first.closed, "it is its owner's");
});

test('each is used for one call at a time, the rest wait in order; all are closed but the first', async () => {
  const first = new Fake('first');
  const opened: Fake[] = [];
  const descriptors = new Descriptors(first, () => {
    opened.push(new Fake(`${opened.length}`));
    return opened.at(-1);
  });
  const order: number[] = [];
  const calls = Array.from({ length: 30 }, (_, i) =>
    descriptors.use((descriptor) => {
      order.push(i);
      return reading(descriptor);
    }),
  );
  while (order.length < 30 || opened.some((fake) => fake.calls > 0)) {
    await turn();
    for (const fake of opened) fake.ends.shift()?.();
  }
  await Promise.all(calls);
  assert.equal(order, [...order.keys()]);
  assert.is(first.most, 0);
  assert.ok(opened.length > 1 && opened.length <= 8, `${opened.length} were opened`);
  for (const fake of opened) assert.is(fake.most, 1, fake.name);
  const before = opened.length;
  const later = descriptors.use(reading);
  await turn();
  for (const fake of opened) fake.ends.shift()?.();
  await later;
  assert.is(opened.length, before, 'idle ones are used again');
  descriptors.close();
  for (const fake of opened) assert.ok(fake.closed, fake.name);
});

test('when no more can be opened those that are there serve, or the first', async () => {
  const first = new Fake('first');
  const only = new Fake('only');
  let left = [only];
  const one = new Descriptors(first, () => left.pop());
  const two = [one.use(reading), one.use(reading)];
  for (let i = 0; i < 5; i++) {
    await turn();
    only.ends.shift()?.();
  }
  await Promise.all(two);
  assert.is(only.most, 1);
  assert.is(first.most, 0);
  one.close();
  left = [];
  const none = new Descriptors(first, () => left.pop());
  const calls = [none.use(reading), none.use(reading)];
  await turn();
  assert.is(first.most, 2);
  for (const end of first.ends) end();
  await Promise.all(calls);
});

test('a call that fails gives its descriptor back', async () => {
  const fake = new Fake('fake');
  let opened = 0;
  const descriptors = new Descriptors(new Fake('first'), () => {
    opened++;
    return fake;
  });
  for (let i = 0; i < 20; i++) {
    await descriptors.use(() => Promise.reject(new Error('no'))).catch(() => {});
  }
  assert.is(opened, 1);
  descriptors.close();
  assert.ok(fake.closed);
});

test('a path that leads to another file by now is not followed', () =>
  inWorld(async (w) => {
    const file = w.path('image');
    fs.writeFileSync(file, new Uint8Array(8192).fill(1));
    const fd = fs.openSync(file, 'r+');
    const all = [descriptorsOf(fd, file, false), readersOf(fd, () => fs.openSync(file, 'r'))];
    fs.renameSync(file, w.path('old'));
    fs.writeFileSync(file, new Uint8Array(8192).fill(2));
    for (const descriptors of all) {
      const into = [new Uint8Array(4096), new Uint8Array(4096)];
      const counts = await Promise.all(
        into.map((bytes, i) => descriptors.use((d) => d.read(bytes, i * 4096))),
      );
      assert.equal(counts, [4096, 4096]);
      for (const bytes of into) assert.ok(bytes.every((byte) => byte === 1));
    }
    await all[0].use((d) => d.write(new Uint8Array(4096).fill(3), 4096));
    assert.is(w.read('old')[4096], 3);
    assert.is(w.read('image')[4096], 2);
    for (const descriptors of all) descriptors.close();
    fs.closeSync(fd);
  }));

test.run();
