/** TLS with libnbd and QEMU: certificates on every runtime, pre-shared keys on Node. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cases, MIB, ON_NODE, onEach, RUNTIMES, run, serveDisk, tell } from './support.ts';
import { makePki } from './support-tls.ts';

const test = suite('interop: NBD with TLS');
const check = cases(test, 'interop: NBD with TLS');
const DENO_AND_BUN = RUNTIMES.slice(1).map(({ command }) => command[0]);

const secureUri = (socket: string, folder: string) =>
  `nbds+unix://localhost/disk?socket=${socket}&tls-certificates=${folder}&tls-hostname=localhost`;

check(
  ['certtool', 'nbdinfo', 'nbdcopy', ...DENO_AND_BUN],
  'certificates: required, optional, and the client’s own, on every runtime',
  async (w) => {
    const pki = await makePki(w);
    const image = w.image('in.raw', 6 * MIB, 1);
    const certificate = { cert: pki.file('server-cert.pem'), key: pki.file('server-key.pem') };
    await onEach(async (runtime) => {
      const file = w.image('disk.raw', 6 * MIB, 2);
      const open = await serveDisk(
        w,
        { file, tls: { mode: 'required', certificate } },
        runtime,
        '127.0.0.1',
      );
      const plain = await tell('nbdinfo', '--size', open.uri);
      assert.match(plain.all, /requires TLS|wants TLS/);
      assert.is(plain.status, 1);
      const uri = secureUri(open.socket, pki.nobody);
      assert.match(await run('nbdinfo', uri), /with TLS/);
      await run('nbdcopy', '--flush', image, uri);
      assert.is(w.hash('disk.raw'), w.hash('in.raw'));
      await run('nbdcopy', uri, w.path('out.raw'));
      assert.is(w.hash('out.raw'), w.hash('in.raw'));
      await run(
        'nbdinfo',
        '--size',
        `nbds://localhost:${open.port}/disk?tls-certificates=${pki.nobody}`,
      );
      await open.stop();

      const optional = await serveDisk(
        w,
        { file, tls: { mode: 'optional', certificate } },
        runtime,
      );
      await run('nbdinfo', '--size', optional.uri);
      await run('nbdinfo', '--size', secureUri(optional.socket, pki.nobody));
      await optional.stop();

      const clientCa = pki.file('ca-cert.pem');
      const closed = await serveDisk(
        w,
        { file, tls: { mode: 'required', certificate: { ...certificate, clientCa } } },
        runtime,
      );
      await run('nbdinfo', '--size', secureUri(closed.socket, pki.client));
      for (const other of [pki.nobody, pki.stranger]) {
        assert.is((await tell('nbdinfo', '--size', secureUri(closed.socket, other))).status, 1);
      }
      await run('nbdinfo', '--size', secureUri(closed.socket, pki.client));
      await closed.stop();
    });
  },
);

check(['psktool', 'nbdinfo', 'nbdcopy', 'qemu-img'], 'pre-shared keys', async (w) => {
  fs.mkdirSync(w.path('psk'));
  fs.mkdirSync(w.path('other'));
  await run('psktool', '-u', 'alice', '-p', w.path('psk', 'keys.psk'));
  await run('psktool', '-u', 'alice', '-p', w.path('other', 'keys.psk'));
  const image = w.image('in.raw', 6 * MIB, 1);
  const file = w.image('disk.raw', 6 * MIB, 2);
  const disk = await serveDisk(w, {
    file,
    tls: { mode: 'required', psk: w.path('psk', 'keys.psk') },
  });
  const uri = (user: string, keys: string) =>
    `nbds+unix://${user}@/disk?socket=${disk.socket}&tls-psk-file=${w.path(keys, 'keys.psk')}`;
  await run('nbdcopy', '--flush', image, uri('alice', 'psk'));
  assert.is(w.hash('disk.raw'), w.hash('in.raw'));
  assert.is((await tell('nbdinfo', '--size', uri('alice', 'other'))).status, 1);
  assert.is((await tell('nbdinfo', '--size', disk.uri)).status, 1);
  const credentials = `tls-creds-psk,id=t,dir=${w.path('psk')},endpoint=client,username=alice`;
  const target = `driver=nbd,export=disk,server.type=unix,server.path=${disk.socket},tls-creds=t`;
  const told = await run('qemu-img', 'info', '--object', credentials, '--image-opts', target);
  assert.match(told, /6291456 bytes/);
  await disk.stop();
});

check(
  ['psktool', 'certtool', 'nbdinfo', 'qemu-img'],
  'certificates and keys side by side; QEMU with a certificate',
  async (w) => {
    const pki = await makePki(w);
    await run('psktool', '-u', 'bob', '-p', w.path('keys.psk'));
    const certificate = { cert: pki.file('server-cert.pem'), key: pki.file('server-key.pem') };
    const disk = await serveDisk(w, {
      size: MIB,
      tls: { mode: 'required', certificate, psk: w.path('keys.psk') },
    });
    const psk = `nbds+unix://bob@/disk?socket=${disk.socket}&tls-psk-file=${w.path('keys.psk')}`;
    assert.is((await run('nbdinfo', '--size', psk)).trim(), `${MIB}`);
    assert.is(
      (await run('nbdinfo', '--size', secureUri(disk.socket, pki.nobody))).trim(),
      `${MIB}`,
    );
    const credentials = `tls-creds-x509,id=t,dir=${pki.client},endpoint=client`;
    const target = `driver=nbd,export=disk,server.type=unix,server.path=${disk.socket},tls-creds=t,tls-hostname=localhost`;
    assert.match(
      await run('qemu-img', 'info', '--object', credentials, '--image-opts', target),
      /1048576 bytes/,
    );
    await disk.stop();
  },
);

check(
  ['psktool', ...DENO_AND_BUN],
  'pre-shared keys are refused where they do not work',
  async (w) => {
    await run('psktool', '-u', 'alice', '-p', w.path('keys.psk'));
    await onEach(async (runtime) => {
      if (runtime.name === ON_NODE.name) return;
      let said = '';
      try {
        const tls = { mode: 'required', psk: w.path('keys.psk') } as const;
        said = (await serveDisk(w, { size: MIB, tls }, runtime)).process.stdout;
      } catch (error) {
        said = (error as Error).message;
      }
      assert.match(
        said,
        `refused not-permitted: TLS with pre-shared keys does not work on ${runtime.name}`,
      );
    });
  },
);

test.run();
