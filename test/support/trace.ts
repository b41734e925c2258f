/** Which durable steps a command reaches, by running it in this process on a world of its own. */

import { setFaultHook } from '../../src/base/faults.ts';
import type { CliEnvironment } from '../../src/cli/environment.ts';
import { runCli } from '../../src/cli/run.ts';
import { copyImage, diffImages } from '../../src/engine/images.ts';
import {
  findImage,
  listClasses,
  openClass,
  readClass,
  reopenCatalog,
} from '../../src/engine/open.ts';
import type { World } from './world.ts';

/** Steps in the order of their arrivals. */
export async function traceOf(w: World, args: readonly string[], input: string): Promise<string[]> {
  const steps: string[] = [];
  let said = '';
  const sink = {
    async write(text: string | Uint8Array) {
      said += text;
    },
    isTTY: false,
    columns: 80,
  };
  const env: CliEnvironment = {
    stdout: sink,
    stderr: sink,
    stdinIsTTY: false,
    async *readStdin() {
      yield Buffer.from(input);
    },
    env: (name) => (name === 'KAGE_HOME' ? w.home : undefined),
    userId: () => undefined,
    hostName: () => undefined,
    exists: () => true,
    version: 'test',
    signal: new AbortController().signal,
    engine: {
      openClass,
      readClass,
      listClasses,
      findImage,
      reopenCatalog,
      diffImages,
      copyImage,
    },
  };
  setFaultHook((step) => steps.push(step));
  try {
    const status = await runCli(args, env);
    if (status !== 0) throw new Error(`${args.join(' ')} gave ${status}: ${said}`);
  } finally {
    setFaultHook();
  }
  return steps;
}
