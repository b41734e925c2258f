/**
 * Kill -9 of join, rejoin and restore at random moments, several times in a row, copies slowed down
 * so that the kill finds them at work. In between the source is untouched, afterwards all is equal.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chance, inWorld, randomBytes, seedOf, sleep, type World } from '../support/world.ts';

const test = suite('crash: kill -9 at random moments');
const seed = seedOf('crash: kill -9 at random moments');
const MIB = 1024 * 1024;
const SIZE = 32 * MIB;
const KILLS = 2;

/** Starts a verb `KILLS` times and kills it, then runs it to its end. */
async function killed(
  w: World,
  args: readonly string[],
  rate: string,
  source: string,
  random: Random,
) {
  const before = w.hash(source);
  for (let i = 0; i < KILLS; i++) {
    const run = w.start([...args, '--rate', rate, '-q']);
    await sleep(50 + random(1500));
    run.child.kill('SIGKILL');
    const { signal, status, stderr } = await run.ended;
    assert.ok(signal === 'SIGKILL' || status === 0 || status === 13, `${status} ${stderr}`);
    assert.is(w.hash(source), before, 'the source of a copy is untouched');
    const state = (await w.info()).pairs[0]?.state ?? 'unrelated';
    if (state === 'joined' && signal === 'SIGKILL') {
      // It had come to its end: what is shown as equal is equal.
      assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'), 'joined means equal');
    }
  }
  const last = await w.run([...args, '--json']);
  assert.ok(last.status === 0 || last.status === 13, last.stdout + last.stderr);
  assert.is(w.hash(source), before, 'the source of a copy is untouched');
  assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'), 'equal at last');
}

type Random = (below: number) => number;

/** Writes here and there on both sides, tracked. */
async function work(w: World, random: Random): Promise<void> {
  await w.engine(async (disks) => {
    for (let i = 0; i < 120; i++) {
      const name = random(2) ? 'vm' : 'vm-proxy';
      const offset = random(SIZE - 5000);
      await disks.write(name, offset, randomBytes(1 + random(5000), seed + i));
    }
  });
}

for (const exclusive of [true, false]) {
  test(exclusive ? 'tracked by the engine alone' : 'with stamps', () =>
    inWorld(async (w) => {
      const random = chance(seed + Number(exclusive));
      // A killed copy leaves its target's stamp moved: then all is compared, else some 200 regions.
      const rate = exclusive ? '8M' : '24M';
      w.image('vm.img', SIZE, 1);
      w.image('vm-proxy.img', SIZE, 2);
      await w.engine((disks) =>
        disks.add([
          { path: w.path('vm.img'), exclusive },
          { path: w.path('vm-proxy.img'), exclusive },
        ]),
      );
      await killed(w, ['join', 'vm', 'vm-proxy'], '24M', 'vm.img', random);
      await w.ok(['part', 'vm-proxy']);
      await work(w, random);
      await killed(w, ['rejoin', 'vm-proxy'], rate, 'vm.img', random);
      await w.ok(['part', 'vm-proxy']);
      await work(w, random);
      await killed(w, ['restore', 'vm-proxy'], rate, 'vm-proxy.img', random);
      await w.ok(['part', 'vm-proxy']);
      await work(w, random);
      await killed(w, ['rejoin', 'vm-proxy', '--compare'], '24M', 'vm.img', random);
      const { pairs } = await w.ok(['verify', 'vm-proxy']);
      assert.is(pairs[0].differing, 0);
    }),
  );
}

test.run();
