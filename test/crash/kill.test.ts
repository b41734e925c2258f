/**
 * Kill -9 of the real process at named steps: a choice for every verb, all steps between them. The
 * choice changes from run to run, by a printed seed; `npm run sim` tries them all.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { STEPS } from '../../src/base/faults.ts';
import { chance, each, seedOf } from '../support/world.ts';
import { type Kill, killAndRepeat, killsOf, nameOfKill, SCENARIOS, stepsOf } from './scenarios.ts';

const test = suite('crash: kill -9 at named steps');
const random = chance(seedOf('crash: kill -9 at named steps'));

/** Kills of one verb, besides those at steps that no verb before it has reached. */
const CHOSEN = 2;

const reached = new Set<string>();

for (const s of SCENARIOS) {
  test(s.name, async () => {
    const steps = await stepsOf(s);
    const all = killsOf(s, steps, 3);
    const chosen: Kill[] = all.filter(
      (k) => !reached.has(k.step) && k.arrival === 1 && k.exclusive,
    );
    for (const step of steps) reached.add(step);
    const rest = all.filter((k) => !chosen.includes(k));
    for (let i = 0; i < CHOSEN && rest.length > 0; i++) {
      chosen.push(...rest.splice(random(rest.length), 1));
    }
    await each(chosen, nameOfKill, (kill) => killAndRepeat(s, kill));
  });
}

/** Steps that no command reaches without a server that serves unfinished volumes. */
const LATER: readonly string[] = [];

test('every step of the registry was reached', () => {
  const missing = Object.keys(STEPS).filter((s) => !reached.has(s) && !LATER.includes(s));
  assert.equal(missing, []);
});

test.run();
