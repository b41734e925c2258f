/**
 * NBD URIs, read and printed: `nbd://HOST[:PORT]/EXPORT`, `nbd+unix:///EXPORT?socket=PATH`, and
 * both with TLS as `nbds` (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md). What
 * cannot be meant is refused with a sentence that says what to write; nothing is ignored.
 */

import { KageError } from '../base/errors.ts';
import { nearest } from '../base/units.ts';
import { TEXT_BYTES_MAX } from './wire.ts';

export const NBD_PORT = 10809;

/** Path of a Unix socket, bytes: Node cuts off the rest and connects to whatever is there. */
const SOCKET_PATH_MAX = 107;

export type NbdAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export type NbdUri = {
  readonly tls: boolean;
  readonly address: NbdAddress;
  /** '' is the server's default export. */
  readonly exportName: string;
  /** Identity of a pre-shared key. */
  readonly user?: string;
  /** The name that the server's certificate must have; without it the host of the address. */
  readonly tlsHostname?: string;
  /**
   * Folder with `ca-cert.pem` and, where the server wants one, `client-cert.pem`, `client-key.pem`.
   */
  readonly tlsCertificates?: string;
  /** File with lines `IDENTITY:HEX`. */
  readonly tlsPskFile?: string;
  /** False only where the URI says so: anybody may then be the server. */
  readonly tlsVerifyPeer: boolean;
};

const PARAMETERS = [
  'socket',
  'tls-hostname',
  'tls-certificates',
  'tls-psk-file',
  'tls-verify-peer',
] as const;
type Parameter = (typeof PARAMETERS)[number];
type Query = Readonly<Partial<Record<Parameter, string>>>;

const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  '1': true,
  false: false,
  no: false,
  off: false,
  '0': false,
};

/** True for what is meant as an NBD URI, right or wrong. */
export function isNbdUri(text: string): boolean {
  return /^nbds?(?:\+[a-z]+)?:/i.test(text);
}

/** Throws 'usage' for what is no NBD URI or cannot be meant. */
export function parseNbdUri(text: string): NbdUri {
  const match = /^(nbds?)(\+unix)?:\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/i.exec(text);
  if (!match) {
    throw wrong(text, 'it is no NBD URI', 'nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH');
  }
  const [, scheme, unix, authority, path, query = '', fragment] = match;
  if (fragment !== undefined) throw wrong(text, 'a # in a name is written %23');
  const tls = scheme.toLowerCase() === 'nbds';
  const { user, place } = splitUser(text, authority);
  const values = parseQuery(text, query);
  const address = unix ? unixAddress(text, place, values) : tcpAddress(text, place, values);
  checkTls(text, tls, user, values);
  return {
    tls,
    address,
    exportName: exportName(text, path),
    ...(user === undefined ? {} : { user }),
    ...given('tlsHostname', values['tls-hostname']),
    ...given('tlsCertificates', values['tls-certificates']),
    ...given('tlsPskFile', values['tls-psk-file']),
    tlsVerifyPeer: verifyPeer(text, values['tls-verify-peer']),
  };
}

/** The URI that `parseNbdUri` reads as this. */
export function formatNbdUri(uri: NbdUri): string {
  const { address } = uri;
  const scheme = `${uri.tls ? 'nbds' : 'nbd'}${address.kind === 'unix' ? '+unix' : ''}`;
  const user = uri.user === undefined ? '' : `${encodeURIComponent(uri.user)}@`;
  const name = encodeURIComponent(uri.exportName).replaceAll('%2F', '/');
  const query: string[] = [];
  const add = (parameter: Parameter, value: string | undefined) => {
    if (value === undefined) return;
    query.push(`${parameter}=${encodeURIComponent(value).replaceAll('%2F', '/')}`);
  };
  if (address.kind === 'unix') add('socket', address.path);
  add('tls-hostname', uri.tlsHostname);
  add('tls-certificates', uri.tlsCertificates);
  add('tls-psk-file', uri.tlsPskFile);
  if (!uri.tlsVerifyPeer) add('tls-verify-peer', 'false');
  const end = query.length > 0 ? `?${query.join('&')}` : '';
  return `${scheme}://${user}${placeOf(address)}/${name}${end}`;
}

function placeOf(address: NbdAddress): string {
  if (address.kind === 'unix') return '';
  const plain = encodeURIComponent(address.host).replaceAll('%3A', ':');
  const host = plain.includes(':') ? `[${plain}]` : plain;
  return address.port === NBD_PORT ? host : `${host}:${address.port}`;
}

function given<K extends string>(key: K, value: string | undefined): { [P in K]?: string } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: string });
}

function wrong(text: string, what: string, hint?: string): KageError {
  return new KageError('usage', `${text}: ${what}`, { hint, data: { uri: text } });
}

function decode(text: string, part: string): string {
  let plain: string;
  try {
    plain = decodeURIComponent(part);
  } catch {
    throw wrong(text, `${part} is not percent-encoded UTF-8`, 'a % itself is written %25');
  }
  // With the flag u a surrogate matches only where it stands alone: no UTF-8 has it.
  if (plain.includes('\0') || /[\ud800-\udfff]/u.test(plain)) {
    throw wrong(text, 'it has a character that no name can have');
  }
  return plain;
}

function bytesOf(text: string): number {
  return new TextEncoder().encode(text).byteLength;
}

function splitUser(text: string, authority: string): { user?: string; place: string } {
  const at = authority.lastIndexOf('@');
  if (at < 0) return { place: authority };
  const before = authority.slice(0, at);
  if (before.includes(':')) throw wrong(text, 'NBD has users but no passwords');
  if (before === '') throw wrong(text, 'the user before the @ is missing');
  const user = decode(text, before);
  if (user.includes(':')) throw wrong(text, 'a : cannot be in the identity of a key');
  return { user, place: authority.slice(at + 1) };
}

function parseQuery(text: string, query: string): Query {
  const values: Partial<Record<Parameter, string>> = {};
  for (const pair of query.split('&').filter((p) => p !== '')) {
    const equals = pair.indexOf('=');
    const key = decode(text, equals < 0 ? pair : pair.slice(0, equals));
    const parameter = PARAMETERS.find((p) => p === key);
    if (parameter === undefined) {
      const near = nearest(key, PARAMETERS);
      throw wrong(text, `unknown parameter ${key}`, near && `did you mean ${near}?`);
    }
    const value = equals < 0 ? '' : decode(text, pair.slice(equals + 1));
    if (value === '') throw wrong(text, `${parameter} has no value`);
    if (values[parameter] !== undefined) throw wrong(text, `${parameter} is given twice`);
    values[parameter] = value;
  }
  return values;
}

function unixAddress(text: string, place: string, values: Query): NbdAddress {
  if (place !== '') {
    const form = 'three slashes come before the export: nbd+unix:///EXPORT?socket=PATH';
    throw wrong(text, `a Unix socket has no host (${place})`, form);
  }
  if (values.socket === undefined) throw wrong(text, 'the path of the socket is missing, ?socket=');
  if (bytesOf(values.socket) > SOCKET_PATH_MAX) {
    const hint = 'a shorter path, or one relative to the current folder';
    throw wrong(text, `the path of a Unix socket has at most ${SOCKET_PATH_MAX} bytes`, hint);
  }
  return { kind: 'unix', path: values.socket };
}

function tcpAddress(text: string, place: string, values: Query): NbdAddress {
  if (values.socket !== undefined) {
    throw wrong(text, 'a socket is given, but the scheme is not nbd+unix or nbds+unix');
  }
  const match = /^(?:\[([0-9a-f:.]+(?:%25[\w.~-]+)?)\]|([^:[\]]*))(?::(\d*))?$/i.exec(place);
  if (!match) throw wrong(text, `${place} is no host`, 'IPv6 addresses stand in brackets: [::1]');
  const host = match[1]?.includes(':') ? decode(text, match[1]) : decode(text, match[2] ?? '');
  if (host === '') throw wrong(text, 'the host is missing');
  if (/[\s/\\@:?#[\]]/.test(host) && match[1] === undefined) {
    throw wrong(text, `${host} is no host`);
  }
  const port = match[3] ? Number(match[3]) : NBD_PORT;
  if (port < 1 || port > 65_535) throw wrong(text, `${match[3]} is no port, 1 to 65535`);
  return { kind: 'tcp', host, port };
}

/** Exactly one slash stands between the authority and the name; more belong to the name. */
function exportName(text: string, path: string): string {
  const name = decode(text, path.slice(1));
  if (bytesOf(name) > TEXT_BYTES_MAX) {
    throw wrong(text, `the name of an export has at most ${TEXT_BYTES_MAX} bytes`);
  }
  return name;
}

function checkTls(text: string, tls: boolean, user: string | undefined, values: Query): void {
  const parameter = PARAMETERS.find((p) => p.startsWith('tls-') && values[p] !== undefined);
  if (!tls && parameter !== undefined) {
    throw wrong(
      text,
      `${parameter} is given, but the connection has no TLS`,
      'nbds instead of nbd',
    );
  }
  const psk = values['tls-psk-file'] !== undefined;
  if (psk && values['tls-certificates'] !== undefined) {
    throw wrong(text, 'a connection uses either a key (tls-psk-file) or certificates');
  }
  if (psk && user === undefined) {
    throw wrong(text, 'a key has an identity, and it is missing', 'nbds://IDENTITY@HOST/…');
  }
  if (psk && (values['tls-hostname'] ?? values['tls-verify-peer']) !== undefined) {
    throw wrong(text, 'with a key there is no certificate: no tls-hostname, no tls-verify-peer');
  }
  if (!psk && user !== undefined) {
    throw wrong(text, 'a user means something only with a key, tls-psk-file');
  }
}

function verifyPeer(text: string, value: string | undefined): boolean {
  const verify = BOOLEANS[value?.toLowerCase() ?? 'true'];
  if (verify === undefined) throw wrong(text, 'tls-verify-peer is true or false');
  return verify;
}
