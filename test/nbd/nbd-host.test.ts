/** Images behind NBD servers: one connection each, whoever has them open; pairs with them. */

import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { FileDevice } from '../../src/device/file.ts';
import { FileHost } from '../../src/device/file-host.ts';
import { openClass, readClass } from '../../src/engine/open.ts';
import { deviceExport, fixedExports } from '../../src/nbd/device-export.ts';
import { NbdHost } from '../../src/nbd/nbd-host.ts';
import { type NbdServer, startNbdServer } from '../../src/nbd/server.ts';
import { inWorld } from '../support/world.ts';

const test = suite('nbd: host');
const SIZE = 4 * 1024 * 1024;

type Far = {
  readonly uri: string;
  readonly file: string;
  readonly server: NbdServer;
  stop(): Promise<void>;
};

/** A file behind a server, which can come back after it was stopped. */
async function serve(dir: string, file: string, readOnly = false): Promise<Far> {
  const socket = path.join(dir, 'far.sock');
  const device = new FileDevice(file, { readOnly });
  const server = await startNbdServer([{ kind: 'unix', path: socket }], {
    exports: fixedExports([deviceExport(device, 'disk')]),
    clock: () => performance.now(),
  });
  return {
    uri: `nbd+unix:///disk?socket=${socket}`,
    file,
    server,
    async stop() {
      await server.stop(200);
      await device.close();
    },
  };
}

async function withFar(
  work: (far: Far, dir: string) => Promise<void>,
  readOnly = false,
): Promise<void> {
  await inWorld(async ({ folder: dir }) => {
    const file = path.join(dir, 'far.img');
    fs.writeFileSync(file, Buffer.alloc(SIZE, 5));
    const far = await serve(dir, file, readOnly);
    try {
      await work(far, dir);
    } finally {
      await far.stop();
    }
  });
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    assert.instance(error, KageError);
    return (error as KageError).code;
  }
  return '';
}

test('an export has facts like an image, and its stamps prove nothing', async () => {
  await withFar(async ({ uri }) => {
    const host = new NbdHost(new FileHost());
    const facts = (await host.inspect(uri))!;
    assert.equal([facts.kind, facts.size, facts.writable], ['remote', SIZE, true]);
    const stamp = await host.stamp(uri, true);
    assert.match(stamp.unreliable ?? '', /NBD server/);
    assert.is(await codeOf(host.createImage(uri, 1)), 'not-permitted');
    assert.is(await codeOf(host.checkPlace(uri)), 'not-permitted');
    assert.equal(await host.namesFrom(uri), []);
    assert.is(await codeOf(host.inspect(uri.replace('disk', 'other'))), 'image-missing');
  });
});

test('all who have it open share one connection, and the last one ends it', async () => {
  await withFar(async ({ uri, server }) => {
    const host = new NbdHost(new FileHost());
    const devices = await Promise.all(
      [true, false, true].map((readOnly) => host.openDevice(uri, { readOnly })),
    );
    await host.inspect(uri);
    assert.is(server.metrics.connections, 1);
    await devices[1].write(new Uint8Array(10).fill(9), 0);
    await devices[1].close();
    await devices[1].close();
    const into = new Uint8Array(10);
    await devices[0].read(into, 0);
    assert.ok(into.every((byte) => byte === 9));
    await devices[0].close();
    await devices[2].close();
    const again = await host.openDevice(uri, { readOnly: true });
    await again.read(into, 0);
    await again.close();
  });
});

test('what the server offers to read only is not written', async () => {
  await withFar(async ({ uri }) => {
    const host = new NbdHost(new FileHost());
    assert.is((await host.inspect(uri))!.writable, false);
    assert.is(await codeOf(host.openDevice(uri, { readOnly: false })), 'image-readonly');
    const device = await host.openDevice(uri, { readOnly: true });
    await device.read(new Uint8Array(1), 0);
    await device.close();
  }, true);
});

test('a proxy behind a server: compared, or tracked when it is exclusive', async () => {
  await withFar(async ({ uri, file }, dir) => {
    const master = path.join(dir, 'm.img');
    fs.writeFileSync(master, Buffer.alloc(SIZE, 1));
    const home = path.join(dir, 'home');
    const disks = await openClass('default', { home, create: true });
    await disks.add([{ path: uri, name: 'far', exclusive: true }]);
    const joined = await disks.join(master, 'far');
    assert.is(joined.pairs[0].copy!.bytesWritten, SIZE);
    await disks.part(['far']);
    await disks.write('m', 70_000, new Uint8Array(10).fill(2));
    const report = await disks.rejoin(['far']);
    assert.is(report.pairs[0].copy!.method, 'differential');
    assert.is(report.pairs[0].copy!.regions, 1);
    await disks.close();
    assert.is(Buffer.compare(fs.readFileSync(master), fs.readFileSync(file)), 0);
    assert.is((await readClass('default', { home })).pairs[0].doubt, null);
  });
});

test('a joined proxy whose server is lost is INVALID, and is rejoined by what it missed', async () => {
  await inWorld(async ({ folder: dir }) => {
    const file = path.join(dir, 'far.img');
    fs.writeFileSync(file, Buffer.alloc(SIZE, 5));
    const first = await serve(dir, file);
    const master = path.join(dir, 'm.img');
    fs.writeFileSync(master, Buffer.alloc(SIZE, 1));
    const disks = await openClass('default', {
      home: path.join(dir, 'home'),
      create: true,
      live: true,
    });
    await disks.add([{ path: first.uri, name: 'far', exclusive: true }]);
    await disks.join(master, 'far');
    const client = await disks.attach('m');
    await client.write(new Uint8Array(10).fill(2), 0);
    // Written and not flushed: what a lost server may have forgotten.
    await first.stop();
    const second = await serve(dir, file);
    await client.write(new Uint8Array(10).fill(3), 1_000_000);
    await client.flush();
    const [pair] = (await disks.info()).pairs;
    assert.equal([pair.joined, pair.state], [false, 'invalid']);
    const report = await disks.rejoin(['far']);
    assert.is(report.pairs[0].copy!.method, 'differential');
    await client.flush();
    assert.is((await disks.verify(['far'])).pairs[0].differing, 0);
    await client.close();
    await disks.close();
    assert.is(Buffer.compare(fs.readFileSync(master), fs.readFileSync(file)), 0);
    await second.stop();
  });
});

test.run();
