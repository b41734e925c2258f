/** A class that is removed: whole or gone at every moment, whatever dies, and finished the next time. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { KageError } from '../../src/base/errors.ts';
import { setFaultHook } from '../../src/base/faults.ts';
import { MemoryHost, PowerCut } from '../../src/device/memory-host.ts';
import {
  findImage,
  listClasses,
  openClass,
  readClass,
  reopenCatalog,
} from '../../src/engine/open.ts';

const test = suite('engine: remove a class');
test.after.each(() => setFaultHook());

const FOLDER = '/home/classes/r';

class Case {
  readonly host: MemoryHost;
  readonly options;

  constructor(seed = 1) {
    this.host = new MemoryHost(seed);
    this.options = { home: '/home', host: this.host, kernel: 'js' as const };
  }

  /** A class that holds a disk without volumes, after several commits. */
  async make(): Promise<void> {
    this.host.addDisk('/d.img', 8192);
    const disks = await openClass('r', { ...this.options, create: true });
    await disks.addDisk('/d.img', 'd', 'single');
    await disks.close();
  }

  async remove(): Promise<void> {
    const disks = await openClass('r', this.options);
    await disks.removeClass();
  }

  files(): string[] {
    return [...(this.host.folders.get(FOLDER)?.names.keys() ?? [])].sort();
  }

  /** What everybody sees of the class. */
  async looks(): Promise<'whole' | 'gone'> {
    const listed = await listClasses(this.options);
    const owner = await findImage('/d.img', this.options);
    const info = await readClass('r', this.options).catch((error: KageError) => error.code);
    if (typeof info === 'string') {
      assert.equal([info, listed, owner], ['no-such-object', [], undefined]);
      return 'gone';
    }
    assert.equal([info.closed, listed, owner?.class], [null, ['r'], 'r']);
    return 'whole';
  }

  /** Removes the class until the n-th durable step, where the world ends; its name. */
  async die(n: number, end: () => void): Promise<string | undefined> {
    let left = n;
    let died: string | undefined;
    setFaultHook((step) => {
      if (--left !== 0) return;
      died = step;
      end();
      throw new PowerCut();
    });
    await this.remove().catch(() => {});
    setFaultHook();
    return died;
  }
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: KageError) => error.code,
  );

test('a class that is removed is gone, with its files', async () => {
  const c = new Case();
  await c.make();
  assert.is(await c.looks(), 'whole');
  await c.remove();
  assert.is(await c.looks(), 'gone');
  assert.equal(c.files(), []);
});

for (const [what, seeds] of [
  ['kill', 1],
  ['power cut', 12],
] as const) {
  test(`after a ${what} at any step the class is whole or gone, and the next run finishes it`, async () => {
    const ends = new Map<string, Set<string>>();
    for (let seed = 1; seed <= seeds; seed++) {
      for (let n = 1; ; n++) {
        const c = new Case(seed);
        await c.make();
        const end = () => (what === 'kill' ? c.host.killProcesses() : c.host.cutPower());
        const step = await c.die(n, end);
        if (step === undefined) break;
        const looks = await c.looks();
        ends.set(step, (ends.get(step) ?? new Set()).add(looks));
        const again = await codeOf(c.remove());
        assert.is(again, looks === 'whole' ? 'done' : 'no-such-object', `${step}, seed ${seed}`);
        assert.equal(c.files(), [], `${step}, seed ${seed}`);
      }
    }
    assert.equal([...ends.get('commit:root-written')!], ['whole']);
    assert.equal([...ends.get('class:removed')!], ['gone']);
    assert.equal([...ends.get('class:last-root')!], ['gone']);
  });
}

test('the root that says so outlives everything else of the class', async () => {
  const c = new Case();
  await c.make();
  setFaultHook((step) => {
    if (step !== 'class:last-root') return;
    // A power cut that keeps nothing of what was not synced.
    c.host.folders.get(FOLDER)!.cutPower(() => 0);
    assert.is(c.files().filter((name) => /^(root|intent|pair)/.test(name)).length, 1);
    throw new PowerCut();
  });
  assert.is(await codeOf(c.remove()), undefined);
  setFaultHook();
  assert.is(await c.looks(), 'gone');
});

test('a class of the same name begins empty on what a kill left', async () => {
  for (let n = 1; ; n++) {
    const c = new Case();
    await c.make();
    const step = await c.die(n, () => c.host.killProcesses());
    if (step === undefined) break;
    if ((await c.looks()) === 'whole') continue;
    assert.is(await codeOf(reopenCatalog('r', c.options)), 'no-such-object', step);
    const disks = await openClass('r', { ...c.options, create: true });
    assert.equal((await disks.info()).disks, [], step);
    await disks.addDisk('/d.img', 'other', 'single');
    await disks.close();
    assert.is(await c.looks(), 'whole');
    const info = await readClass('r', c.options);
    assert.equal(
      info.disks.map((d) => d.name),
      ['other'],
    );
  }
});

test('a class whose removal cannot be committed stays, and can be used again', async () => {
  const c = new Case();
  await c.make();
  setFaultHook((step) => {
    if (step === 'commit:root-written') throw new Error('no room');
  });
  const disks = await openClass('r', c.options);
  assert.match(String(await disks.removeClass().catch((error) => error)), /no room/);
  await disks.close();
  setFaultHook();
  assert.is(await c.looks(), 'whole');
  await c.remove();
  assert.equal(c.files(), []);
});

test.run();
