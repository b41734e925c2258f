/** Clients, verbs, copies and power cuts at once, from seeds; `npm run sim` runs fresh ones. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { simulateLive } from './live-simulation.ts';

const test = suite('engine: live simulation');

test('many worlds: snapshots of one moment, nothing flushed is lost, equal is equal', async () => {
  const counts: Record<string, number> = {};
  for (let seed = 1; seed <= 60; seed++) {
    for (const [what, count] of Object.entries(await simulateLive(seed, 12))) {
      counts[what] = (counts[what] ?? 0) + count;
    }
  }
  for (const what of [
    'snapshots',
    'cuts',
    'restore',
    'update',
    'rejoin',
    'looks',
    'audits',
    'faults',
    'mended',
    'hashes',
    'moving',
  ]) {
    assert.ok(counts[what] > 10, `${what}: ${counts[what]}`);
  }
});

test.run();
