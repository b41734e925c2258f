/** What the engine learns of images on real file systems. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FileHost } from '../../src/device/file-host.ts';
import { inWorld } from '../support/world.ts';

const test = suite('device: file host');
const host = new FileHost();

async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'done';
}

test('every kind of thing at a path', () =>
  inWorld(async (w) => {
    w.image('file', 5000);
    fs.mkdirSync(w.path('folder'));
    fs.symlinkSync('file', w.path('link'));
    fs.symlinkSync('nowhere', w.path('dangling'));
    fs.linkSync(w.path('file'), w.path('hard'));
    const file = await host.inspect(w.path('file'));
    assert.is(file?.kind, 'file');
    assert.is(file?.size, 5000);
    assert.ok(file?.readable && file.writable);
    assert.ok(file!.allocated >= 5000);
    for (const name of ['link', 'hard']) {
      const other = await host.inspect(w.path(name));
      assert.is(other?.identity, file?.identity, name);
    }
    assert.is((await host.inspect(w.path('link')))?.path, w.path('file'));
    assert.is((await host.inspect(w.path('folder')))?.kind, 'directory');
    assert.is((await host.inspect('/dev/null'))?.kind, 'other');
    for (const name of ['none', 'dangling', 'file/below']) {
      assert.is(await host.inspect(w.path(name)), undefined, name);
    }
  }));

test('a pipe is looked at without waiting for its other end', () =>
  inWorld(async (w) => {
    if (spawnSync('mkfifo', [w.path('pipe')]).status !== 0) return console.log('SKIP no mkfifo');
    const facts = await host.inspect(w.path('pipe'));
    assert.equal([facts?.kind, facts?.readable, facts?.writable], ['other', false, false]);
    assert.is(await codeOf(host.stamp(w.path('pipe'), false)), 'image-changed');
  }));

test('a path that does not exist is resolved as far as it does', () =>
  inWorld(async (w) => {
    fs.mkdirSync(w.path('folder'));
    fs.symlinkSync('folder', w.path('link'));
    assert.is(await host.resolve(w.path('link', 'new')), w.path('folder', 'new'));
    assert.is(await host.resolve(w.path('no', 'new')), w.path('no', 'new'));
  }));

test('a new image is sparse, of full length, and never over another file', () =>
  inWorld(async (w) => {
    await host.createImage(w.path('new'), 10_000_001);
    const facts = await host.inspect(w.path('new'));
    assert.is(facts?.size, 10_000_001);
    assert.ok(facts!.allocated < 100_000);
    assert.is((fs.statSync(w.path('new')).mode & 0o777).toString(8), '600');
    assert.is(await codeOf(host.createImage(w.path('new'), 5)), 'image-exists');
    assert.is(fs.statSync(w.path('new')).size, 10_000_001);
    await host.removeImage(w.path('new'));
    await host.removeImage(w.path('new'));
    assert.is(await host.inspect(w.path('new')), undefined);
  }));

test('an image gets another name, but not one that is taken', () =>
  inWorld(async (w) => {
    const [from, to] = [w.path('new.part'), w.path('new')];
    await host.createImage(from, 5000);
    for (const take of [
      () => fs.mkdirSync(to),
      () => fs.symlinkSync('nowhere', to),
      () => fs.writeFileSync(to, 'somebody else'),
    ]) {
      take();
      assert.is(await codeOf(host.renameImage(from, to)), 'image-exists');
      assert.ok(fs.existsSync(from));
      fs.rmSync(to, { recursive: true });
    }
    await host.renameImage(from, to);
    assert.equal(fs.readdirSync(w.folder), ['new']);
    assert.is(await codeOf(host.renameImage(from, w.path('other'))), 'io-error');
  }));

test('names that begin like a path, in its folder alone', () =>
  inWorld(async (w) => {
    for (const name of ['a.img', 'a.img.part', 'b.img']) w.image(name, 10);
    fs.mkdirSync(w.path('a.img.d'));
    w.image('a.img.d/a.img', 10);
    assert.equal(
      await host.namesFrom(w.path('a.img')),
      ['a.img', 'a.img.d', 'a.img.part'].map((name) => w.path(name)),
    );
    assert.is(await codeOf(host.namesFrom(w.path('none', 'x'))), 'io-error');
  }));

test('who has a file open', () =>
  inWorld(async (w) => {
    const file = w.image('file', 10);
    assert.not(host.hasOpen(process.pid, file));
    const fd = fs.openSync(file, 'r');
    assert.ok(host.hasOpen(process.pid, file));
    assert.not(host.hasOpen(process.pid, w.path('other')));
    fs.closeSync(fd);
    assert.not(host.hasOpen(process.pid, file));
    const ended = spawnSync('true').pid;
    assert.not(host.hasOpen(ended, file));
  }));

test('a place for an image must be a folder that is there', () =>
  inWorld(async (w) => {
    w.image('file', 10);
    await host.checkPlace(w.path('new'));
    assert.is(await codeOf(host.checkPlace(w.path('none', 'new'))), 'image-missing');
    assert.is(await codeOf(host.checkPlace(w.path('file', 'new'))), 'image-missing');
  }));

test('identity of what is not there', () =>
  inWorld(async (w) => {
    assert.is(await codeOf(host.stamp(w.path('none'), true)), 'image-missing');
  }));

test('identifiers are 16 hex digits, each another', () => {
  const ids = new Set(Array.from({ length: 100 }, () => host.randomId()));
  assert.is(ids.size, 100);
  for (const id of ids) assert.match(id, /^[0-9a-f]{16}$/);
});

test.run();
