/** A QEMU program that is spoken to in QMP, a line of JSON each way. */

import { type ChildProcess, spawn } from 'node:child_process';
import * as assert from 'uvu/assert';
import { until, type World } from '../support/world.ts';

// biome-ignore lint/suspicious/noExplicitAny: the JSON of any command
export type Json = any;

export class Qmp {
  readonly child: ChildProcess;
  /** Answers and events, in the order in which they came. */
  readonly heard: Json[] = [];
  #rest = '';
  #said = '';
  #taken = 0;

  /** `command` has to speak QMP on its standard streams. */
  constructor(w: World, command: readonly string[]) {
    this.child = spawn(command[0], command.slice(1));
    this.child.stdout!.on('data', (data) => {
      const lines = `${this.#rest}${data}`.split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines) if (line.trim() !== '') this.heard.push(JSON.parse(line));
    });
    this.child.stderr!.on('data', (data) => {
      this.#said += data;
    });
    this.child.stdin!.on('error', () => {});
    w.atEnd(() => this.child.kill('SIGKILL'));
  }

  /** What a command returns; it must succeed. The first one has to be `qmp_capabilities`. */
  async ask(execute: string, args: Json = {}): Promise<Json> {
    this.child.stdin!.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    const isAnswer = (line: Json) => 'return' in line || 'error' in line;
    await this.#until(
      `an answer to ${execute}`,
      () => this.heard.filter(isAnswer).length > this.#taken,
    );
    const answer = this.heard.filter(isAnswer)[this.#taken++];
    assert.is(answer.error, undefined, `${execute}: ${JSON.stringify(answer.error)}`);
    return answer.return;
  }

  /** Waits for an event. */
  async event(what: string, isIt: (line: Json) => boolean): Promise<void> {
    await this.#until(what, () => this.heard.some((line) => 'event' in line && isIt(line)));
  }

  async quit(): Promise<void> {
    const ended = new Promise<number | null>((resolve) => this.child.once('close', resolve));
    this.child.stdin!.write('{"execute":"quit"}\n');
    assert.is(await ended, 0, this.#said);
  }

  async #until(what: string, look: () => boolean): Promise<void> {
    await until(what, () => {
      assert.is(this.child.exitCode, null, `${what}: it has ended: ${this.#said}`);
      return look();
    });
  }
}

/** `qemu-storage-daemon` with these further words. */
export async function storageDaemon(w: World, words: readonly string[] = []): Promise<Qmp> {
  const monitor = ['--chardev', 'stdio,id=m', '--monitor', 'm'];
  const qmp = new Qmp(w, ['qemu-storage-daemon', ...monitor, ...words]);
  await qmp.ask('qmp_capabilities');
  return qmp;
}
