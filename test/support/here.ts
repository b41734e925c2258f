/**
 * The command line in this process instead of one of its own: for cases by the hundred, and to see
 * which durable steps a command reaches. The engine is the real one, on real files.
 */

import { setFaultHook } from '../../src/base/faults.ts';
import type { CliEnvironment, Output } from '../../src/cli/environment.ts';
import { runCli } from '../../src/cli/run.ts';
import { copyImage, diffImages } from '../../src/engine/images.ts';
import {
  findImage,
  listClasses,
  openClass,
  readClass,
  reopenCatalog,
} from '../../src/engine/open.ts';
import { type Ended, exists, type World } from './world.ts';

class Text implements Output {
  readonly isTTY = false;
  readonly columns = 80;
  text = '';

  async write(data: string | Uint8Array): Promise<void> {
    this.text += data;
  }
}

export async function runHere(
  w: World,
  args: readonly string[],
  input: string | Uint8Array = '',
): Promise<Ended> {
  const stdout = new Text();
  const stderr = new Text();
  const env: CliEnvironment = {
    stdout,
    stderr,
    stdinIsTTY: false,
    async *readStdin() {
      yield Buffer.from(input as Uint8Array);
    },
    env: (name) => (name === 'KAGE_HOME' ? w.home : undefined),
    userId: () => undefined,
    processId: 1,
    hostName: () => undefined,
    exists,
    version: 'test',
    clock: () => performance.now(),
    signal: new AbortController().signal,
    execute: async () => ({ status: 127, problem: 'no commands are run here' }),
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
  const status = await runCli(args, env);
  return { status, signal: null, stdout: stdout.text, stderr: stderr.text };
}

/** Durable steps that a command, which must succeed, reaches, in the order of their arrivals. */
export async function traceOf(w: World, args: readonly string[], input: string): Promise<string[]> {
  const steps: string[] = [];
  setFaultHook((step) => steps.push(step));
  try {
    const { status, stdout, stderr } = await runHere(w, args, input);
    if (status !== 0) throw new Error(`${args.join(' ')} gave ${status}: ${stdout}${stderr}`);
  } finally {
    setFaultHook();
  }
  return steps;
}
