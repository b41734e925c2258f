import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { AssertionFault, assert as insist } from '../../src/base/assert.ts';
import { ERRORS, EXIT, errnoOf, ioError, KageError } from '../../src/base/errors.ts';

const test = suite('base: errors');

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: something`), { code });
}

test('every code has a documented exit status, a POSIX errno and words', () => {
  const statuses = new Set<number>(Object.values(EXIT));
  for (const [code, { exit, errno, means }] of Object.entries(ERRORS)) {
    assert.ok(statuses.has(exit) && Number(exit) !== EXIT.done, code);
    assert.match(errno, /^E[A-Z]+$/, code);
    assert.ok(means.length > 10, code);
    assert.match(code, /^[a-z-]+$/);
  }
});

test('an error as JSON has all a program wants, and no stack', () => {
  const error = new KageError('wrong-state', 'p: it is parted', {
    hint: 'join it',
    data: { proxy: 'p', since: 5 },
    cause: new Error('inner'),
  });
  assert.equal(JSON.parse(JSON.stringify(error)), {
    code: 'wrong-state',
    exitStatus: 13,
    message: 'p: it is parted',
    hint: 'join it',
    proxy: 'p',
    since: 5,
  });
  assert.is(error.exitStatus, 13);
  assert.is((error.cause as Error).message, 'inner');
  assert.not.ok('hint' in new KageError('failed', 'x').toJSON());
});

test('full disks are told apart from broken ones', () => {
  for (const errno of ['ENOSPC', 'EDQUOT', 'EFBIG']) {
    const error = ioError('writing', '/a', systemError(errno));
    assert.is(error.code, 'disk-full');
    assert.match(error.message, /^\/a: no room left/);
    assert.is(error.data.errno, errno);
    assert.ok(error.hint);
  }
  for (const errno of ['EIO', 'EROFS', 'ENXIO']) {
    const error = ioError('writing', '/a', systemError(errno));
    assert.is(error.code, 'io-error');
    assert.is(error.message, `/a: writing failed: ${errno}`);
  }
  assert.is(ioError('writing', '/a', 'words').message, '/a: writing failed: words');
});

test('an error that has its code already keeps it', () => {
  const error = new KageError('image-changed', 'x');
  assert.is(ioError('reading', '/a', error), error);
});

test('errnoOf takes whatever was thrown', () => {
  assert.is(errnoOf(systemError('ENOENT')), 'ENOENT');
  for (const odd of [null, undefined, 3, 'x', {}, { code: 5 }]) assert.is(errnoOf(odd), '');
});

test('an assertion builds its words only when it fails', () => {
  insist(true, () => {
    throw new Error('was built');
  });
  assert.throws(
    () => insist(0, () => 'no zero'),
    (error: Error) => error instanceof AssertionFault && error.message === 'no zero',
  );
});

test.run();
