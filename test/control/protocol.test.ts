/** The lines of the control socket: in any pieces, with any bytes, and what is no line of ours. */

import * as fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ERRORS, type ErrorCode, KageError } from '../../src/base/errors.ts';
import {
  asRequest,
  decodeError,
  encodeError,
  encodeLine,
  LINE_LENGTH_MAX,
  lineReader,
  METHODS,
  type Method,
  pack,
  type Reply,
  unpack,
} from '../../src/control/protocol.ts';

const test = suite('control protocol');

/** Bytes cut at places that come around again. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = 1 + (places.length === 0 ? 7 : places[i % places.length]);
    pieces.push(bytes.slice(at, at + size));
    at += size;
  }
  return pieces;
}

test('what was sent arrives, however the stream is cut', () => {
  const value = fc.jsonValue({ maxDepth: 3 });
  fc.assert(
    fc.property(fc.array(value), fc.array(fc.nat(50)), (values, places) => {
      const replies = values.map((result, id): Reply => ({ id, result }));
      const reader = lineReader();
      const found: unknown[] = [];
      for (const piece of cut(Buffer.concat(replies.map(encodeLine)), places)) {
        found.push(...reader.push(piece));
        piece.fill(0);
      }
      assert.equal(found, JSON.parse(JSON.stringify(replies)));
    }),
    { numRuns: 200 },
  );
});

test('a reader survives anything or says failed, and never anything else', () => {
  const bytes = fc.array(fc.oneof(fc.nat(255), fc.constantFrom(10, 34, 91, 123, 125)));
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(20)), (noise, places) => {
      const reader = lineReader();
      try {
        for (const piece of cut(Uint8Array.from(noise), places)) {
          for (const message of reader.push(piece)) asRequest(message);
        }
      } catch (error) {
        assert.instance(error, KageError);
        assert.is((error as KageError).code, 'failed');
      }
    }),
    { numRuns: 500 },
  );
});

test('what is no line of ours is refused', () => {
  for (const text of ['[]\n', '7\n', 'null\n', 'x\n', '\n', '{"a":\n', '{"a":"\xff"}\n']) {
    assert.throws(() => lineReader().push(Buffer.from(text, 'latin1')), /talks nonsense/, text);
  }
  const endless = lineReader();
  const piece = new Uint8Array(1024 * 1024).fill(65);
  for (let i = 0; i < LINE_LENGTH_MAX / piece.length; i++) endless.push(piece);
  assert.throws(() => endless.push(Uint8Array.of(65)), /too long/);
  assert.throws(() => lineReader().push(new Uint8Array(LINE_LENGTH_MAX + 2).fill(10, -1)), /too/);
});

test('a request is one of three shapes', () => {
  const good = [
    { abort: 3 },
    { id: 1, open: 'default', create: true },
    { id: 2, class: 'default', method: 'part', args: [['p'], {}] },
  ];
  for (const message of good) assert.equal(asRequest(message), message);
  const bad = [
    {},
    { abort: -1 },
    { id: 1 },
    { id: '1', open: 'default' },
    { id: 1.5, open: 'default' },
    { id: 1, class: 'default', method: 'close', args: [] },
    { id: 1, class: 'default', method: 'attach', args: ['vm'] },
    { id: 1, class: 'default', method: 'toString', args: [] },
    { id: 1, class: 'default', method: '__proto__', args: [] },
    { id: 1, class: 'default', method: 'part', args: {} },
    { id: 1, method: 'part', args: [] },
  ];
  for (const message of bad) assert.is(asRequest(message), undefined, JSON.stringify(message));
});

test('bytes keep their value, also those of a part of a buffer', () => {
  const whole = Uint8Array.from({ length: 256 }, (_, i) => i);
  for (const bytes of [whole, whole.subarray(100, 103), new Uint8Array()]) {
    const arrived = unpack(JSON.parse(JSON.stringify(pack(bytes))));
    assert.instance(arrived, Uint8Array);
    assert.equal([...(arrived as Uint8Array)], [...bytes]);
  }
  assert.is(unpack(null), undefined);
  for (const value of ['text', 7, true, ['a'], { dryRun: true }]) {
    assert.is(unpack(pack(value)), value);
  }
});

test('an error keeps code, exit status, hint and data', () => {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    for (const hint of [undefined, 'do it so']) {
      const error = new KageError(code, 'what happened', { hint, data: { path: '/x', size: 7 } });
      const arrived = decodeError(JSON.parse(JSON.stringify(encodeError(error)))) as KageError;
      assert.instance(arrived, KageError);
      assert.is(arrived.message, error.message);
      assert.is(arrived.exitStatus, ERRORS[code].exit);
      assert.equal(arrived.toJSON(), error.toJSON());
    }
  }
});

test('any other error stays internal', () => {
  for (const error of [new TypeError('x is not a function'), 'thrown text', undefined]) {
    const arrived = decodeError(encodeError(error));
    assert.not.instance(arrived, KageError);
    assert.ok(arrived.message.length > 0);
  }
  const unknown = decodeError({ code: 'newer-code', message: 'm', data: {} } as never);
  assert.not.instance(unknown, KageError);
});

test('the table names an argument of the options after all others', () => {
  for (const method of Object.keys(METHODS) as Method[]) {
    const { options, refs = [], paths = [] } = METHODS[method];
    for (const at of [...refs, ...paths]) {
      if (options !== undefined) assert.ok(at < options, method);
    }
  }
});

test.run();
