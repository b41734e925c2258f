/**
 * The NBD client with TLS: it talks to the right server, with certificates or a key, or not at all.
 */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { World } from '../support/world.ts';
import { pattern, type Step } from './nbd-client-steps.ts';
import {
  client,
  end,
  MIB,
  NODE,
  nbdkit,
  needs,
  onAll,
  outcomes,
  overRestart,
  RUNTIMES,
  refused,
  serve,
  sha1,
  start,
  tlsUri,
  uriOf,
} from './nbd-client-support.ts';

const test = suite('interop: the NBD client with TLS');

/** A folder with an authority, a server's certificate for `localhost`, and one of a client. */
function pki(w: World, name: string): string {
  const folder = w.path(name);
  fs.mkdirSync(folder);
  const run = (...args: string[]) => {
    const { status, stderr } = spawnSync('certtool', args, { cwd: folder, encoding: 'utf8' });
    assert.is(status, 0, `certtool ${args.join(' ')}: ${stderr}`);
  };
  const key = (file: string) =>
    run('--generate-privkey', '--key-type=ecdsa', '--curve=secp256r1', '--outfile', file);
  const issue = (who: string, template: string) => {
    fs.writeFileSync(path.join(folder, 'template'), template);
    key(`${who}-key.pem`);
    const args = ['--template', 'template', '--load-privkey', `${who}-key.pem`];
    const by = ['--load-ca-certificate', 'ca-cert.pem', '--load-ca-privkey', 'ca-key.pem'];
    if (who === 'ca') run('--generate-self-signed', ...args, '--outfile', 'ca-cert.pem');
    else run('--generate-certificate', ...args, ...by, '--outfile', `${who}-cert.pem`);
  };
  issue('ca', `cn = "authority ${name}"\nca\ncert_signing_key\nexpiration_days = 30\n`);
  const use = 'signing_key\nexpiration_days = 30\n';
  issue('server', `cn = "localhost"\ndns_name = "localhost"\ntls_www_server\n${use}`);
  issue('client', `cn = "client"\ntls_www_client\n${use}`);
  return folder;
}

const READ: readonly Step[] = [['write', 0, 3 * MIB, 1], ['flush'], ['read', 0, 3 * MIB]];
const DONE = ['ok', 'ok', sha1(pattern(3 * MIB, 1))];

needs(
  test,
  ['nbdkit', 'certtool'],
  'TLS with certificates: the right server, and no other',
  async (w) => {
    const ours = pki(w, 'ours');
    const others = pki(w, 'others');
    const anonymous = w.path('anonymous');
    fs.mkdirSync(anonymous);
    fs.copyFileSync(path.join(ours, 'ca-cert.pem'), path.join(anonymous, 'ca-cert.pem'));
    await nbdkit(w, '--tls=require', `--tls-certificates=${ours}`, 'memory', '4M');
    const name = '&tls-hostname=localhost';
    const works = [
      `${name}&tls-certificates=${ours}`,
      `${name}&tls-certificates=${anonymous}`,
      '&tls-verify-peer=false',
    ];
    const fails: readonly (readonly [string, string, RegExp])[] = [
      [`&tls-hostname=other.example&tls-certificates=${ours}`, 'io-error', /altnames/],
      [`${name}&tls-certificates=${others}`, 'io-error', /certificate/],
      [name, 'io-error', /certificate/],
      [`&tls-certificates=${ours}`, 'usage', /name in the server's certificate/],
      [`${name}&tls-certificates=${w.folder}`, 'usage', /no ca-cert\.pem/],
    ];
    const uris = [...works, ...fails.map(([query]) => query)].map((query) => tlsUri(w, query));
    const cases = [...uris, uriOf(w)].map((uri) => ({ uri, steps: READ }));
    await onAll(async (runtime) => {
      const results = await outcomes(start(runtime, cases));
      for (const query of works) assert.equal(results.shift()!.steps, DONE, query);
      for (const [, code, says] of fails) refused(results.shift()!, code, says);
      refused(results.shift()!, 'not-permitted', /wants TLS/);
    });
  },
);

needs(test, ['nbdkit', 'certtool'], 'TLS over a server started anew', async (w) => {
  const ours = pki(w, 'ours');
  const uri = tlsUri(w, `&tls-hostname=localhost&tls-certificates=${ours}`);
  const args = ['--tls=require', `--tls-certificates=${ours}`];
  const after: Step[] = [['read', 5, 1000], ['write', 5000, 1000, 2], ['flush']];
  await onAll(async (runtime) => {
    const before: Step[] = [['write', 5, 1000, 1], ['flush']];
    const result = await overRestart(w, runtime, before, after, { uri, args });
    assert.equal(result.steps, ['ok', 'ok', 'ok', sha1(pattern(1000, 1)), 'ok', 'ok']);
    assert.is(result.generation, 1);
  });
});

needs(test, ['nbdkit', 'certtool'], 'TLS with certificates on both sides, over TCP', async (w) => {
  const ours = pki(w, 'ours');
  const bare = w.path('bare');
  fs.mkdirSync(bare);
  fs.copyFileSync(path.join(ours, 'ca-cert.pem'), path.join(bare, 'ca-cert.pem'));
  const port = await freePort();
  const tls = ['--tls=require', '--tls-verify-peer', `--tls-certificates=${ours}`];
  const pid = w.path('pid');
  const address = ['-i', '127.0.0.1', '-p', `${port}`, '-P', pid];
  await serve(w, 'pid', 'nbdkit', '-f', ...address, ...tls, 'memory', '4M');
  const on = (host: string, folder: string) => ({
    uri: `nbds://${host}:${port}/?tls-certificates=${folder}`,
    steps: READ,
  });
  const cases = [
    on('localhost', ours),
    on('127.0.0.1', `${ours}&tls-hostname=localhost`),
    on('127.0.0.1', ours),
    on('localhost', bare),
  ];
  await onAll(async (runtime) => {
    const [good, named, nameless, without] = await outcomes(start(runtime, cases));
    assert.equal(good.steps, DONE);
    assert.equal(named.steps, DONE);
    refused(nameless, 'io-error', /altnames/);
    // With TLS 1.3 the server's refusal comes after the client believes to be done.
    refused(without, 'io-error', /./);
  });
});

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function pskFiles(w: World): { keys: string; wrong: string } {
  const keys = w.path('keys.psk');
  const { status } = spawnSync('psktool', ['-u', 'alice', '-p', keys]);
  assert.is(status, 0);
  const wrong = w.path('wrong.psk');
  fs.writeFileSync(wrong, `alice:${'ab'.repeat(32)}\nmallory:${'cd'.repeat(32)}\n`);
  return { keys, wrong };
}

needs(test, ['nbdkit', 'psktool', 'certtool'], 'TLS with a shared key', async (w) => {
  const { keys, wrong } = pskFiles(w);
  const server = await nbdkit(w, '--tls=require', `--tls-psk=${keys}`, 'memory', '4M');
  const uri = (user: string, file: string) => tlsUri(w, `&tls-psk-file=${file}`, `${user}@`);
  const good = await client(NODE, uri('alice', keys), READ);
  assert.equal(good.steps, DONE, JSON.stringify(good.error));
  refused(await client(NODE, uri('alice', wrong), READ), 'io-error', /./);
  refused(await client(NODE, uri('mallory', wrong), READ), 'io-error', /./);
  refused(await client(NODE, uri('bob', keys), READ), 'usage', /has no key of bob/);
  refused(await client(NODE, uri('bob', w.path('none')), READ), 'usage', /there is no file/);
  for (const runtime of RUNTIMES.filter(({ name }) => name !== 'Node')) {
    refused(await client(runtime, uri('alice', keys), READ), 'not-permitted', /no TLS with shared/);
  }
  // A server that shows a certificate instead, even one that could be believed.
  await end(server);
  fs.rmSync(w.path('s'), { force: true });
  const ours = pki(w, 'ours');
  await nbdkit(w, '--tls=require', `--tls-certificates=${ours}`, 'memory', '4M');
  const trusting = { NODE_EXTRA_CA_CERTS: path.join(ours, 'ca-cert.pem') };
  const cases = [{ uri: uri('alice', keys), steps: READ }];
  const [shown] = await outcomes(start(NODE, cases, trusting));
  refused(shown, 'io-error', /a certificate instead of the key/);
});

needs(test, ['qemu-nbd', 'certtool', 'psktool'], 'TLS with qemu-nbd, both ways', async (w) => {
  const image = w.image('disk', 4 * MIB, 1);
  const ours = pki(w, 'ours');
  const { keys } = pskFiles(w);
  const qemu = async (credentials: string) => {
    fs.rmSync(w.path('s'), { force: true });
    const tls = ['--object', `${credentials},id=t,endpoint=server`, '--tls-creds', 't'];
    const args = ['-k', w.path('s'), '-t', '-f', 'raw', '-x', '', ...tls, image];
    return await serve(w, 's', 'qemu-nbd', ...args);
  };
  const first = await qemu(`tls-creds-x509,dir=${ours},verify-peer=no`);
  const query = `&tls-hostname=localhost&tls-certificates=${ours}`;
  await onAll(async (runtime) => {
    assert.equal((await client(runtime, tlsUri(w, query), READ)).steps, DONE);
  });
  await end(first);
  await qemu(`tls-creds-psk,dir=${w.folder}`);
  const psk = await client(NODE, tlsUri(w, `&tls-psk-file=${keys}`, 'alice@'), READ);
  assert.equal(psk.steps, DONE, JSON.stringify(psk.error));
});

test.run();
