/** Fresh seeds of the increments for as long as KAGE_MINUTES says; KAGE_SEED runs one again. */

import { suite } from 'uvu';
import { simulateIncrements } from './increment-simulation.ts';

const test = suite('increment simulation');
const seed = process.env.KAGE_SEED;
const minutes = Number(process.env.KAGE_MINUTES ?? 1);
const ROUNDS = 40;

async function both(seed: number): Promise<void> {
  for (const mode of ['cuts', 'strangers'] as const) await simulateIncrements(seed, mode, ROUNDS);
}

if (seed !== undefined) {
  test(`seed ${seed}`, () => both(Number(seed)));
} else {
  test(`fresh seeds for ${minutes} min`, async () => {
    const first = Math.floor(Date.now() / 1000) % 1_000_000_000;
    const end = Date.now() + minutes * 60_000;
    let n = 0;
    for (; Date.now() < end; n++) await both(first + n);
    console.log(`seeds ${first} to ${first + n - 1}`);
  });
}

test.run();
