/** A copy to a new image on disks in memory: when it gets its name, and what a failure leaves. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { setFaultHook } from '../../src/base/faults.ts';
import { MemoryHost, PowerCut } from '../../src/device/memory-host.ts';
import { copyImage } from '../../src/engine/images.ts';

const test = suite('engine: copy to a new image');
test.after.each(() => setFaultHook());

const SIZE = 3 * 65536 + 5;
const UNFINISHED = /^\/out\.img\.kage-\d+-[0-9a-f]{16}\.part$/;

function make() {
  const host = new MemoryHost(1);
  const disk = host.addDisk('/vm.img', SIZE);
  disk.write(new Uint8Array(SIZE).fill(7), 0);
  disk.flush();
  const options = { home: '/home', host, kernel: 'js' as const };
  return { host, copy: () => copyImage('/vm.img', '/out.img', options) };
}

const isCopy = (host: MemoryHost, path: string) =>
  Buffer.from(host.disks.get(path)!.durable).equals(Buffer.alloc(SIZE, 7));

test('everything is durable before the image gets its name', async () => {
  const { host, copy } = make();
  const rename = host.renameImage.bind(host);
  let renamed = 0;
  host.renameImage = async (from, to) => {
    assert.match(from, UNFINISHED);
    assert.ok(isCopy(host, from));
    renamed++;
    await rename(from, to);
  };
  await copy();
  assert.is(renamed, 1);
  assert.equal([...host.disks.keys()], ['/vm.img', '/out.img']);
});

test('a disk that fails leaves no image; the error names what is left, the next copy removes it', async () => {
  const { host, copy } = make();
  const add = host.addDisk.bind(host);
  host.addDisk = (path, size) => {
    const disk = add(path, size);
    disk.fault = (operation) => {
      if (operation === 'write') throw new KageError('disk-full', 'no room', { hint: 'make room' });
    };
    return disk;
  };
  const error = (await copy().catch((e) => e)) as KageError;
  const [, left, ...more] = host.disks.keys();
  assert.match(left, UNFINISHED);
  assert.equal(more, []);
  assert.is(error.code, 'disk-full');
  assert.is(error.hint, `make room; the unfinished copy is ${left}; the next one removes it`);
  assert.is(error.data.unfinished, left);
  host.addDisk = add;
  const { notes } = await copy();
  assert.match(notes.join(), new RegExp(`removed ${left}`));
  assert.equal([...host.disks.keys()], ['/vm.img', '/out.img']);
  assert.ok(isCopy(host, '/out.img'));
});

for (const step of ['image:created', 'image:whole']) {
  test(`a power cut at ${step} leaves no image that looks whole`, async () => {
    const { host, copy } = make();
    setFaultHook((name) => {
      if (name !== step) return;
      host.cutPower();
      throw new PowerCut();
    });
    assert.ok((await copy().catch((e) => e)) instanceof PowerCut);
    assert.not(host.disks.has('/out.img'));
    setFaultHook();
    await copy();
    assert.equal([...host.disks.keys()], ['/vm.img', '/out.img']);
  });
}

test.run();
