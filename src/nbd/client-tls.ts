/**
 * TLS of the client: certificates as the GnuTLS tools keep them in a folder, or a pre-shared key,
 * put over a connection after STARTTLS. The server is who the URI says, or there is no connection:
 * its certificate has the right name and comes from the right authority, or it has the key. Only
 * `tls-verify-peer=false` lets that be.
 */

import fs from 'node:fs';
import type net from 'node:net';
import tls from 'node:tls';
import { errnoOf, ioError, KageError } from '../base/errors.ts';
import type { NbdUri } from './uri.ts';

/** TLS 1.3 and 1.2; of the latter only suites whose key is the shared one. */
const PSK_CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-PSK-CHACHA20-POLY1305',
  'DHE-PSK-AES256-GCM-SHA384',
  'DHE-PSK-AES128-GCM-SHA256',
  'PSK-AES256-GCM-SHA384',
  'PSK-AES128-GCM-SHA256',
].join(':');

/** Puts TLS over a connection; the result says 'secureConnect' or 'error'. */
export type Secure = (socket: net.Socket) => tls.TLSSocket;

/**
 * Reads what the URI names. Throws 'usage' for files that are missing or wrong, 'not-permitted' for
 * what this runtime cannot do.
 */
export function prepareTls(uri: NbdUri, server: string): Secure {
  const options = uri.tlsPskFile === undefined ? certified(uri, server) : shared(uri, server);
  return (socket) => tls.connect({ ...options, socket, minVersion: 'TLSv1.2' });
}

function certified(uri: NbdUri, server: string): tls.ConnectionOptions {
  const name = uri.tlsHostname ?? (uri.address.kind === 'tcp' ? uri.address.host : undefined);
  if (name === undefined && uri.tlsVerifyPeer) {
    throw new KageError('usage', `${server}: the name in the server's certificate is missing`, {
      hint: 'a Unix socket has no host name: add &tls-hostname=NAME',
      data: { uri: server },
    });
  }
  const folder = uri.tlsCertificates;
  const file = (which: string) => read(`${folder}/${which}`, server);
  const cert = folder === undefined ? undefined : file('client-cert.pem');
  const ca = folder === undefined ? undefined : file('ca-cert.pem');
  if (folder !== undefined && ca === undefined && uri.tlsVerifyPeer) {
    throw new KageError('usage', `${server}: ${folder} has no ca-cert.pem`, {
      data: { uri: server },
    });
  }
  return {
    ca,
    cert,
    key: cert === undefined ? undefined : file('client-key.pem'),
    rejectUnauthorized: uri.tlsVerifyPeer,
    // Whichever of these a runtime looks at: the name it finds is the one to check.
    host: name,
    servername: name !== undefined && isName(name) ? name : '',
    checkServerIdentity: (_, peer) =>
      name !== undefined && uri.tlsVerifyPeer ? tls.checkServerIdentity(name, peer) : undefined,
  };
}

function shared(uri: NbdUri, server: string): tls.ConnectionOptions {
  if ('Deno' in globalThis || 'Bun' in globalThis) {
    throw new KageError('not-permitted', `${server}: this runtime has no TLS with shared keys`, {
      hint: 'run it on Node, or use certificates (tls-certificates)',
      data: { path: server },
    });
  }
  const identity = uri.user!;
  const psk = keyOf(uri.tlsPskFile!, identity, server);
  return {
    ciphers: PSK_CIPHERS,
    rejectUnauthorized: true,
    pskCallback: () => ({ identity, psk }),
    // With the key there is no certificate. A server that shows one instead does not have the key.
    checkServerIdentity: (_, peer) =>
      peer.raw === undefined ? undefined : new Error('it shows a certificate instead of the key'),
  };
}

function keyOf(file: string, identity: string, server: string): Uint8Array {
  const text = read(file, server)?.toString();
  if (text === undefined) {
    throw new KageError('usage', `${server}: there is no file ${file}`, { data: { uri: server } });
  }
  for (const line of text.split(/\r?\n/)) {
    const colon = line.lastIndexOf(':');
    if (line.slice(0, colon) !== identity) continue;
    const hex = line.slice(colon + 1).trim();
    if (/^(?:[0-9a-f]{2})+$/i.test(hex)) return Buffer.from(hex, 'hex');
  }
  throw new KageError('usage', `${server}: ${file} has no key of ${identity}`, {
    hint: 'a line of it is IDENTITY:HEX, as psktool writes it',
    data: { uri: server },
  });
}

function read(file: string, server: string): Buffer | undefined {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw ioError(`reading ${file}`, server, error);
  }
}

/** Addresses are checked, but not announced: TLS sends names only. */
function isName(host: string): boolean {
  return !host.includes(':') && !/^\d+(?:\.\d+){3}$/.test(host);
}
