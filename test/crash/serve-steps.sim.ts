/** kill -9 of a server under clients: every step in every situation. Takes some ten minutes. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { each, seedOf } from '../support/world.ts';
import {
  type Kill,
  killAtStep,
  nameOf,
  SITUATION_NAMES,
  STEP_NAMES,
  WHERE,
} from './serve-steps.ts';

const test = suite('crash: kill -9 of a server at every step');
const seed = seedOf('crash: kill -9 of a server at every step');
/** `KAGE_SCENARIO=joining` runs that situation alone. */
const only = process.env.KAGE_SCENARIO;
const ARRIVALS = [1, 5];
const reached = new Set<string>();

for (const situation of SITUATION_NAMES) {
  if (only !== undefined && only !== situation) continue;
  test(situation, async () => {
    // What is never reached is not looked for everywhere.
    const steps = STEP_NAMES.filter((s) => typeof WHERE[s] === 'string' || situation === 'joining');
    const kills: Kill[] = ARRIVALS.flatMap((arrival) =>
      steps.map((step) => ({ situation, step, arrival, ...(arrival > 1 ? { stamps: true } : {}) })),
    );
    await each(kills, nameOf, async (kill) => {
      const { step, arrival } = kill;
      // What is not reached once is not reached twice.
      if (arrival > 1 && !reached.has(`${situation} ${step}`)) return;
      if (await killAtStep(kill, seed + arrival)) reached.add(`${situation} ${step}`);
    });
    const found = steps.filter((step) => reached.has(`${situation} ${step}`));
    console.log(`${situation}: ${found.join(' ')}`);
  });
}

test('every step is reached, or it is said why not', () => {
  if (only !== undefined) return;
  for (const step of STEP_NAMES) {
    const somewhere = [...reached].some((name) => name.endsWith(` ${step}`));
    assert.is(somewhere, typeof WHERE[step] === 'string', step);
  }
});

test.run();
