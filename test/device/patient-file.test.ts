/** Files that clients share a thread with: the same device at once, later, and in turns. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { PatientFile } from '../../src/device/patient-file.ts';
import { Promptness } from '../../src/device/promptness.ts';
import { SlowLane } from '../../src/device/slow-lane.ts';
import { createKernel } from '../../src/kernel/select.ts';
import { deviceConformance } from '../conformance/device.ts';
import { inWorld, World } from '../support/world.ts';

const MIB = 1024 * 1024;

const both = (speed: Promptness) => ({ reads: speed, writes: speed });

/** A disk that is sent away whenever `prompt` says so. */
class Told extends Promptness {
  readonly #prompt: () => boolean;
  calls = 0;

  constructor(prompt: () => boolean) {
    super();
    this.#prompt = prompt;
  }

  override isPrompt(): boolean {
    this.calls++;
    return this.#prompt();
  }
}

const kernel = createKernel('wasm');
const windows = Array.from({ length: 4 }, () => kernel.allocate(64 * 1024));

/** Page-aligned memory, so that direct reads really happen; the fourth call gives the same again. */
function aligned(length: number): Uint8Array {
  const address = windows.shift()!;
  windows.push(address);
  return kernel.bytes(address, length);
}

type Way = {
  readonly name: string;
  readonly prompt: (call: number) => boolean;
  readonly direct?: boolean;
  readonly memory?: (length: number) => Uint8Array;
};

const WAYS: readonly Way[] = [
  { name: 'at once', prompt: () => true },
  { name: 'later', prompt: () => false },
  { name: 'in turns', prompt: (call) => call % 2 === 0 },
  { name: 'later, direct', prompt: () => false, direct: true, memory: aligned },
  { name: 'later, direct but not aligned', prompt: () => false, direct: true },
];

for (const { name, prompt, direct, memory } of WAYS) {
  deviceConformance(`device: patient file, ${name}`, async (content) => {
    const world = new World();
    const file = world.path('image');
    fs.writeFileSync(file, content);
    let call = 0;
    const open = (readOnly: boolean) =>
      new PatientFile(
        file,
        { readOnly, direct },
        new SlowLane(3),
        both(new Told(() => prompt(call++))),
      );
    const device = open(false);
    const readOnly = open(true);
    return {
      device,
      readOnly,
      memory,
      async remove() {
        await device.close();
        await readOnly.close();
        world.remove();
      },
    };
  }).run();
}

const test = suite('patient file');

test('large transfers leave the thread, small ones do not', () =>
  inWorld(async (w) => {
    const device = new PatientFile(w.image('a', MIB), { readOnly: false });
    const large = new Uint8Array(MIB).fill(7);
    assert.instance(device.write(large, 0), Promise);
    // A hiccup of the machine is forgiven once: one of two calls in a row stays.
    const small = [0, 4096].map((offset) => device.write(new Uint8Array(512), offset));
    assert.ok(small.includes(undefined));
    await Promise.all(small);
    await device.close();
  }));

test('while others have all threads a quick disk is waited for in the thread, a slow one is not', () =>
  inWorld(async (w) => {
    const lane = new SlowLane(1);
    const later = () => both(new Told(() => false));
    const device = new PatientFile(w.image('a', MIB), { readOnly: false }, lane, later());
    let end = () => {};
    const busy = lane.run(
      { isStalling: true },
      () => new Promise<void>((resolve) => void (end = resolve)),
    );
    assert.is(device.write(new Uint8Array(512), 0), undefined, 'it has shown nothing but speed');
    const large = device.write(new Uint8Array(MIB), 0);
    assert.instance(large, Promise);
    end();
    await Promise.all([busy, large]);
    await device.close();
  }));

test('closing waits for what is under way', () =>
  inWorld(async (w) => {
    const file = w.image('a', MIB);
    const device = new PatientFile(file, { readOnly: false });
    const large = new Uint8Array(MIB).fill(9);
    const written = device.write(large, 0) as Promise<void>;
    const order: string[] = [];
    const both = [
      written.then(() => order.push('written')),
      device.close().then(() => order.push('closed')),
    ];
    await Promise.all(both);
    assert.equal(order, ['written', 'closed']);
    assert.equal(new Uint8Array(fs.readFileSync(file)), large);
  }));

test('a file that shrank is told from a broken disk, later too', () =>
  inWorld(async (w) => {
    const file = w.image('a', 8192);
    const later = new Told(() => false);
    const device = new PatientFile(file, { readOnly: false }, new SlowLane(1), both(later));
    fs.truncateSync(file, 5000);
    const read = device.read(new Uint8Array(4096), 4096) as Promise<void>;
    const error = await read.then(
      () => undefined,
      (e) => e,
    );
    assert.instance(error, KageError);
    assert.is(error.code, 'image-changed');
    await device.close();
  }));

test.run();
