/**
 * A small program around the NBD client, to be run on every runtime: cases come in as JSON, what
 * became of their steps goes out as one line of JSON.
 */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import type { KageError } from '../../src/base/errors.ts';
import { NbdDevice } from '../../src/nbd/client-device.ts';
import { type Case, type Outcome, pattern, type Step } from './nbd-client-steps.ts';

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function textOf(error: unknown): string {
  const { code, message } = error as KageError;
  return `${code}: ${message}`;
}

async function run(device: NbdDevice, step: Step): Promise<unknown> {
  switch (step[0]) {
    case 'write':
      await device.write(pattern(step[2], step[3]), step[1]);
      return 'ok';
    case 'zero':
      await device.zero(step[1], step[2]);
      return 'ok';
    case 'read': {
      const into = new Uint8Array(step[2]);
      await device.read(into, step[1]);
      return createHash('sha1').update(into).digest('hex');
    }
    case 'status':
      return await device.blockStatus(step[1], step[2]);
    case 'flush':
      await device.flush();
      return 'ok';
    case 'meet':
      fs.writeFileSync(step[1], '');
      while (!fs.existsSync(step[2])) await sleep(20);
      return 'ok';
  }
}

async function outcomeOf({ uri, options, steps }: Case): Promise<Outcome> {
  const done: unknown[] = [];
  let device: NbdDevice;
  try {
    device = await NbdDevice.connect(uri, { clock: { sleep }, ...options });
  } catch (error) {
    const { code, message } = error as KageError;
    return { error: { code, message }, steps: [] };
  }
  for (const step of steps) {
    try {
      done.push(await run(device, step));
    } catch (error) {
      done.push(textOf(error));
    }
  }
  const { size, generation } = device;
  await device.close();
  return { size, steps: done, generation };
}

const outcomes: Outcome[] = [];
for (const one of JSON.parse(process.argv[2]) as Case[]) outcomes.push(await outcomeOf(one));
console.log(JSON.stringify(outcomes));
