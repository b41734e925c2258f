/** Requests of HTTP, whole, cut off and wrong; nothing that is sent makes more than an answer of it. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAnswer, HEAD_LENGTH_MAX, parseRequest } from '../../src/control/http.ts';

const test = suite('control http');
const parse = (text: string) => parseRequest(Buffer.from(text, 'latin1'));
const statusOf = (text: string) => (parse(text) as { status?: number }).status;

test('what curl and a scraper send', () => {
  const curl = 'Host: kage\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n';
  assert.equal(parse(`GET /metrics HTTP/1.1\r\n${curl}`), { method: 'GET', path: '/metrics' });
  assert.equal(parse(`HEAD /healthz HTTP/1.0\r\n\r\n`), { method: 'HEAD', path: '/healthz' });
  for (const target of ['/metrics?a=b', 'http://kage/metrics', 'HTTP://kage/metrics?x#y']) {
    assert.equal(parse(`GET ${target} HTTP/1.1\r\n${curl}`), { method: 'GET', path: '/metrics' });
  }
  const bare = 'http://kage/'.slice(0, -1);
  assert.equal(parse(`GET ${bare} HTTP/1.1\r\n${curl}`), { method: 'GET', path: '/' });
  assert.equal(parse('GET / HTTP/1.1\n\n'), { method: 'GET', path: '/' }, 'typed by hand');
});

test('half of a request is no request', () => {
  const whole = 'GET /metrics HTTP/1.1\r\nHost: kage\r\n\r\n';
  for (let at = 1; at < whole.length; at++) assert.is(parse(whole.slice(0, at)), 'more', `${at}`);
});

test('what is refused, and as what', () => {
  for (const [text, status] of [
    ['hello\r\n', 400],
    ['GET /metrics\r\n\r\n', 400],
    ['GET /a b HTTP/1.1\r\n\r\n', 400],
    ['PRI * HTTP/2.0\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nno header\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\n folded: x\r\n\r\n', 400],
    ['POST / HTTP/1.1\r\n\r\n', 405],
    ['DELETE /metrics HTTP/1.1\r\nHost: kage\r\n\r\n', 405],
    [`GET /${'x'.repeat(HEAD_LENGTH_MAX)}`, 431],
    [`GET / HTTP/1.1\r\nX: ${'x'.repeat(HEAD_LENGTH_MAX)}\r\n\r\n`, 431],
  ] as const) {
    assert.is(statusOf(text), status, text.slice(0, 40));
  }
});

test('any bytes: more, a request or a refusal, and never more beyond the limit', () => {
  const piece = fc.constantFrom(
    'GET ',
    'HEAD ',
    '/',
    ' HTTP/1.1',
    '\r\n',
    '\n',
    ':',
    'a',
    '\0',
    'é',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), fc.nat(1), (pieces, long) => {
      const tail = long === 1 ? 'x'.repeat(HEAD_LENGTH_MAX + 1) : '';
      const told = parse(pieces.join('') + tail);
      if (long === 1) assert.is.not(told, 'more');
      if (told !== 'more' && !('path' in told)) assert.ok([400, 405, 431].includes(told.status));
    }),
    { numRuns: 1000 },
  );
});

test('an answer says how long it is and that it is the last', () => {
  const text = (toHead: boolean) =>
    Buffer.from(formatAnswer({ status: 503, body: 'größer\n' }, toHead)).toString();
  const head =
    'HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n' +
    'Content-Length: 9\r\nConnection: close\r\n\r\n';
  assert.is(text(false), `${head}größer\n`);
  assert.is(text(true), head);
  const typed = Buffer.from(formatAnswer({ status: 200, body: '', type: 'text/x' })).toString();
  assert.match(typed, /\r\nContent-Type: text\/x\r\n/);
});

test.run();
