/** State folders on disk: the common laws, and who may look into them. */

import fs from 'node:fs';
import * as assert from 'uvu/assert';
import { FileFolder } from '../../src/device/file-folder.ts';
import { inWorld, World } from '../support/world.ts';
import { folderConformance } from './folder-suite.ts';

const test = folderConformance('device: folder on disk', async () => {
  const world = new World();
  return {
    folder: new FileFolder(world.path('state')),
    async remove() {
      world.remove();
    },
  };
});

test('nobody else may look into it', () =>
  inWorld(async (w) => {
    const folder = new FileFolder(w.path('a', 'b'));
    await folder.create();
    await folder.write('root', Uint8Array.of(1));
    await folder.claim('lock.1', Uint8Array.of(1));
    await (await folder.open('map', { create: 10 })).close();
    const mode = (...names: string[]) => (fs.statSync(w.path(...names)).mode & 0o777).toString(8);
    assert.is(mode('a'), '700');
    assert.is(mode('a', 'b'), '700');
    for (const name of ['root', 'lock.1', 'map']) assert.is(mode('a', 'b', name), '600', name);
  }));

test('a folder that cannot be made is an error with its path', () =>
  inWorld(async (w) => {
    w.image('file', 10);
    let message = '';
    await new FileFolder(w.path('file', 'state')).create().catch((error) => {
      message = error.message;
    });
    assert.match(message, w.path('file', 'state'));
    assert.equal(await new FileFolder(w.path('file')).list(), []);
  }));

test('the parents that it made go with it, others stay', () =>
  inWorld(async (w) => {
    fs.mkdirSync(w.path('there'));
    const folder = new FileFolder(w.path('there', 'a', 'b', 'c'));
    await folder.create();
    await folder.removeSelf();
    assert.equal(fs.readdirSync(w.path('there')), []);
    const again = new FileFolder(w.path('there', 'a', 'b'));
    await again.create();
    fs.writeFileSync(w.path('there', 'a', 'mine'), '');
    await again.removeSelf();
    assert.equal(fs.readdirSync(w.path('there', 'a')), ['mine']);
  }));

test('a beacon works in a folder whose path is too long for a socket', () =>
  inWorld(async (w) => {
    const folder = new FileFolder(w.path('x'.repeat(120), 'y'.repeat(120)));
    await folder.create();
    const putOut = await folder.beacon('lock-1.sock');
    assert.ok(await folder.alive('lock-1.sock'));
    assert.ok(await new FileFolder(folder.path).alive('lock-1.sock'));
    assert.not.ok(await folder.alive('lock-2.sock'));
    await putOut();
    assert.not.ok(await folder.alive('lock-1.sock'));
    assert.equal(fs.readdirSync(folder.path), []);
  }));

test.run();
