/** Certificates for the tests of TLS, made by `certtool`. */

import fs from 'node:fs';
import type { World } from '../support/world.ts';
import { run } from './support.ts';

/** Folders as NBD clients want them, and the files of our own authority. */
export type Pki = {
  readonly client: string;
  readonly stranger: string;
  readonly nobody: string;
  file(name: string): string;
};

/** An authority with a server and a client, another one with a client of its own, and one without. */
export async function makePki(w: World): Promise<Pki> {
  const make = async (folder: string, names: readonly string[]) => {
    const at = (name: string) => w.path(folder, name);
    fs.mkdirSync(w.path(folder));
    const info = (text: string) => {
      fs.writeFileSync(at('info'), text);
      return ['--template', at('info')];
    };
    await run('certtool', '--generate-privkey', '--ecc', '--outfile', at('ca-key.pem'));
    await run(
      'certtool',
      '--generate-self-signed',
      '--load-privkey',
      at('ca-key.pem'),
      ...info('cn = ca\nca\ncert_signing_key\n'),
      '--outfile',
      at('ca-cert.pem'),
    );
    for (const name of names) {
      const key = at(`${name}-key.pem`);
      await run('certtool', '--generate-privkey', '--ecc', '--outfile', key);
      const use = name === 'server' ? 'tls_www_server' : 'tls_www_client';
      await run(
        'certtool',
        '--generate-certificate',
        '--load-privkey',
        key,
        '--load-ca-certificate',
        at('ca-cert.pem'),
        '--load-ca-privkey',
        at('ca-key.pem'),
        ...info(
          `cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\nsigning_key\n${use}\n`,
        ),
        '--outfile',
        at(`${name}-cert.pem`),
      );
    }
  };
  await make('pki', ['server', 'client']);
  await make('strangers', ['client']);
  fs.copyFileSync(w.path('pki', 'ca-cert.pem'), w.path('strangers', 'ca-cert.pem'));
  fs.mkdirSync(w.path('nobody'));
  fs.copyFileSync(w.path('pki', 'ca-cert.pem'), w.path('nobody', 'ca-cert.pem'));
  const file = (name: string) => w.path('pki', name);
  return { client: w.path('pki'), stranger: w.path('strangers'), nobody: w.path('nobody'), file };
}
