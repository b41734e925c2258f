import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { formatSeconds, formatSize, nearest, parseSize, plural } from '../../src/base/units.ts';

const test = suite('base: units');

test('sizes as people write them', () => {
  const sizes: Record<string, number | undefined> = {
    '0': 0,
    '4096': 4096,
    '4096B': 4096,
    ' 64K ': 65536,
    '64k': 65536,
    '64KB': 65536,
    '64 KiB': 65536,
    '1.5G': 1.5 * 2 ** 30,
    '10GiB': 10 * 2 ** 30,
    '2T': 2 ** 41,
    '8P': 2 ** 53,
    '1S': 512,
    '2048s': 1024 * 1024,
    '0.5S': 256,
  };
  sizes['8P'] = undefined; // Beyond the safe integers.
  for (const [text, bytes] of Object.entries(sizes)) assert.is(parseSize(text), bytes, text);
});

test('what is no size', () => {
  for (const text of [
    ...['', ' ', 'K', '-1', '-1K', '+1', '1.', '.5K', '1,5G', '1e3', '0x10', '1X', '1KK', '1 0'],
    ...['1.3', '1.0001K', '12ib', '12i', '1SB', '1SiB', '1BiB', '1K B', 'NaN', 'Infinity'],
  ]) {
    assert.is(parseSize(text), undefined, text);
  }
});

test('sizes as people read them', () => {
  const texts: [number, string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.50 KiB'],
    [10 * 1024 + 512, '10.5 KiB'],
    [100.5 * 1024, '101 KiB'],
    [1024 ** 2 - 1, '1.00 MiB'],
    [10 * 1024 - 1, '10.0 KiB'],
    [100 * 1024 - 1, '100 KiB'],
    [64 * 2 ** 30, '64 GiB'],
    [2 ** 53, '8 PiB'],
  ];
  for (const [bytes, text] of texts) assert.is(formatSize(bytes), text, String(bytes));
});

test('a size that is shown can be read again, and is near', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (bytes) => {
      const text = formatSize(bytes);
      const [, number, unit] = /^(\d{1,4}|\d{1,2}\.\d{1,2}) ([KMGTP]?i?B)$/.exec(text) ?? [];
      assert.ok(number && Number(number) < 1024, text);
      if (/\./.test(number)) assert.is(number.replace('.', '').length, 3, text);
      const factor = 1024 ** 'BKMGTP'.indexOf(unit[0]);
      assert.ok(Math.abs(Number(number) * factor - bytes) <= bytes * 0.006, text);
    }),
  );
});

test('durations', () => {
  const texts: [number, string][] = [
    [0, '0.0 s'],
    [0.34, '0.3 s'],
    [9.94, '9.9 s'],
    [9.96, '10 s'],
    [42.4, '42 s'],
    [59.6, '1 min 0 s'],
    [200, '3 min 20 s'],
    [3599.4, '59 min 59 s'],
    [3599.6, '1 h 0 min'],
    [7500, '2 h 5 min'],
    [Number.POSITIVE_INFINITY, '?'],
    [Number.NaN, '?'],
  ];
  for (const [seconds, text] of texts) assert.is(formatSeconds(seconds), text, String(seconds));
});

test('one region, three regions', () => {
  assert.is(plural(1, 'region'), '1 region');
  assert.is(plural(0, 'region'), '0 regions');
  assert.is(plural(3, 'region'), '3 regions');
});

test('the nearest name is one that could be meant', () => {
  const names = ['Volume1', 'Volume2', 'backup', 'vm-proxy'];
  assert.is(nearest('volume1', names), 'Volume1');
  assert.is(nearest('vmproxy', names), 'vm-proxy');
  assert.is(nearest('bakcup', names), 'backup', 'two letters exchanged');
  assert.is(nearest('xyz', names), undefined);
  assert.is(nearest('a', ['b']), 'b');
  assert.is(nearest('a', []), undefined);
});

test.run();
