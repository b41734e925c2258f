/**
 * The entry of `kage` and of every `sdx*` name: builds the real environment and is the only place
 * that exits. The first Ctrl-C asks the work to stop at a safe point, the second one ends at once.
 */

import './guarded-env.ts';
import { createReadStream, existsSync, fstatSync, readFileSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import { EXIT, errnoOf, ioError, KageError } from '../base/errors.ts';
import { CHUNK_SIZE } from '../base/limits.ts';
import { copyImage, diffImages } from '../engine/images.ts';
import { findImage, listClasses, openClass, readClass, reopenCatalog } from '../engine/open.ts';
import type { Signal } from '../serve/execute.ts';
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

/** Longer text is data (`kage read`): a slow reader must not keep us from hearing Ctrl-C. */
const DIRECT_WRITE_MAX = 64 * 1024;

/**
 * Lines go straight to the descriptor: making the runtime's stream costs Bun 20 ms of each start. The
 * stream is made for long data and for a descriptor that cannot take more now; from then on all goes
 * through it, for the order.
 */
function outputTo(fd: 1 | 2, name: string): Output {
  let made: NodeJS.WriteStream | undefined;
  const stream = () => {
    if (made === undefined) {
      made = fd === 1 ? process.stdout : process.stderr;
      // A reader that leaves is told to the writer by `write` below, not by a crash.
      made.on('error', () => {});
    }
    return made;
  };
  const failed = (error: unknown) =>
    errnoOf(error) === 'EPIPE' ? error : ioError('write', name, error);
  return {
    async write(data) {
      let rest = typeof data === 'string' ? new TextEncoder().encode(data) : data;
      if (made === undefined && rest.byteLength <= DIRECT_WRITE_MAX) {
        try {
          while (rest.byteLength > 0) rest = rest.subarray(writeSync(fd, rest));
          return;
        } catch (error) {
          if (errnoOf(error) !== 'EAGAIN') throw failed(error);
        }
      }
      await new Promise<void>((resolve, reject) => {
        stream().write(rest, (error) => (error ? reject(failed(error)) : resolve()));
      });
    },
    get isTTY() {
      return allowed(() => stream().isTTY) === true;
    },
    get columns() {
      return allowed(() => stream().columns) || 80;
    },
  };
}

/** Who is asked to end in our place, for as long as a command runs. */
let passOn: ((signal: Signal) => void) | undefined;

function signalOfInterrupts(): AbortSignal {
  const controller = new AbortController();
  const interrupt = (signal: Signal) => {
    if (passOn !== undefined) return passOn(signal);
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) allowed(() => process.on(signal, interrupt));
  return controller.signal;
}

/**
 * Standard input as a stream. The runtimes' own one gives nothing for a block device or a directory,
 * as if that were empty: what can be read at once is read from the descriptor.
 */
function inputOf(fd: 0) {
  const stat = allowed(() => fstatSync(fd));
  if (stat?.isDirectory()) throw noInput('is a directory');
  if (stat === undefined || (stat.isCharacterDevice() && wasClosed(fd))) throw noInput('is closed');
  const isStored = stat.isFile() || stat.isBlockDevice();
  if (!isStored) return process.stdin;
  return createReadStream('', { fd, highWaterMark: CHUNK_SIZE });
}

function noInput(why: string): KageError {
  return new KageError('usage', `standard input ${why}: there is nothing to read`, {
    hint: 'give the data with `< FILE` or through a pipe; `< /dev/null` if there shall be none',
  });
}

/** The null device, from major and minor number. */
const NULL_DEVICE = 0x103;
const O_RDWR = 2;

/**
 * The runtimes put the null device, for reading and writing, in the place of a closed descriptor.
 * Who asks for an empty input opens it for reading. Without the right to look it is as good as that.
 */
function wasClosed(fd: number): boolean {
  if (fstatSync(fd).rdev !== NULL_DEVICE) return false;
  const facts = allowed(() => readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? '';
  const flags = Number.parseInt(/^flags:\s*(\d+)$/m.exec(facts)?.[1] ?? '0', 8);
  return (flags & O_RDWR) !== 0;
}

const signal = signalOfInterrupts();

const environment: CliEnvironment = {
  stdout: outputTo(1, 'standard output'),
  stderr: outputTo(2, 'standard error'),
  get stdinIsTTY() {
    return allowed(() => process.stdin.isTTY) === true;
  },
  readStdin: () => {
    const input = inputOf(0);
    // Ctrl-C must not wait for the next data.
    signal.addEventListener('abort', () => input.destroy(signal.reason));
    return input;
  },
  env: (name) => allowed(() => process.env[name]),
  userId: () => allowed(() => process.getuid?.()),
  processId: process.pid,
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
  async execute(command, variables) {
    const { execute } = await import('../serve/execute.ts');
    try {
      return await execute(command, variables, (pass) => {
        passOn = pass;
      });
    } finally {
      passOn = undefined;
    }
  },
  server: {
    // All are loaded by those who need them alone: the others start faster.
    async openServed(...words) {
      const { openServed } = await import('../control/client.ts');
      return await openServed(...words);
    },
    async start(options) {
      const { startServer } = await import('../serve/serve.ts');
      return await startServer({ ...options, clock: () => performance.now() });
    },
    async hold(options) {
      const { holdVolumes } = await import('../serve/captive.ts');
      return await holdVolumes({ ...options, clock: () => performance.now() });
    },
  },
  shell: async () => (await import('./shell.ts')).shell,
  clock: () => performance.now(),
};

const name = basename(process.argv[1] ?? 'kage').replace(/\.[cm]?js$/, '');
const words = process.argv.slice(2);
void runCli(isSdx(name) ? [name, ...words] : words, environment).then((status) =>
  process.exit(status),
);
