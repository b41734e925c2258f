import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as limits from '../../src/base/limits.ts';

const test = suite('base: limits');
const TIB = 2 ** 40;

test('images of any size in use are taken, and their offsets can be calculated with', () => {
  assert.ok(limits.IMAGE_SIZE_MAX >= 1024 * TIB);
  assert.ok(Number.isSafeInteger(limits.IMAGE_SIZE_MAX + limits.TASK_SIZE));
});

test('a region fits a hot extent and a piece of work, all powers of two', () => {
  const { REGION_SIZE_MIN, REGION_SIZE_DEFAULT, REGION_SIZE_MAX, EXTENT_SIZE, TASK_SIZE } = limits;
  const sizes = [REGION_SIZE_MIN, REGION_SIZE_DEFAULT, REGION_SIZE_MAX, EXTENT_SIZE, TASK_SIZE];
  for (const size of sizes) assert.ok(Number.isInteger(Math.log2(size)), String(size));
  assert.equal(
    sizes,
    [...sizes].sort((a, b) => a - b),
  );
});

test('the names of the manual', () => {
  assert.is(limits.NAME_LENGTH_MAX, 32);
  assert.is(limits.SINGLE_DISK_NAME_LENGTH_MAX, 28);
  assert.is(limits.PROXIES_MAX, 32);
  assert.is(limits.BLOCK_SIZE, 512);
  assert.is(limits.DELAY_MS_MAX, 1000);
});

test.run();
