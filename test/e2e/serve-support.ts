/** `kage serve` as a real process, and an NBD client that stays connected between questions. */

import { type ChildProcess, spawn } from 'node:child_process';
import * as assert from 'uvu/assert';
import {
  NODE,
  type Running,
  type Runtime,
  type SpawnOptions,
  until,
  type World,
} from '../support/world.ts';

export type Server = {
  readonly process: Running;
  /** URI of an export `CLASS/VOLUME`. */
  uri(name: string): string;
  /** Ends it in order, and wants that to go well. */
  stop(): Promise<void>;
  /** kill -9 */
  kill(): Promise<void>;
};

/** Starts a server and waits for its line. */
export async function serve(
  w: World,
  args: readonly string[] = [],
  runtime: Runtime = NODE,
  env: SpawnOptions['env'] = {},
): Promise<Server> {
  const running = w.start(['serve', ...args], { runtime, env });
  w.atEnd(() => running.child.kill('SIGKILL'));
  await until('the server is ready', () => {
    assert.is(running.child.exitCode, null, `${running.stdout}${running.stderr}`);
    return running.stdout.includes('\n');
  });
  assert.match(running.stdout, /^ready nbd/);
  return {
    process: running,
    uri: (name) => `nbd+unix:///${name}?socket=${w.path('home', 'nbd.sock')}`,
    async stop() {
      running.child.kill('SIGTERM');
      const { status, signal, stdout, stderr } = await running.ended;
      assert.equal([status, signal], [0, null], stderr);
      assert.is(stdout.split('\n').length, 2, 'one line on stdout');
      assert.not.match(stderr, /FAILED|internal error/, stderr);
    },
    async kill() {
      running.child.kill('SIGKILL');
      await running.ended;
    },
  };
}

const PROGRAM = 'import sys\nfor line in sys.stdin: print(eval(line), flush=True)';

/** A client that holds its connection: each question is a line of Python with the handle `h`. */
export class NbdClient {
  readonly #child: ChildProcess;
  #said = '';

  constructor(w: World, uri: string) {
    const PATH = `/usr/bin:/bin:${process.env.PATH}`;
    const child = spawn('nbdsh', ['-u', uri, '-c', PROGRAM], { env: { ...process.env, PATH } });
    child.stdout.on('data', (data) => {
      this.#said += data;
    });
    child.stderr.on('data', (data) => {
      this.#said += data;
    });
    this.#child = child;
    w.atEnd(() => child.kill('SIGKILL'));
  }

  async ask(question: string): Promise<string> {
    this.#said = '';
    this.#child.stdin!.write(`${question}\n`);
    await until(`an answer to ${question}`, () => this.#said.includes('\n'));
    return this.#said.trim();
  }

  /** Writes a byte all over a range and flushes it. */
  async fill(byte: string, offset: number, length: number): Promise<void> {
    const data = `b"${byte}" * ${length}`;
    assert.is(await this.ask(`(h.pwrite(${data}, ${offset}), h.flush())`), '(None, None)');
  }

  /** True when a range holds nothing but this byte. */
  async holds(byte: string, offset: number, length: number): Promise<boolean> {
    return (await this.ask(`h.pread(${length}, ${offset}) == b"${byte}" * ${length}`)) === 'True';
  }

  async close(): Promise<void> {
    this.#child.stdin!.end();
    await new Promise((resolve) => this.#child.once('close', resolve));
  }
}
