/**
 * Edge: TLS for the server's side of a connection that has begun without it (STARTTLS), at least 1.2.
 * Certificates work on all runtimes; pre-shared keys on Node only, and are refused elsewhere before
 * the server listens.
 */

import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import { errnoOf, ioError, KageError } from '../base/errors.ts';
import type { TlsMode } from './options.ts';

/** Paths of PEM files. */
export type TlsCertificate = {
  readonly cert: string;
  readonly key: string;
  /** Who signs the clients' certificates. With it, a client has to show one. */
  readonly clientCa?: string;
};

export type TlsOptions = {
  readonly mode: TlsMode;
  /** On unix sockets, if it is another one there. */
  readonly unixMode?: TlsMode;
  readonly certificate?: TlsCertificate;
  /** Path of a file with a line `identity:hexkey` for each client. */
  readonly psk?: string;
};

/** Sets up TLS on a socket whose plain part is over; rejects when the client cannot. */
export type Secure = (socket: net.Socket) => Promise<net.Socket>;

/** A handshake with ourselves takes some ten, ms. */
const REHEARSAL_MS = 10_000;

/** Suites that carry a pre-shared key; in TLS 1.3 a key of this kind goes with SHA-256 only. */
const PSK_CIPHERS =
  'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:' +
  'ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:PSK-AES256-GCM-SHA384';

/**
 * Undefined without TLS. Reads all files now and tries them, so that what is wrong shows before anybody
 * connects. Throws `usage` for files that are missing or wrong, `not-permitted` for what this runtime
 * cannot do and files that may not be read.
 */
export async function prepareTls(options: TlsOptions): Promise<Secure | undefined> {
  const { mode, certificate, psk } = options;
  if (mode === 'off') return undefined;
  if (certificate === undefined && psk === undefined) {
    throw new KageError('usage', 'TLS needs a certificate or a file of pre-shared keys');
  }
  const settings: tls.TlsOptions = { minVersion: 'TLSv1.2' };
  if (certificate !== undefined) useCertificate(settings, certificate);
  if (psk !== undefined) usePsk(settings, psk, certificate !== undefined);
  try {
    tls.createSecureContext(settings);
    if (certificate !== undefined) await rehearse(settings);
  } catch (error) {
    const { cert, key } = certificate ?? {};
    const files = [cert, key, psk].filter((file) => file !== undefined).join(' and ');
    throw new KageError('usage', `${files}: TLS cannot be set up with this`, {
      hint: 'do the certificate and the key belong together, and is the key without a password?',
      data: { reason: (error as Error).message },
      cause: error,
    });
  }
  return (socket) => secure(socket, settings);
}

function useCertificate(settings: tls.TlsOptions, files: TlsCertificate): void {
  settings.cert = readCertificates(files.cert);
  settings.key = readText(files.key);
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(settings.key)) {
    throw new KageError('usage', `${files.key}: there is no private key in it, in PEM`);
  }
  if (files.clientCa === undefined) return;
  settings.ca = readCertificates(files.clientCa);
  settings.requestCert = true;
  settings.rejectUnauthorized = true;
}

/** The text of a file of certificates. What is none is passed over by some runtimes without a word. */
function readCertificates(file: string): string {
  const text = readText(file);
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  try {
    for (const certificate of found) new X509Certificate(certificate);
  } catch (error) {
    throw new KageError('usage', `${file}: a certificate in it is damaged`, { cause: error });
  }
  if (found.length > 0) return text;
  throw new KageError('usage', `${file}: there is no certificate in it, in PEM`);
}

/**
 * A handshake with ourselves: not every runtime looks at a certificate and its key before a client
 * comes, nor does each read every form of a key other than for this. Listens for a moment, on a free
 * port of this machine; whoever else connects there gets a handshake, and nothing more.
 */
async function rehearse(settings: tls.TlsOptions): Promise<void> {
  const alone = { ...settings, requestCert: false };
  const server = net.createServer({ allowHalfOpen: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: '127.0.0.1', port: 0 }, resolve);
  });
  const { port } = server.address() as net.AddressInfo;
  try {
    await new Promise<void>((resolve, reject) => {
      server.on('connection', (socket) => {
        socket.on('error', () => {});
        secure(socket, alone).then((secured) => secured.on('error', () => {}).end(), reject);
      });
      const client = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
      client.once('secureConnect', () => {
        client.destroy();
        resolve();
      });
      client.on('error', reject);
      client.setTimeout(REHEARSAL_MS, () => client.destroy(new Error('no handshake in time')));
    });
  } finally {
    server.close();
  }
}

function usePsk(settings: tls.TlsOptions, file: string, besidesCertificate: boolean): void {
  const runtime = otherRuntime();
  if (runtime !== undefined) {
    throw new KageError('not-permitted', `TLS with pre-shared keys does not work on ${runtime}`, {
      hint: 'use a certificate, or run it on Node',
    });
  }
  const keys = parsePskFile(readText(file), file);
  settings.pskCallback = (_socket, identity) => keys.get(identity) ?? null;
  const others = tls.DEFAULT_CIPHERS.split(':').filter((name) => !name.startsWith('TLS_'));
  settings.ciphers = [PSK_CIPHERS, ...(besidesCertificate ? others : [])].join(':');
}

function otherRuntime(): string | undefined {
  if ('Deno' in globalThis) return 'Deno';
  return 'Bun' in globalThis ? 'Bun' : undefined;
}

/** Keys by identity. Empty lines and those that begin with # count for nothing. */
export function parsePskFile(content: string, file: string): Map<string, Buffer> {
  const keys = new Map<string, Buffer>();
  for (const [i, line] of content.split('\n').entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, identity, key] = /^([^:]+):((?:[0-9a-fA-F]{2}){16,})\s*$/.exec(line) ?? [];
    if (identity === undefined) {
      throw new KageError('usage', `${file}: line ${i + 1} is not identity:hexkey`, {
        hint: 'a key has at least 32 hexadecimal digits; psktool makes such files',
      });
    }
    keys.set(identity, Buffer.from(key, 'hex'));
  }
  if (keys.size === 0) throw new KageError('usage', `${file}: there is no key in it`);
  return keys;
}

function readText(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'EISDIR') {
      throw new KageError(
        'usage',
        `${file}: ${errno === 'EISDIR' ? 'is a folder' : 'no such file'}`,
      );
    }
    if (errno === 'EACCES' || errno === 'EPERM') {
      throw new KageError('not-permitted', `${file}: no right to read it`);
    }
    throw ioError('reading', file, error);
  }
}

/**
 * The runtime's TLS server checks the client's certificate only in servers of its own, so each
 * connection gets one, which never listens.
 */
function secure(socket: net.Socket, settings: tls.TlsOptions): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const server = tls.createServer({ ...settings, allowHalfOpen: true }, resolve);
    server.on('tlsClientError', reject);
    socket.once('close', () => reject(new Error('closed during the TLS handshake')));
    server.emit('connection', socket);
  });
}
