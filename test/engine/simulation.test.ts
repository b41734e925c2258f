/** A few hundred seeds of the simulation; `npm run sim` runs thousands. */

import assert from 'node:assert';
import { suite } from 'uvu';
import { simulate } from './simulation.ts';

const test = suite('simulation');

async function seeds(mode: 'cuts' | 'strangers', first: number, count: number): Promise<void> {
  const sum: Record<string, number> = {};
  for (let seed = first; seed < first + count; seed++) {
    for (const [key, n] of Object.entries(await simulate(seed, { mode, steps: 30 }))) {
      sum[key] = (sum[key] ?? 0) + n;
    }
  }
  // A simulation in which the verbs never succeed tests nothing.
  for (const verb of ['join', 'part', 'rejoin', 'restore', 'restoreKeep', 'update', 'swap']) {
    assert.ok((sum[`did ${verb}`] ?? 0) > 0, `${verb} never succeeded`);
  }
}

test('no power cut, failing disk or stopped copy makes a wrong state', () => seeds('cuts', 1, 150));
test('no stranger and no killed process makes a wrong state', () => seeds('strangers', 1, 150));

test.run();
