/** Files and block devices as block devices. */

import fs from 'node:fs';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { FileDevice, probeSize } from '../../src/device/file.ts';
import { deviceConformance } from '../conformance/device.ts';
import { inWorld, World } from '../support/world.ts';

const test = deviceConformance('device: file', async (content) => {
  const world = new World();
  const file = world.path('image');
  fs.writeFileSync(file, content);
  const device = new FileDevice(file, { readOnly: false });
  const readOnly = new FileDevice(file, { readOnly: true });
  return {
    device,
    readOnly,
    async remove() {
      await device.close();
      await readOnly.close();
      world.remove();
    },
  };
});

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return error instanceof KageError ? error.code : String(error);
  }
  return 'done';
}

test('a file that shrank is told from a broken disk', () =>
  inWorld(async (w) => {
    const device = new FileDevice(w.image('a', 8192), { readOnly: false });
    fs.truncateSync(w.path('a'), 5000);
    const into = new Uint8Array(4096);
    device.read(into, 0);
    assert.is(
      codeOf(() => device.read(into, 4096)),
      'image-changed',
    );
    await device.close();
  }));

test('a file that cannot be opened is an I/O error with its path', () =>
  inWorld(async (w) => {
    const file = w.path('none');
    assert.is(
      codeOf(() => new FileDevice(file, { readOnly: true })),
      'io-error',
    );
    fs.mkdirSync(file);
    assert.is(
      codeOf(() => new FileDevice(file, { readOnly: false })),
      'io-error',
    );
  }));

test('a size that is given limits the device', () =>
  inWorld(async (w) => {
    const device = new FileDevice(w.image('a', 8192), { readOnly: false, size: 1000 });
    assert.is(device.size, 1000);
    assert.throws(() => device.write(new Uint8Array(1), 1000));
    await device.close();
  }));

test('after a failed sync no later one is called good', () =>
  inWorld(async (w) => {
    const device = new FileDevice(w.image('a', 100), { readOnly: false });
    const real = fs.fdatasync;
    fs.fdatasync = ((_fd: number, done: (e: Error) => void) => {
      done(Object.assign(new Error('EIO'), { code: 'EIO' }));
    }) as typeof fs.fdatasync;
    const flushed = () =>
      device.flush().then(
        () => 'done',
        (error) => (error as KageError).code,
      );
    assert.is(await flushed(), 'io-error');
    fs.fdatasync = real;
    assert.is(await flushed(), 'io-error');
    await device.close();
  }));

test('a flush that comes during a sync waits for the next one, which all who came share', () =>
  inWorld(async (w) => {
    const device = new FileDevice(w.image('a', 100), { readOnly: false });
    const real = fs.fdatasync;
    const syncs: (() => void)[] = [];
    fs.fdatasync = ((_fd: number, done: (e: null) => void) => {
      syncs.push(() => done(null));
    }) as typeof fs.fdatasync;
    try {
      const done: string[] = [];
      const flush = (name: string) => device.flush().then(() => done.push(name));
      const first = flush('first');
      const others = [flush('second'), flush('third')];
      assert.is(syncs.length, 1);
      syncs[0]();
      await first;
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal([done.join(), syncs.length], ['first', 2]);
      const last = flush('last');
      syncs[1]();
      await Promise.all(others);
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal([done.join(), syncs.length], ['first,second,third', 3]);
      syncs[2]();
      await last;
    } finally {
      fs.fdatasync = real;
    }
    await device.close();
  }));

test('the size of what has none in its stat is found to the byte', () =>
  inWorld(async (w) => {
    for (const size of [0, 1, 511, 512, 4097, 1024 * 1024, 1024 * 1024 + 1, 5_000_011]) {
      fs.writeFileSync(w.path('a'), '');
      fs.truncateSync(w.path('a'), size);
      const fd = fs.openSync(w.path('a'), 'r');
      assert.is(probeSize(fd), size);
      fs.closeSync(fd);
    }
  }));

test.run();
