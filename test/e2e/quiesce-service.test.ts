/** What a service keeps equal is equal in every snapshot of a freeze; and a short run on each runtime. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NbdDevice } from '../../src/nbd/client-device.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { exists, sleep, until } from '../support/world.ts';
import { type Case, REGION, withPair } from './quiesce-support.ts';

const test = suite('quiesce: service');

/**
 * A service with a rule: the first bytes of its two regions are equal, but for the moment in which it
 * writes them. It stands still when there is a file `stop`, and says so by a file `still`.
 */
class Service {
  readonly #c: Case;
  readonly #device: NbdDevice;
  readonly #work: Promise<void>;
  #goes = true;
  writes = 0;

  constructor(c: Case, device: NbdDevice) {
    this.#c = c;
    this.#device = device;
    this.#work = this.#run();
  }

  async #run(): Promise<void> {
    while (this.#goes) {
      await this.#restIf('stop', 'still');
      this.writes++;
      await this.#write(1);
      await this.#restIf('between', 'torn');
      await this.#write(20);
    }
  }

  async #write(region: number): Promise<void> {
    const data = new Uint8Array(4096);
    new DataView(data.buffer).setUint32(0, this.writes);
    await this.#device.write(data, region * REGION);
  }

  async #restIf(asked: string, said: string): Promise<void> {
    const { w } = this.#c;
    if (!exists(w.path(asked))) return;
    fs.writeFileSync(w.path(said), '');
    while (exists(w.path(asked))) await sleep(5);
    fs.rmSync(w.path(said), { force: true });
  }

  async end(): Promise<void> {
    this.#goes = false;
    await this.#work;
    await this.#device.close();
  }
}

/** The two numbers in the snapshot. */
function numbersOf(c: Case): [number, number] {
  const image = c.w.read('vm.proxy.img');
  return [image.readUInt32BE(REGION), image.readUInt32BE(20 * REGION)];
}

test('what a service keeps equal is equal in every snapshot of a freeze, and only then', () =>
  withPair(async (c) => {
    const service = new Service(c, await c.attach());
    const at = (name: string) => `'${c.w.path(name)}'`;
    const freeze = `touch ${at('stop')}; until [ -e ${at('still')} ]; do sleep 0.01; done`;
    const thaw = `rm ${at('stop')}; while [ -e ${at('still')} ]; do sleep 0.01; done`;
    let last = 0;
    for (let i = 0; i < 20; i++) {
      await c.w.ok(['part', 'vm-proxy', '--freeze', freeze, '--thaw', thaw]);
      const [a, b] = numbersOf(c);
      assert.is(a, b, `snapshot ${i}`);
      assert.ok(a > last, 'the service goes on in between');
      last = a;
      await c.w.ok(['rejoin', 'vm-proxy']);
    }
    // Without a freeze a snapshot may fall between its two writes.
    fs.writeFileSync(c.w.path('between'), '');
    await until('it is between its writes', () => exists(c.w.path('torn')));
    await c.w.ok(['part', 'vm-proxy']);
    const [a, b] = numbersOf(c);
    assert.is(a, b + 1);
    fs.rmSync(c.w.path('between'));
    await service.end();
    await c.server.stop();
  }));

for (const { name, command } of RUNTIMES.filter((r) => r.name !== 'Node')) {
  test(`a short run on ${name}`, () =>
    withPair(
      async (c) => {
        const failed = await c.run(c.words('exit 3'));
        assert.is(failed.status, 1, failed.stderr);
        const hangs = await c.run(c.words('sleep 20', 'true', '--timeout', '1'));
        assert.is(hangs.status, 1, hangs.stderr);
        assert.is(c.log, 'thawed\nthawed\n');
        const part = c.start(c.words(`trap '' TERM; ${c.halt('halt')}`));
        await until('the freeze runs', () => exists(c.w.path('halt')));
        for (const signal of ['SIGHUP', 'SIGINT', 'SIGINT'] as const) {
          part.child.kill(signal);
          await sleep(500);
        }
        assert.is((await part.ended).status, 130);
        assert.is(c.log, 'thawed\nthawed\nthawed\n');
        const ended = await c.run(c.words('test $KAGE_PROXIES = vm-proxy'));
        assert.is(ended.status, 0, ended.stderr);
        assert.match(c.log, /\nfrozen\nthawed\n$/);
      },
      { runtime: command },
    ));
}

test.run();
