/**
 * kill -9 of a server under clients at every step that one reaches, while it copies; `npm run sim` tries every step in every situation.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { each, seedOf } from '../support/world.ts';
import { chosenKills, killAtStep, nameOf, QUIET, SITUATION_NAMES } from './serve-steps.ts';

const test = suite('crash: kill -9 of a server that copies');
const seed = seedOf('crash: kill -9 of a server that copies');

for (const situation of SITUATION_NAMES.filter((name) => !QUIET.includes(name))) {
  test(situation, () =>
    each(chosenKills([situation]), nameOf, async (kill) =>
      assert.ok(await killAtStep(kill, seed), 'the step is reached'),
    ),
  );
}

test.run();
