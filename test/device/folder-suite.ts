/** The suite of state folders: files and memory keep the same laws. */

import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Folder } from '../../src/device/host.ts';

export type FolderSubject = { readonly folder: Folder; remove(): Promise<void> };

export function folderConformance(name: string, create: () => Promise<FolderSubject>): Test {
  const test = suite(name) as unknown as Test;
  const on = (what: string, body: (folder: Folder) => Promise<void>) =>
    test(what, async () => {
      const subject = await create();
      try {
        await subject.folder.create();
        await body(subject.folder);
      } finally {
        await subject.remove();
      }
    });
  fileTests(on);
  deviceTests(on);
  otherTests(on);
  return test;
}

type On = (what: string, body: (folder: Folder) => Promise<void>) => void;

const A = Uint8Array.of(1, 2, 3);
const B = Uint8Array.of(4, 5);

function fileTests(on: On): void {
  on('is empty, and reads of nothing are undefined', async (folder) => {
    assert.equal(await folder.list(), []);
    assert.is(await folder.read('none'), undefined);
    await folder.remove('none');
    await folder.create();
  });

  on('writes files anew, and lists them in order', async (folder) => {
    await folder.write('b', A);
    await folder.write('a', B);
    await folder.write('b', B);
    assert.equal(await folder.list(), ['a', 'b']);
    assert.equal([...(await folder.read('b'))!], [...B], 'nothing of the longer one is left');
    await folder.remove('a');
    assert.equal(await folder.list(), ['b']);
  });

  on('renames over what is there', async (folder) => {
    await folder.write('new', A);
    await folder.write('old', B);
    await folder.rename('new', 'old');
    assert.equal(await folder.list(), ['old']);
    assert.equal([...(await folder.read('old'))!], [...A]);
  });

  on('a name is claimed once, with its content', async (folder) => {
    const claims = await Promise.all([folder.claim('x', A), folder.claim('x', B)]);
    assert.equal([...claims].sort(), [false, true]);
    assert.equal([...(await folder.read('x'))!], claims[0] ? [...A] : [...B]);
    assert.equal(await folder.list(), ['x']);
    await folder.remove('x');
    assert.ok(await folder.claim('x', B));
  });
}

function deviceTests(on: On): void {
  on('opens a file as a device, made anew full of zeros', async (folder) => {
    await folder.write('map', Uint8Array.of(9, 9, 9, 9));
    const device = await folder.open('map', { create: 1000 });
    assert.is(device.size, 1000);
    const into = new Uint8Array(1000).fill(1);
    await device.read(into, 0);
    assert.ok(into.every((byte) => byte === 0));
    await device.write(A, 500);
    await device.flush();
    await device.close();
    const again = await folder.open('map', { readOnly: true });
    assert.is(again.readOnly, true);
    await again.read(into, 0);
    assert.equal([...into.subarray(499, 504)], [0, 1, 2, 3, 0]);
    await again.close();
  });

  on('a file that is not there cannot be opened', async (folder) => {
    let code = '';
    await folder.open('none', {}).catch((error) => {
      code = error.code;
    });
    assert.is(code, 'io-error');
  });
}

function otherTests(on: On): void {
  on('has folders below it', async (folder) => {
    const below = folder.folder('classes').folder('one');
    await below.create();
    await below.write('root', A);
    assert.equal(await folder.list(), ['classes']);
    assert.equal(await folder.folder('classes').list(), ['one']);
    assert.is(below.path, `${folder.path}/classes/one`);
  });

  on('a beacon lives until it is put out', async (folder) => {
    assert.not.ok(await folder.alive('lock-1.sock'));
    const putOut = await folder.beacon('lock-1.sock');
    const other = await folder.beacon('lock-2.sock');
    assert.ok(await folder.alive('lock-1.sock'));
    await putOut();
    assert.not.ok(await folder.alive('lock-1.sock'));
    assert.ok(await folder.alive('lock-2.sock'));
    await other();
    assert.equal(await folder.list(), []);
  });

  on('removes itself only when it is empty', async (folder) => {
    const below = folder.folder('c');
    await below.create();
    await below.write('a', A);
    await below.removeSelf();
    assert.equal([...(await below.read('a'))!], [...A]);
    await below.remove('a');
    await below.removeSelf();
    assert.equal(await folder.list(), []);
  });
}
