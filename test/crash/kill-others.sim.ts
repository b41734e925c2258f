/** Kill -9 of the real process at every arrival at every named step of verbs that copy nothing. Takes minutes. */

import { suite } from 'uvu';
import { each } from '../support/world.ts';
import { killAndRepeat, killsOf, nameOfKill, SCENARIOS, stepsOf } from './scenarios.ts';

const test = suite('crash: kill -9 at every step of the other verbs');
/** `KAGE_SCENARIO=rejoin` runs that one alone. */
const only = process.env.KAGE_SCENARIO;
const chosen = SCENARIOS.filter((s) => !s.copies && (only === undefined || s.name === only));

for (const s of chosen) {
  test(s.name, async () => {
    const kills = killsOf(s, await stepsOf(s), 9);
    await each(kills, nameOfKill, (kill) => killAndRepeat(s, kill));
  });
}

test.run();
