/** NBD URIs: what they mean, what is printed, and what is refused with which words. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { formatNbdUri, isNbdUri, type NbdUri, parseNbdUri } from '../../src/nbd/uri.ts';

const test = suite('nbd: URIs');

const tcp = (host: string, port = 10809) => ({ kind: 'tcp', host, port }) as const;
const unix = (path: string) => ({ kind: 'unix', path }) as const;
const plain = { tls: false, tlsVerifyPeer: true };

const MEANINGS: readonly (readonly [string, NbdUri])[] = [
  ['nbd://host', { ...plain, address: tcp('host'), exportName: '' }],
  ['nbd://host/', { ...plain, address: tcp('host'), exportName: '' }],
  ['NBD://host:10810/disk', { ...plain, address: tcp('host', 10810), exportName: 'disk' }],
  ['nbd://host:/disk', { ...plain, address: tcp('host'), exportName: 'disk' }],
  ['nbd://host//disk', { ...plain, address: tcp('host'), exportName: '/disk' }],
  ['nbd://host/a/b%20c%2Fd', { ...plain, address: tcp('host'), exportName: 'a/b c/d' }],
  ['nbd://host/a+b', { ...plain, address: tcp('host'), exportName: 'a+b' }],
  ['nbd://[::1]:7/x', { ...plain, address: tcp('::1', 7), exportName: 'x' }],
  ['nbd://[fe80::1%25eth0]/x', { ...plain, address: tcp('fe80::1%eth0'), exportName: 'x' }],
  ['nbd://192.0.2.1/x', { ...plain, address: tcp('192.0.2.1'), exportName: 'x' }],
  [
    'nbd+unix:///?socket=/run/nbd.sock',
    { ...plain, address: unix('/run/nbd.sock'), exportName: '' },
  ],
  [
    'nbd+unix:///vm%3F1?socket=/tmp/a%26b',
    { ...plain, address: unix('/tmp/a&b'), exportName: 'vm?1' },
  ],
  ['nbd+unix://?socket=s', { ...plain, address: unix('s'), exportName: '' }],
  [
    'nbds://host/x?tls-hostname=other&tls-certificates=/pki&tls-verify-peer=true',
    {
      tls: true,
      tlsVerifyPeer: true,
      address: tcp('host'),
      exportName: 'x',
      tlsHostname: 'other',
      tlsCertificates: '/pki',
    },
  ],
  [
    'nbds://host/x?tls-verify-peer=0',
    { tls: true, tlsVerifyPeer: false, address: tcp('host'), exportName: 'x' },
  ],
  [
    'nbds+unix://al%40ice@/x?socket=s&tls-psk-file=/k',
    {
      tls: true,
      tlsVerifyPeer: true,
      address: unix('s'),
      exportName: 'x',
      user: 'al@ice',
      tlsPskFile: '/k',
    },
  ],
];

test('every form means what it should', () => {
  for (const [text, meaning] of MEANINGS) assert.equal(parseNbdUri(text), meaning, text);
});

test('what is printed is read as the same', () => {
  for (const [text, meaning] of MEANINGS) {
    const printed = formatNbdUri(meaning);
    assert.equal(parseNbdUri(printed), meaning, `${text} printed as ${printed}`);
  }
  assert.is(formatNbdUri(MEANINGS[5][1]), 'nbd://host/a/b%20c/d');
  assert.is(formatNbdUri(MEANINGS[10][1]), 'nbd+unix:///?socket=/run/nbd.sock');
});

test('any name, path and host goes through a URI unchanged', () => {
  const text = fc
    .string({ unit: 'grapheme', minLength: 1 })
    .filter((s) => !s.includes('\0') && !/[\ud800-\udfff]/u.test(s));
  const path = text.filter((s) => Buffer.byteLength(s) <= 107);
  const host = fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6());
  const address = fc.oneof(
    fc.record({
      kind: fc.constant('tcp' as const),
      host,
      port: fc.integer({ min: 1, max: 65535 }),
    }),
    fc.record({ kind: fc.constant('unix' as const), path }),
  );
  fc.assert(
    fc.property(address, fc.oneof(text, fc.constant('')), (address, exportName) => {
      const uri: NbdUri = { ...plain, address: { ...address }, exportName };
      assert.equal(parseNbdUri(formatNbdUri(uri)), uri);
    }),
  );
});

const REFUSED: readonly (readonly [string, RegExp])[] = [
  ['disk.img', /no NBD URI/],
  ['ftp://host/x', /no NBD URI/],
  ['nbd:host/x', /no NBD URI/],
  ['nbd+vsock://1/x', /no NBD URI/],
  ['nbd:///x', /host is missing/],
  ['nbd://', /host is missing/],
  ['nbd://:10809/x', /host is missing/],
  ['nbd://::1/x', /no host/],
  ['nbd://host:0/x', /no port/],
  ['nbd://host:65536/x', /no port/],
  ['nbd://host:1x/x', /no host/],
  ['nbd://ho st/x', /no host/],
  ['nbd://host/x#y', /# in a name/],
  ['nbd://host/%zz', /percent-encoded/],
  ['nbd://host/%ff', /percent-encoded/],
  ['nbd://host/a%00b', /no name can have/],
  ['nbd://host/a\ud800', /no name can have/],
  [`nbd://host/${'x'.repeat(4097)}`, /at most 4096/],
  ['nbd://host/x?socket=/s', /scheme is not nbd\+unix/],
  ['nbd+unix:///x', /socket is missing/],
  [`nbd+unix:///x?socket=/${'ü'.repeat(54)}`, /at most 107 bytes/],
  ['nbd+unix:///x?socket=', /no value/],
  ['nbd+unix:///x?socket', /no value/],
  ['nbd+unix://x?socket=/s', /has no host \(x\)/],
  ['nbd+unix:///x?socket=/s&socket=/t', /given twice/],
  ['nbd+unix:///x?sockte=/s', /unknown parameter sockte/],
  ['nbd://host/x?tls-hostname=y', /no TLS/],
  ['nbd://me@host/x', /only with a key/],
  ['nbds://me@host/x', /only with a key/],
  ['nbds://me:secret@host/x', /no passwords/],
  ['nbds://@host/x', /user before the @/],
  ['nbds://a%3Ab@host/x?tls-psk-file=k', /identity/],
  ['nbds://host/x?tls-psk-file=k', /identity/],
  ['nbds://me@host/x?tls-psk-file=k&tls-certificates=c', /either a key/],
  ['nbds://me@host/x?tls-psk-file=k&tls-hostname=c', /no certificate/],
  ['nbds://me@host/x?tls-psk-file=k&tls-verify-peer=true', /no certificate/],
  ['nbds://host/x?tls-verify-peer=maybe', /true or false/],
];

test('what cannot be meant is refused as usage, with the reason', () => {
  for (const [text, says] of REFUSED) {
    try {
      parseNbdUri(text);
    } catch (error) {
      assert.instance(error, KageError, text);
      assert.is((error as KageError).code, 'usage', text);
      assert.match((error as KageError).message, says, text);
      continue;
    }
    assert.unreachable(`${text} was taken`);
  }
});

test('any text is a URI or a KageError', () => {
  const part = fc.constantFrom('nbd', 'nbds', '+unix', '://', '/', '?', 'socket=', '&', '@', ':');
  const text = fc.array(fc.oneof(part, fc.string({ maxLength: 5 }))).map((a) => a.join(''));
  fc.assert(
    fc.property(text, (t) => {
      try {
        parseNbdUri(t);
      } catch (error) {
        assert.instance(error, KageError);
      }
    }),
    { numRuns: 500 },
  );
});

test('what is meant as an NBD URI is told from a path', () => {
  for (const text of ['nbd://x', 'nbds://x', 'nbd+unix:///', 'NBD:x', 'nbd+vsock://1']) {
    assert.ok(isNbdUri(text), text);
  }
  for (const text of ['nbd', '/nbd://x', 'nbd.img', 'nbdx:y', './nbd:x']) {
    assert.not.ok(isNbdUri(text), text);
  }
});

test.run();
