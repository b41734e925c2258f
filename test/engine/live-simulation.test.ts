/** Clients, verbs, copies and power cuts at once, from seeds; `npm run sim` runs fresh ones. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { simulateLive } from './live-simulation.ts';

const test = suite('engine: live simulation');
/** The last ones have found what the others did not. */
const SEEDS = [
  ...Array.from({ length: 60 }, (_, i) => i + 1),
  794,
  1627,
  795734124,
  795734334,
  795734638,
];

test('many worlds: snapshots of one moment, nothing flushed is lost, equal is equal', async () => {
  const counts: Record<string, number> = {};
  for (const seed of SEEDS) {
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
