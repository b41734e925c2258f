/** Fresh seeds of the live simulation for as long as KAGE_MINUTES says; KAGE_SEED runs one again. */

import { suite } from 'uvu';
import { simulateLive } from './live-simulation.ts';

const test = suite('live simulation');
const seed = process.env.KAGE_SEED;
const minutes = Number(process.env.KAGE_MINUTES ?? 1);
const ROUNDS = 25;

if (seed !== undefined) {
  test(`seed ${seed}`, async () => void (await simulateLive(Number(seed), ROUNDS)));
} else {
  test(`fresh seeds for ${minutes} min`, async () => {
    const first = Math.floor(Date.now() / 1000) % 1_000_000_000;
    const end = Date.now() + minutes * 60_000;
    let n = 0;
    for (; Date.now() < end; n++) await simulateLive(first + n, ROUNDS);
    console.log(`seeds ${first} to ${first + n - 1}`);
  });
}

test.run();
