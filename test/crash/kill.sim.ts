/** Kill -9 of the real process at every arrival at every named step of every verb. Takes minutes. */

import { suite } from 'uvu';
import { each } from '../support/world.ts';
import { killAndRepeat, killsOf, nameOfKill, SCENARIOS, stepsOf } from './scenarios.ts';

const test = suite('crash: kill -9 at every step, all of them');
/** `KAGE_SCENARIO=rejoin` runs that one alone. */
const only = process.env.KAGE_SCENARIO;

for (const s of SCENARIOS.filter((x) => only === undefined || x.name === only)) {
  test(s.name, async () => {
    const kills = killsOf(s, await stepsOf(s), 9);
    await each(kills, nameOfKill, (kill) => killAndRepeat(s, kill));
  });
}

test.run();
