/** A pair whose part has commands around it that note when they have run. */

import fs from 'node:fs';
import * as assert from 'uvu/assert';
import { NbdDevice } from '../../src/nbd/client-device.ts';
import { exists, inWorld, NODE, type Runtime, sleep, type World } from '../support/world.ts';
import { type Server, serve } from './serve-support.ts';

export const REGION = 64 * 1024;
const SIZE = 32 * REGION;

/** A pair `vm` and `vm-proxy`, joined, and the server of it where one is wanted. */
export async function withPair(
  work: (c: Case) => Promise<void>,
  { served = true, runtime = NODE }: { served?: boolean; runtime?: Runtime } = {},
): Promise<void> {
  await inWorld(async (w) => {
    w.image('vm.img', SIZE);
    await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
    const server = served ? await serve(w, [], runtime) : undefined;
    await work(new Case(w, server, runtime));
  });
}

export class Case {
  readonly w: World;
  readonly #server: Server | undefined;
  readonly #runtime: Runtime;

  constructor(w: World, server: Server | undefined, runtime: Runtime) {
    this.w = w;
    this.#server = server;
    this.#runtime = runtime;
  }

  get server(): Server {
    assert.ok(this.#server);
    return this.#server!;
  }

  /** Words of a part whose commands note when they have run; `freeze` comes before that, `thaw` too. */
  words(freeze = 'true', thaw = 'true', ...more: string[]): string[] {
    const note = (word: string) => `echo ${word} >> '${this.w.path('log')}'`;
    const commands = [
      '--freeze',
      `${freeze}; ${note('frozen')}`,
      '--thaw',
      `${thaw}; ${note('thawed')}`,
    ];
    return ['part', 'vm-proxy', ...commands, ...more];
  }

  run(words: readonly string[]) {
    return this.w.run(words, { runtime: this.#runtime });
  }

  start(words: readonly string[]) {
    return this.w.start(words, { runtime: this.#runtime });
  }

  get log(): string {
    return exists(this.w.path('log')) ? fs.readFileSync(this.w.path('log'), 'utf8') : '';
  }

  /** Shell that makes a file and goes on when it is gone again; at most half a minute. */
  halt(name: string): string {
    const file = `'${this.w.path(name)}'`;
    return `touch ${file}; i=0; while [ -e ${file} -a $i -lt 600 ]; do i=$((i+1)); sleep 0.05; done`;
  }

  async state(): Promise<string> {
    return (await this.w.pair('vm-proxy')).state;
  }

  async attach(): Promise<NbdDevice> {
    const uri = this.server.uri('default/vm');
    return await NbdDevice.connect(uri, { clock: { sleep }, reconnect: { attempts: 0 } });
  }
}
