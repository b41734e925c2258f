/**
 * The simulation for as long as you like: `npm run sim` runs a minute of fresh seeds in both modes,
 * `npm run sim -- --seed N` one of them again, `--minutes M` longer. Prints each failing seed.
 */

import { suite } from 'uvu';
import { simulate } from './simulation.ts';

const test = suite('simulation');
const modes = ['cuts', 'strangers'] as const;
const seed = process.env.KAGE_SEED;
const minutes = Number(process.env.KAGE_MINUTES ?? 1);

if (seed !== undefined) {
  for (const mode of modes)
    test(`seed ${seed}, ${mode}`, async () =>
      void (await simulate(Number(seed), { mode, steps: 30 })));
} else {
  test(`fresh seeds for ${minutes} min`, async () => {
    const first = Math.floor(Date.now() / 1000) % 1_000_000_000;
    const end = Date.now() + minutes * 60_000;
    let n = 0;
    for (; Date.now() < end; n++) {
      for (const mode of modes) await simulate(first + n, { mode, steps: 30 });
    }
    console.log(`seeds ${first} to ${first + n - 1}`);
  });
}

test.run();
