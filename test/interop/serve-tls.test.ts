/** `kage serve` with TLS, as clients of other people see it, and what it refuses before it listens. */

import fs from 'node:fs';
import net from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Server, serve } from '../e2e/serve-support.ts';
import { RUNTIMES, runtime } from '../support/runtimes.ts';
import { exists, inWorld, NODE, until, type World } from '../support/world.ts';
import { cases, MIB, run, tell } from './support.ts';
import { makePki, type Pki } from './support-tls.ts';

const test = suite('interop: kage serve with TLS');
const check = cases(test, 'interop: kage serve with TLS');
const SIZE = 4 * MIB;

const certificateOf = (pki: Pki) => [
  ...['--tls-cert', pki.file('server-cert.pem')],
  ...['--tls-key', pki.file('server-key.pem')],
];

/** The port in `nbds://localhost:PORT/` of the line `ready`. */
function portOf(server: Server): number {
  const [, port] = /^ready nbds:\/\/localhost:(\d+)\//.exec(server.process.stdout) ?? [];
  assert.ok(port, server.process.stdout);
  return Number(port);
}

/** What QEMU says of a volume on a TCP port, with these credentials. */
const qemuInfo = (port: number, credentials: string) =>
  run(
    ...['qemu-img', 'info', '--object', `${credentials},id=t,endpoint=client`, '--image-opts'],
    `driver=nbd,export=default/vm,server.type=inet,server.host=localhost,server.port=${port},tls-creds=t,tls-hostname=localhost`,
  );

async function withVolume(w: World): Promise<void> {
  w.image('vm.img', SIZE);
  await w.ok(['add', w.path('vm.img')]);
}

for (const { name, command } of RUNTIMES) {
  check(['certtool', 'nbdinfo', 'nbdcopy', 'qemu-img'], `certificates on ${name}`, async (w) => {
    const pki = await makePki(w);
    await withVolume(w);
    const socket = w.path('own.sock');
    const places = ['--nbd', 'tcp:localhost:0', '--nbd', `unix:${socket}`];
    const server = await serve(w, [...places, ...certificateOf(pki)], command);
    const port = portOf(server);
    assert.match(server.process.stdout, ` nbd+unix:///?socket=${socket}\n`);
    const uri = `nbds://localhost:${port}/default/vm?tls-certificates=${pki.nobody}`;
    await run('nbdcopy', '--flush', w.image('in.raw', SIZE, 2), uri);
    await run('nbdcopy', uri, w.path('out.raw'));
    assert.is(w.hash('out.raw'), w.hash('in.raw'));
    const credentials = `tls-creds-x509,dir=${pki.client}`;
    assert.match(await qemuInfo(port, credentials), `${SIZE} bytes`);
    const plain = await tell('nbdinfo', '--size', `nbd://localhost:${port}/default/vm`);
    assert.is(plain.status, 1);
    assert.match(plain.all, /requires TLS|wants TLS/);
    // A unix socket is for its owner alone.
    const beside = `nbd+unix:///default/vm?socket=${socket}`;
    assert.is((await run('nbdinfo', '--size', beside)).trim(), `${SIZE}`);
    await server.stop();
    assert.is(w.hash('vm.img'), w.hash('in.raw'));
  });

  check(['certtool', 'nbdinfo'], `certificates of the clients, too, on ${name}`, async (w) => {
    const pki = await makePki(w);
    await withVolume(w);
    const authority = ['--tls-client-ca', pki.file('ca-cert.pem')];
    const words = ['--nbd', 'tcp:localhost:0', ...certificateOf(pki), ...authority];
    const server = await serve(w, words, command);
    const uri = (folder: string) =>
      `nbds://localhost:${portOf(server)}/default/vm?tls-certificates=${folder}`;
    for (const other of [pki.nobody, pki.stranger]) {
      assert.is((await tell('nbdinfo', '--size', uri(other))).status, 1, other);
    }
    assert.is((await run('nbdinfo', '--size', uri(pki.client))).trim(), `${SIZE}`);
    await until('the log tells of both', () => {
      const told = server.process.stderr.match(/client 127\.\S+: refused: TLS: \S+/g);
      return told?.length === 2;
    });
    await server.stop();
  });
}

check(['psktool', 'nbdinfo', 'qemu-img'], 'pre-shared keys', async (w) => {
  await withVolume(w);
  for (const folder of ['psk', 'other']) {
    fs.mkdirSync(w.path(folder));
    await run('psktool', '-u', 'alice', '-p', w.path(folder, 'keys.psk'));
  }
  const words = ['--nbd', 'tcp:localhost:0', '--tls-psk', w.path('psk', 'keys.psk')];
  const server = await serve(w, words);
  const port = portOf(server);
  const uri = (folder: string) =>
    `nbds://alice@localhost:${port}/default/vm?tls-psk-file=${w.path(folder, 'keys.psk')}`;
  assert.is((await run('nbdinfo', '--size', uri('psk'))).trim(), `${SIZE}`);
  assert.is((await tell('nbdinfo', '--size', uri('other'))).status, 1);
  assert.is((await tell('nbdinfo', '--size', `nbd://localhost:${port}/default/vm`)).status, 1);
  const credentials = `tls-creds-psk,dir=${w.path('psk')},username=alice`;
  assert.match(await qemuInfo(port, credentials), `${SIZE} bytes`);
  await server.stop();
  for (const other of ['Deno', 'Bun'] as const) {
    const { command } = runtime(other) ?? {};
    if (command === undefined) continue;
    const refused = await w.run(['serve', ...words], { runtime: command });
    assert.is(refused.status, 12, refused.stderr);
    assert.match(refused.stderr, `TLS with pre-shared keys does not work on ${other}`);
  }
});

check(
  ['certtool'],
  'wrong files are refused on every runtime, before anything is there',
  async (w) => {
    const pki = await makePki(w);
    const [cert, key] = [pki.file('server-cert.pem'), pki.file('server-key.pem')];
    fs.writeFileSync(
      w.path('bad'),
      '-----BEGIN CERTIFICATE-----\nbad\n-----END CERTIFICATE-----\n',
    );
    fs.writeFileSync(w.path('bad.psk'), 'alice:0102\n');
    const rows: readonly (readonly [string[], RegExp])[] = [
      [['--tls-cert', cert, '--tls-key', pki.file('client-key.pem')], /do the .* belong together/],
      [['--tls-cert', w.path('nothing'), '--tls-key', key], /nothing: no such file/],
      [['--tls-cert', key, '--tls-key', cert], /no certificate in it/],
      [['--tls-cert', cert, '--tls-key', cert], /no private key in it/],
      [['--tls-cert', w.path('bad'), '--tls-key', key], /bad: a certificate in it is damaged/],
      [['--tls-cert', cert, '--tls-key', key, '--tls-client-ca', w.path('bad')], /is damaged/],
      [['--tls-cert', cert], /--tls-cert and --tls-key go together/],
      [['--tls-client-ca', cert], /--tls-client-ca needs/],
      [['--tls-cert', cert, '--tls-key', key, '--insecure-tcp'], /leave one of them out/],
    ];
    for (const { name, command } of RUNTIMES) {
      const all = command === NODE ? [...rows, PSK_ROW(w)] : rows;
      for (const [words, expected] of all) {
        // The class does not exist: it is not even looked for.
        const line = ['serve', '-c', 'nothing', '--nbd', 'tcp:localhost:0', ...words];
        const ended = await w.run(line, { runtime: command });
        assert.is(ended.status, 2, `${name}: ${words.join(' ')}: ${ended.stderr}`);
        assert.match(ended.stderr, expected);
      }
    }
    assert.not.ok(exists(w.home), 'not even the state folder');
  },
);

const PSK_ROW = (w: World) => [['--tls-psk', w.path('bad.psk')], /not identity:hexkey/] as const;

check([], 'places are looked at before classes are opened', async (w) => {
  const line = (...words: string[]) => w.run(['serve', '-c', 'nothing', ...words]);
  const beyond = await line('--nbd', 'tcp:0.0.0.0:0');
  assert.is(beyond.status, 12, beyond.stderr);
  assert.match(beyond.stderr, /other machines could read and write the exports without TLS/);
  const unix = await line('--tls-psk', w.path('keys'), '--nbd', `unix:${w.path('x.sock')}`);
  assert.is(unix.status, 2, unix.stderr);
  assert.match(unix.stderr, /TLS is for TCP, and there is none here/);
  assert.not.ok(exists(w.home));

  const other = net.createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as net.AddressInfo;
  const taken = await line('--nbd', `tcp:127.0.0.1:${port}`);
  assert.is(taken.status, 11, taken.stderr);
  assert.match(taken.stderr, /another server listens there/);
  assert.not.ok(exists(w.path('home', 'control.sock')));
  other.close();
});

check(['certtool'], 'a proxy behind a server of ours, over TLS', async (w) => {
  const pki = await makePki(w);
  await inWorld(async (far) => {
    far.image('store.img', SIZE, 9);
    await far.ok(['add', far.path('store.img')]);
    const authority = ['--tls-client-ca', pki.file('ca-cert.pem')];
    const words = ['--nbd', 'tcp:localhost:0', ...certificateOf(pki), ...authority];
    const store = await serve(far, words);
    const disk = `nbds://localhost:${portOf(store)}/default/store`;
    w.image('vm.img', SIZE);
    const refused = await w.run([
      'join',
      w.path('vm.img'),
      `${disk}?tls-certificates=${pki.nobody}`,
    ]);
    assert.is.not(refused.status, 0, 'without a certificate of its own');
    const uri = `${disk}?tls-certificates=${pki.client}`;
    const joined = await w.ok(['join', w.path('vm.img'), uri]);
    assert.is(joined.pairs[0].state, 'joined');
    const near = await serve(w);
    await w.ok(['part', 'store']);
    await w.run(['write', 'vm', '--offset', '1M'], { input: 'changed' });
    const rejoined = await w.ok(['rejoin', 'store']);
    assert.is(rejoined.pairs[0].state, 'joined');
    await near.stop();
    await store.stop();
    assert.is(far.hash('store.img'), w.hash('vm.img'));
  });
});

test.run();
