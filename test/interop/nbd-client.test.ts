/** The NBD client with the servers people have, qemu-nbd and nbdkit, on every runtime. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { until } from '../support/world.ts';
import { pattern, type Step } from './nbd-client-steps.ts';
import {
  client,
  end,
  MIB,
  NODE,
  nbdkit,
  needs,
  onAll,
  outcomes,
  overRestart,
  refused,
  serve,
  sha1,
  start,
  tlsUri,
  uriOf,
} from './nbd-client-support.ts';

const test = suite('interop: the NBD client');
/** No multiple of a page, so that the end is something too. */
const SIZE = 5 * MIB + 512;

/** What every disk must do, from content `before`; the content after it. */
function job(before: Uint8Array) {
  const model = Buffer.from(before);
  const steps: Step[] = [];
  const wanted: unknown[] = [];
  const read = (offset: number, length: number) => {
    steps.push(['read', offset, length]);
    wanted.push(sha1(model.subarray(offset, offset + length)));
  };
  const write = (offset: number, length: number, seed: number) => {
    steps.push(['write', offset, length, seed]);
    wanted.push('ok');
    pattern(length, seed).copy(model, offset);
  };
  const zero = (offset: number, length: number) => {
    steps.push(['zero', offset, length]);
    wanted.push('ok');
    model.fill(0, offset, offset + length);
  };
  read(0, SIZE);
  write(0, 4096, 1);
  write(MIB - 7, 2 * MIB + 100, 2);
  write(SIZE - 3, 3, 3);
  zero(4000, 2 * 65_536);
  zero(3 * MIB, MIB);
  write(3 * MIB + 700, 1, 4);
  read(0, SIZE);
  read(SIZE - 1, 1);
  read(MIB + 1, 70_000);
  steps.push(['flush']);
  wanted.push('ok');
  return { steps, wanted, model };
}

needs(test, ['qemu-nbd'], 'qemu-nbd: a raw file', (w) =>
  onAll(async (runtime) => {
    const image = w.image('disk', SIZE, 7);
    fs.rmSync(w.path('s'), { force: true });
    const args = ['-k', w.path('s'), '-t', '-f', 'raw', '-x', 'disk', image];
    const server = await serve(w, 's', 'qemu-nbd', ...args);
    const { steps, wanted, model } = job(w.read('disk'));
    const uri = `nbd+unix:///disk?socket=${w.path('s')}`;
    const all: Step[] = [...steps, ['status', 3 * MIB + 65_536, 65_536]];
    const result = await client(runtime, uri, all);
    assert.is(result.size, SIZE);
    const extents = result.steps.at(-1) as { length: number; flags: number }[];
    assert.is(
      extents.reduce((sum, { length }) => sum + length, 0),
      65_536,
    );
    assert.equal(result.steps.slice(0, -1), wanted);
    assert.is(w.hash('disk'), sha1(model));
    refused(await client(runtime, uriOf(w), []), 'image-missing', /no default export/);
    await end(server);
  }),
);

const DISKS: readonly (readonly [string, string[]])[] = [
  ['without structured replies', ['--no-sr', 'memory', `${SIZE}`]],
  ['that is slow', ['--filter=delay', 'memory', `${SIZE}`, 'rdelay=2ms', 'wdelay=2ms']],
  ['without zeroes', ['--filter=nozero', 'memory', `${SIZE}`]],
  ['without extents', ['--filter=noextents', 'memory', `${SIZE}`]],
];
for (const [name, args] of DISKS) {
  needs(test, ['nbdkit'], `nbdkit: a disk ${name}`, async (w) => {
    await nbdkit(w, ...args);
    const { steps, wanted } = job(new Uint8Array(SIZE));
    assert.equal((await client(NODE, uriOf(w), steps)).steps, wanted);
  });
}

needs(test, ['nbdkit'], 'nbdkit: a disk in memory, from every runtime', async (w) => {
  await nbdkit(w, 'memory', `${SIZE}`);
  let content: Uint8Array = new Uint8Array(SIZE);
  await onAll(async (runtime) => {
    const { steps, wanted, model } = job(content);
    assert.equal((await client(runtime, uriOf(w), steps)).steps, wanted);
    content = model;
  });
});

needs(test, ['nbdkit'], 'nbdkit: blocks of 4096 and payloads of 64 KiB, or an error', async (w) => {
  const size = 5 * MIB;
  const policy = ['minimum=4096', 'preferred=4096', 'maximum=65536', 'error-policy=error'];
  const args = ['--filter=blocksize-policy', 'memory', `${size}`];
  await nbdkit(w, ...args, ...policy.map((p) => `blocksize-${p}`));
  await onAll(async (runtime) => {
    const steps: Step[] = [
      ['zero', 0, size],
      ['write', 5000, 200_000, 1],
      ['zero', 100_001, 10_000],
      ['read', 4999, 200_002],
      ['status', 5000, 1],
      ['flush'],
    ];
    const result = await client(runtime, uriOf(w), steps);
    const model = Buffer.alloc(300_000);
    pattern(200_000, 1).copy(model, 5000);
    model.fill(0, 100_001, 110_001);
    const read = sha1(model.subarray(4999, 4999 + 200_002));
    const [extent] = result.steps[4] as { length: number; flags: number }[];
    assert.is(extent.length, 1);
    assert.equal([...result.steps.slice(0, 4), result.steps[5]], ['ok', 'ok', 'ok', read, 'ok']);
  });
});

needs(test, ['nbdkit'], 'nbdkit: a sparse disk tells where its data is', async (w) => {
  await nbdkit(w, 'memory', '4M');
  const steps: Step[] = [
    ['write', MIB, 65_536, 1],
    ['status', 0, 4 * MIB],
  ];
  const { steps: said } = await client(NODE, uriOf(w), steps);
  assert.equal(said[1], [
    { length: MIB, flags: 3 },
    { length: 65_536, flags: 0 },
    { length: 3 * MIB - 65_536, flags: 3 },
  ]);
});

needs(test, ['nbdkit'], 'nbdkit: what it refuses is refused here in plain words', async (w) => {
  const server = async (...args: string[]) => {
    fs.rmSync(w.path('s'), { force: true });
    return await nbdkit(w, ...args);
  };
  await server('-r', 'memory', '1M');
  refused(await client(NODE, uriOf(w), []), 'image-readonly', /read-only/);
  const readable = await client(NODE, uriOf(w), [['read', 0, 512], ['flush']], { readOnly: true });
  assert.equal(readable.steps, [sha1(new Uint8Array(512)), 'ok']);
  refused(await client(NODE, tlsUri(w, '&tls-hostname=x'), []), 'not-permitted', /has no TLS/);
  await server('-o', 'memory', '1M');
  refused(await client(NODE, uriOf(w), []), 'not-permitted', /old form/);
  await server('--mask-handshake=0', 'memory', '1M');
  refused(await client(NODE, uriOf(w), []), 'not-permitted', /old form/);
  const noFlush = ['get_size=echo 1M', 'pread=head -c $3 /dev/zero', 'pwrite=cat >/dev/null'];
  await server('eval', ...noFlush);
  refused(await client(NODE, uriOf(w), []), 'not-permitted', /server has no flush/);
  const only = await client(NODE, uriOf(w), [['read', 0, 512]], { readOnly: true });
  assert.equal(only.steps, [sha1(new Uint8Array(512))]);
});

needs(test, ['nbdkit'], 'nbdkit: errors of the disk are told apart', async (w) => {
  const errors = ['error-pread=EIO', 'error-pwrite=ENOSPC', 'error-zero=EPERM'];
  await nbdkit(w, '--filter=error', 'memory', '1M', ...errors, 'error-rate=100%');
  await onAll(async (runtime) => {
    const steps: Step[] = [
      ['read', 512, 512],
      ['write', 0, 512, 1],
      ['zero', 0, 512],
    ];
    const { steps: said } = await client(runtime, uriOf(w), steps);
    assert.match(said[0] as string, /^io-error: .*reading at byte 512 failed: EIO/);
    assert.match(said[1] as string, /^disk-full: .*writing at byte 0/);
    assert.match(said[2] as string, /^io-error: .*zeroing at byte 0 failed: EPERM/);
  });
});

needs(test, ['nbdkit'], 'nbdkit: a failed flush is a fault', async (w) => {
  await nbdkit(w, '--filter=error', 'memory', '1M', 'error-rate=0', 'error-pwrite=EIO');
  const ok = await client(NODE, uriOf(w), [['write', 0, 512, 1], ['flush']]);
  assert.equal(ok.steps, ['ok', 'ok']);
  fs.rmSync(w.path('s'));
  const flush = ['get_size=echo 1M', 'pread=head -c $3 /dev/zero', 'pwrite=cat >/dev/null'];
  await nbdkit(w, 'eval', ...flush, 'flush=echo EIO bad luck >&2; exit 1', 'can_flush=exit 0');
  const steps: Step[] = [['write', 0, 512, 1], ['flush'], ['flush'], ['read', 0, 512]];
  const bad = await client(NODE, uriOf(w), steps);
  assert.is(bad.steps[0], 'ok');
  for (const said of bad.steps.slice(1)) assert.match(said as string, /^io-error: .*sync failed/);
});

needs(test, ['nbdkit'], 'nbdkit killed and started again: flushed work goes on', (w) =>
  onAll(async (runtime) => {
    const before: Step[] = [['write', 5, 1000, 1], ['flush']];
    const after: Step[] = [['read', 5, 1000], ['write', 5000, 1000, 2], ['flush']];
    const { steps, generation } = await overRestart(w, runtime, before, after);
    assert.equal(steps, ['ok', 'ok', 'ok', sha1(pattern(1000, 1)), 'ok', 'ok']);
    assert.is(generation, 1);
  }),
);

needs(test, ['nbdkit'], 'nbdkit killed and started again: writes not flushed are a fault', (w) =>
  onAll(async (runtime) => {
    const after: Step[] = [['flush'], ['flush'], ['read', 5, 1000]];
    const { steps, generation } = await overRestart(w, runtime, [['write', 5, 1000, 1]], after);
    for (const said of steps.slice(2)) {
      assert.match(said as string, /^io-error: .*lost with writes it had not flushed/);
    }
    assert.is(generation, 0);
  }),
);

needs(
  test,
  ['nbdkit'],
  'nbdkit that stands still: a read waits for it, a write is a fault',
  async (w) => {
    const server = await nbdkit(w, 'memory', '1M');
    const meet: Step = ['meet', w.path('come'), w.path('go')];
    for (const [step, says] of [
      [['read', 0, 512], new RegExp(sha1(new Uint8Array(512)))],
      [['write', 0, 512, 1], /nobody knows/],
    ] as const) {
      for (const name of ['come', 'go']) fs.rmSync(w.path(name), { force: true });
      const running = start(NODE, [
        { uri: uriOf(w), steps: [meet, step], options: { answerMs: 300, connectMs: 300 } },
      ]);
      await until('the client comes', () => fs.existsSync(w.path('come')));
      server.kill('SIGSTOP');
      fs.writeFileSync(w.path('go'), '');
      await new Promise((resolve) => setTimeout(resolve, 900));
      server.kill('SIGCONT');
      const [{ steps }] = await outcomes(running);
      assert.match(steps[1] as string, says);
    }
  },
);

test.run();
