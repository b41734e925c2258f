/**
 * Edge: TLS for the server's side of a connection that has begun without it (STARTTLS), at least 1.2.
 * Certificates work on all runtimes; pre-shared keys on Node only, and are refused elsewhere before
 * the server listens.
 */

import fs from 'node:fs';
import type net from 'node:net';
import tls from 'node:tls';
import { ioError, KageError } from '../base/errors.ts';
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
  readonly certificate?: TlsCertificate;
  /** Path of a file with a line `identity:hexkey` for each client. */
  readonly psk?: string;
};

/** Sets up TLS on a socket whose plain part is over; rejects when the client cannot. */
export type Secure = (socket: net.Socket) => Promise<net.Socket>;

/** Suites that carry a pre-shared key; in TLS 1.3 a key of this kind goes with SHA-256 only. */
const PSK_CIPHERS =
  'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:' +
  'ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:PSK-AES256-GCM-SHA384';

/** Undefined without TLS. Reads all files now, so that what is wrong shows before anybody connects. */
export function prepareTls(options: TlsOptions): Secure | undefined {
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
  } catch (error) {
    throw new KageError('usage', `TLS cannot be set up: ${(error as Error).message}`, {
      hint: 'do the certificate and the key belong together, and are both in PEM?',
      cause: error,
    });
  }
  return (socket) => secure(socket, settings);
}

function useCertificate(settings: tls.TlsOptions, files: TlsCertificate): void {
  settings.cert = readText(files.cert);
  settings.key = readText(files.key);
  if (files.clientCa === undefined) return;
  settings.ca = readText(files.clientCa);
  settings.requestCert = true;
  settings.rejectUnauthorized = true;
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
