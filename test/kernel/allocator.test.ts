/** Windows are handed out as by the most naive first fit over a list of pages. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_BYTES, PageAllocator } from '../../src/kernel/allocator.ts';
import { TwinMemory } from '../../src/kernel/reference.ts';

const test = suite('kernel: allocator');

/** First page of `count` unused ones in a row; the list of used pages may end before they do. */
function firstFit(used: boolean[], count: number): number {
  for (let start = 0; ; start++) {
    if (!used.slice(start, start + count).includes(true)) return start;
  }
}

/** A positive number asks for that many bytes, others release the n-th window there is. */
const steps = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 60_000 }), fc.integer({ min: -20, max: 0 })),
  { maxLength: 60 },
);

test('random allocations and releases match the naive model, and windows are zeroed', () => {
  fc.assert(
    fc.property(steps, (sequence) => {
      const memory = new TwinMemory(65536);
      const allocator = new PageAllocator(memory, PAGE_BYTES);
      const used: boolean[] = [];
      const windows: { address: number; count: number }[] = [];
      for (const step of sequence) {
        if (step > 0) {
          const count = Math.ceil(step / PAGE_BYTES);
          const page = firstFit(used, count);
          const address = allocator.allocate(step);
          assert.is(address, PAGE_BYTES * (page + 1));
          for (let i = 0; i < count; i++) used[page + i] = true;
          const bytes = memory.bytes(address, count * PAGE_BYTES);
          assert.ok(bytes.every((byte) => byte === 0));
          bytes.fill(0xee);
          windows.push({ address, count });
        } else if (windows.length > 0) {
          const [{ address, count }] = windows.splice(-step % windows.length, 1);
          allocator.release(address);
          const page = address / PAGE_BYTES - 1;
          for (let i = 0; i < count; i++) used[page + i] = false;
        }
      }
    }),
  );
});

test('the memory grows by what is missing behind the last free window', () => {
  const memory = new TwinMemory(65536);
  const asked: number[] = [];
  const counted = {
    get size() {
      return memory.size;
    },
    growTo: (size: number) => {
      asked.push(size);
      memory.growTo(size);
    },
    bytes: (address: number, length: number) => memory.bytes(address, length),
  };
  const allocator = new PageAllocator(counted, PAGE_BYTES);
  allocator.allocate(10 * PAGE_BYTES);
  allocator.allocate(100 * PAGE_BYTES);
  assert.equal(asked, [111 * PAGE_BYTES]);
});

test.run();
