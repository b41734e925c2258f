/** Devices that come beside others that go, in the same folders. The programs are small ones in place of FUSE's. */

import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openDeviceFolder } from '../../src/serve/fuse.ts';
import { inWorld, type World } from '../support/world.ts';

const test = suite('serve: device files');

/** `nbdfuse` makes the file and ends when that is gone; `fusermount3` removes it. */
function fakeTools(w: World): void {
  const bin = w.path('bin');
  fs.mkdirSync(bin);
  const tool = (name: string, lines: string) => {
    fs.writeFileSync(path.join(bin, name), `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
  };
  tool('nbdfuse', '[ "$1" = --version ] && exit\n: >"$5"\nwhile [ -e "$5" ]; do sleep 0.01; done');
  tool('fusermount3', '[ "$1" = --version ] && exit\nrm "$2"/*');
  const before = process.env.PATH;
  process.env.PATH = `${bin}:${before}`;
  w.atEnd(() => {
    process.env.PATH = before;
  });
}

const fuse = fs.existsSync('/dev/fuse');
if (!fuse) console.log('SKIP serve: device files: there is no /dev/fuse');
const check = fuse ? test : test.skip;

check('the last one of a class that goes leaves the folders of one that comes', () =>
  inWorld(async (w) => {
    fakeTools(w);
    const top = w.path('dev');
    const folder = await openDeviceFolder(top);
    const lost = (why: string) => assert.unreachable(why);
    for (let round = 0; round < 100; round++) {
      const goes = folder.unlink('class/goes');
      // Into each moment of that.
      for (let turn = 0; turn < round % 20; turn++) await new Promise(setImmediate);
      const device = await folder.mount('class/comes', 'nbd+unix:///', lost);
      await goes;
      for (const kind of ['dsk', 'rdsk']) {
        assert.ok(fs.existsSync(path.join(top, 'class', kind, 'comes')), `${kind}, round ${round}`);
      }
      assert.is(await device.unmount(), undefined);
      await folder.unlink('class/comes');
      assert.not.ok(fs.existsSync(path.join(top, 'class')), `round ${round}`);
    }
    await folder.close();
    assert.not.ok(fs.existsSync(top));
  }),
);

check('a folder that could not be removed is used again, one with something in it is not', () =>
  inWorld(async (w) => {
    fakeTools(w);
    const top = w.path('dev');
    const folder = await openDeviceFolder(top);
    const at = path.join(top, '.kage/class/vm');
    fs.mkdirSync(at, { recursive: true });
    const device = await folder.mount('class/vm', 'nbd+unix:///', assert.unreachable);
    assert.ok(fs.existsSync(device.path));
    await device.unmount();
    fs.mkdirSync(at);
    fs.writeFileSync(path.join(at, 'other'), '');
    let why = '';
    await folder.mount('class/vm', 'nbd+unix:///', assert.unreachable).catch((error) => {
      why = error.message;
    });
    assert.match(why, /something is in the way/);
    assert.ok(fs.existsSync(path.join(at, 'other')));
  }),
);

test.run();
