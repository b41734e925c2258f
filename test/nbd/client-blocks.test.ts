/** Ranges parted into blocks, and work that waits for what overlaps it. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createRangeLock, partsOf } from '../../src/nbd/client-blocks.ts';

const test = suite('nbd: blocks');

test('parts are the range, in order: whole blocks, and at most two edges', () => {
  const numbers = fc.tuple(fc.nat(100), fc.nat(100), fc.nat(20), fc.constantFrom(1, 2, 8, 64));
  fc.assert(
    fc.property(numbers, ([offset, length, rest, block]) => {
      const size = offset + length + rest;
      const parts = partsOf(offset, length, block, size);
      let at = offset;
      for (const part of parts) {
        assert.is(part.offset, at);
        assert.ok(part.length > 0);
        at += part.length;
        if (part.kind === 'whole') {
          assert.is(part.offset % block, 0);
          assert.ok(at % block === 0 || at === size);
        } else {
          assert.is(part.block, part.offset - (part.offset % block));
          assert.is(part.blockLength, Math.min(block, size - part.block));
          assert.ok(at <= part.block + part.blockLength);
          assert.ok(part.length < part.blockLength);
        }
      }
      assert.is(at, offset + length);
      const edges = parts.filter(({ kind }) => kind === 'edge');
      assert.ok(edges.length <= 2 && parts.length - edges.length <= 1);
    }),
    { numRuns: 1000 },
  );
});

test('work on overlapping ranges is done in turn, other work at once', async () => {
  const alone = createRangeLock();
  const log: string[] = [];
  const gates = new Map<string, () => void>();
  const start = (name: string, offset: number, end: number, fail = false) =>
    alone(offset, end, async () => {
      log.push(name);
      await new Promise<void>((resolve) => gates.set(name, resolve));
      if (fail) throw new Error(name);
    });
  const turn = () => new Promise((resolve) => setTimeout(resolve, 0));
  const a = start('a', 0, 10, true);
  const b = start('b', 9, 20);
  const c = start('c', 20, 30);
  const d = start('d', 0, 30);
  const e = start('e', 0, 1);
  await turn();
  assert.equal(log, ['a', 'c']);
  gates.get('a')!();
  await a.catch((error: Error) => assert.is(error.message, 'a'));
  await turn();
  assert.equal(log, ['a', 'c', 'b'], 'a failure frees the range too');
  gates.get('b')!();
  await b;
  await turn();
  assert.equal(log, ['a', 'c', 'b'], 'd waits for all that overlap it');
  gates.get('c')!();
  await c;
  await turn();
  assert.equal(log, ['a', 'c', 'b', 'd'], 'e came after d');
  gates.get('d')!();
  await d;
  await turn();
  assert.equal(log, ['a', 'c', 'b', 'd', 'e']);
  gates.get('e')!();
  await e;
});

test.run();
