import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { freeName, nameFromPath, validateName } from '../../src/catalog/names.ts';

const test = suite('catalog: names');

function fault(name: string, lengthMax?: number): string {
  try {
    validateName('volume', name, lengthMax);
  } catch (error) {
    assert.ok(error instanceof KageError && error.code === 'bad-name');
    return (error as KageError).message;
  }
  return '';
}

test('letters, digits, `-` and `_`, the first a letter or digit, 1 to 32', () => {
  const good = ['a', 'Z9', '0', 'Volume1', 'vm-proxy', 'a_b-c', 'x'.repeat(32)];
  for (const name of good) assert.is(fault(name), '', name);
  assert.match(fault(''), /is empty/);
  assert.match(fault('x'.repeat(33)), /has 33 characters, at most 32/);
  for (const name of ['-a', '_a', '.a']) assert.match(fault(name), /must begin with/, name);
  for (const name of ['a.b', 'a/b', 'a b', 'ä1', 'aä', 'a\n', 'a\0']) {
    assert.match(fault(name), /letters, digits|must begin/, JSON.stringify(name));
  }
  assert.is(fault('x'.repeat(28), 28), '');
  assert.match(fault('x'.repeat(29), 28), /at most 28/);
});

test('names from files', () => {
  const names: Record<string, string> = {
    'vm.proxy.img': 'vm-proxy',
    '/a/b/vm.img': 'vm',
    'vm.RAW': 'vm',
    './disk.iso': 'disk',
    'backup 2026.11.img': 'backup-2026-11',
    'a..b.img': 'a-b',
    '.hidden': 'hidden',
    '.img': 'volume',
    '/dev/loop0': 'loop0',
    '---': 'volume',
    ü: 'volume',
    'x.tar': 'x-tar',
    'img.img.img': 'img-img',
    '/a.d/': 'volume',
  };
  for (const [path, name] of Object.entries(names)) assert.is(nameFromPath(path), name, path);
});

test('a name from any path is a name', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (path) => {
      assert.is(fault(nameFromPath(path)), '', nameFromPath(path));
    }),
  );
});

test('a free name is free, a name, and as near as can be', () => {
  assert.is(freeName('vm', new Set()), 'vm');
  assert.is(freeName('vm', new Set(['vm'])), 'vm-2');
  assert.is(freeName('vm', new Set(['vm', 'vm-2', 'vm-4'])), 'vm-3');
  assert.is(freeName('x'.repeat(40), new Set(), 28), 'x'.repeat(28));
  assert.is(freeName('x'.repeat(32), new Set(['x'.repeat(32)])), `${'x'.repeat(30)}-2`);
  const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/);
  fc.assert(
    fc.property(name, fc.integer({ min: 4, max: 32 }), fc.nat(30), (base, lengthMax, count) => {
      const taken = new Set<string>();
      for (let i = 0; i < count; i++) {
        const next = freeName(base, taken, lengthMax);
        assert.not.ok(taken.has(next));
        assert.is(fault(next, lengthMax), '');
        taken.add(next);
      }
      assert.is(taken.size, count);
    }),
  );
});

test.run();
