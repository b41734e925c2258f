/** A look at an image beside our own writes: what we write meanwhile is neither forgotten nor a stranger's. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { lookAgain, rememberDisk, takeStamps } from '../../src/engine/trust.ts';
import { join, REGION, World } from './live-world.ts';

const test = suite('engine: own writes');

const diskOf = ({ state }: World) => state.volume('m').disk;

/** A parted pair on images that others may write; `meanwhile` happens once a look at the master has been taken. */
async function looking(meanwhile: (world: World) => void): Promise<World> {
  const world = await World.create(false);
  await join(world);
  await world.disks.part(['p']);
  await takeStamps(world.state);
  assert.not(world.state.written.has(diskOf(world)), 'all that was written has been seen');
  const stamp = world.host.stamp.bind(world.host);
  world.host.stamp = async (path) => {
    const seen = await stamp(path);
    if (path === '/m.img') meanwhile(world);
    return seen;
  };
  return world;
}

const ourWrite = (world: World) => world.state.noteWrite(diskOf(world));

for (const [name, look] of [
  ['a commit', (world: World) => takeStamps(world.state)],
  ['the end of a copy', ({ state }: World) => rememberDisk(state, state.diskOf(state.volume('m')))],
] as const) {
  test(`what is written while ${name} looks stays ours`, async () => {
    const quiet = await looking(() => {});
    ourWrite(quiet);
    await look(quiet);
    assert.not(quiet.state.written.has(diskOf(quiet)), 'seen');
    const world = await looking(ourWrite);
    ourWrite(world);
    await look(world);
    assert.ok(world.state.written.has(diskOf(world)), 'not seen yet');
  });
}

test("what is written while a verb looks is not taken for a stranger's", async () => {
  for (const ours of [false, true]) {
    const world = await looking((w) => ours && ourWrite(w));
    // Before the look is over, by us or by somebody else.
    world.m.write(new Uint8Array(100).fill(9), 2 * REGION);
    const pairs = world.state.record.pairs;
    await world.state.turn(() => lookAgain(world.state, pairs));
    assert.is(pairs[0].doubt === null, ours);
  }
});

test.run();
