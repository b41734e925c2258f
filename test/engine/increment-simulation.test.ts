/** Chains of increments, from seeds; `npm run sim` runs fresh ones. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { simulateIncrements } from './increment-simulation.ts';

const test = suite('engine: increment simulation');

test('a full copy and the increments after it are the proxy, whatever happens between', async () => {
  const counts: Record<string, number> = {};
  for (let seed = 1; seed <= 40; seed++) {
    for (const mode of ['cuts', 'strangers'] as const) {
      for (const [what, count] of Object.entries(await simulateIncrements(seed, mode, 25))) {
        counts[what] = (counts[what] ?? 0) + count;
      }
    }
  }
  for (const what of ['parts of it', 'stops', 'reopened', 'part', 'update', 'restore', 'keep']) {
    assert.ok(counts[what] > 25, `${what}: ${counts[what]}`);
  }
});

test.run();
