/**
 * The entry of `kage` and of every `sdx*` name: builds the real environment and is the only place
 * that exits. The first Ctrl-C asks the work to stop at a safe point, the second one ends at once.
 */

import './guarded-env.ts';
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import { EXIT, errnoOf, ioError } from '../base/errors.ts';
import { copyImage, diffImages } from '../engine/images.ts';
import { findImage, listClasses, openClass, readClass, reopenCatalog } from '../engine/open.ts';
import type { CliEnvironment, Output } from './environment.ts';
import { runCli } from './run.ts';
import { isSdx } from './sdx/run.ts';

declare const KAGE_VERSION: string;

/** What the runtime may refuse (Deno's permissions) is simply not known. */
function allowed<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function outputTo(stream: NodeJS.WriteStream, name: string): Output {
  // A reader that leaves is told to the writer by `write` below, not by a crash.
  stream.on('error', () => {});
  return {
    write: (data) =>
      new Promise((resolve, reject) => {
        stream.write(data, (error) => {
          if (!error) resolve();
          else reject(errnoOf(error) === 'EPIPE' ? error : ioError('write', name, error));
        });
      }),
    isTTY: allowed(() => stream.isTTY) === true,
    columns: allowed(() => stream.columns) || 80,
  };
}

function signalOfInterrupts(): AbortSignal {
  const controller = new AbortController();
  const interrupt = () => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) allowed(() => process.on(signal, interrupt));
  return controller.signal;
}

const signal = signalOfInterrupts();

const environment: CliEnvironment = {
  stdout: outputTo(process.stdout, 'standard output'),
  stderr: outputTo(process.stderr, 'standard error'),
  stdinIsTTY: allowed(() => process.stdin.isTTY) === true,
  readStdin: () => {
    // Ctrl-C must not wait for the next data.
    signal.addEventListener('abort', () => process.stdin.destroy(signal.reason));
    return process.stdin;
  },
  env: (name) => allowed(() => process.env[name]),
  userId: () => allowed(() => process.getuid?.()),
  hostName: () => allowed(() => hostname().split('.')[0]),
  exists: (path) => allowed(() => existsSync(path)) === true,
  version: KAGE_VERSION,
  signal,
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

const name = basename(process.argv[1] ?? 'kage').replace(/\.[cm]?js$/, '');
const words = process.argv.slice(2);
process.exit(await runCli(isSdx(name) ? [name, ...words] : words, environment));
