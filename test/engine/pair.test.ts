/**
 * The pair held against plain byte arrays: random verbs, writes on all sides, interrupted copies and
 * reopenings. A failure prints the shortest sequence and the seed that repeats it:
 * `KAGE_SEED=… node test/run.mjs engine/pair`.
 */

import fc from 'fast-check';
import { suite } from 'uvu';
import { closeAndAudit, commands, setUp } from './pair-commands.ts';

const test = suite('engine: pair');

test('a master and its proxies hold what the table says, whatever is done to them', async () => {
  const seed = process.env.KAGE_SEED;
  await fc.assert(
    fc.asyncProperty(commands, async (sequence) => {
      let world: Awaited<ReturnType<typeof setUp>> | undefined;
      const begin = async () => (world = await setUp());
      await fc.asyncModelRun(begin, sequence);
      if (world) await closeAndAudit(world.model, world.real);
    }),
    {
      numRuns: Number(process.env.KAGE_RUNS ?? 150),
      includeErrorInReport: true,
      ...(seed === undefined ? {} : { seed: Number(seed) }),
    },
  );
});

test.run();
