/** Progress: one rewritten line on a terminal, a plain line every five seconds elsewhere. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Progress } from '../../src/engine/api.ts';
import { progressOf, type WorldOptions, world } from './fake.ts';

const test = suite('cli progress');

function joining(steps: readonly Partial<Progress>[], options: WorldOptions = {}) {
  const on = {
    join: (_m: string, _p: string, o: { dryRun: boolean; onProgress: (p: Progress) => void }) => {
      if (!o.dryRun) for (const step of steps) o.onProgress(progressOf(step));
    },
  };
  return world({ ...options, on } as WorldOptions);
}

const FULL = 'join vm -> vm-proxy: 50 %, 1 MiB of 2 MiB, 1 MiB/s, 1.0 s left (full: first copy)';

test('a terminal gets one line that is rewritten and taken away', async () => {
  const w = joining(
    [{}, { doneBytes: 0, rateBytesPerSec: 0, secondsLeft: null }, { finished: true }],
    {
      isTTY: true,
    },
  );
  assert.is(await w.run('join', './vm', './p'), 0);
  assert.is(
    w.err(),
    `\r\x1b[K${FULL.slice(0, 79)}\r\x1b[Kjoin vm -> vm-proxy: 0 %, 0 B of 2 MiB (full: first copy)\r\x1b[K`,
  );
  assert.not.match(w.out(), /\r|%/);
});

test('the line is gone before an error is printed', async () => {
  const on = {
    join: (_m: string, _p: string, o: { onProgress: (p: Progress) => void }) => {
      o.onProgress(progressOf());
      throw new Error('boom');
    },
  };
  const w = world({ isTTY: true, on } as WorldOptions);
  assert.is(await w.run('join', './vm', './p'), 1);
  assert.ok(w.err().includes('\r\x1b[Kkage: internal error: boom\n'), w.err());
});

test('elsewhere there is a plain line at most every five seconds', async () => {
  const seconds = [0.5, 4.9, 5, 7, 9.9, 10.1, 12];
  const w = joining([...seconds.map((s) => ({ seconds: s })), { seconds: 20, finished: true }]);
  assert.is(await w.run('join', './vm', './p'), 0);
  assert.is(w.err(), `${FULL}\n${FULL}\n`);
});

test('a short copy prints no progress, and --quiet none at all', async () => {
  const short = joining([{ seconds: 1 }, { seconds: 2, finished: true }]);
  await short.run('join', './vm', './p');
  assert.is(short.err(), '');
  const quiet = joining([{ seconds: 60 }], { isTTY: true });
  await quiet.run('join', './vm', './p', '-q');
  assert.is(quiet.err() + quiet.out(), '');
});

test('with --json progress stays off stdout', async () => {
  const w = joining([{ seconds: 6 }]);
  await w.run('join', './vm', './p', '--json');
  assert.is(w.out().trimEnd().split('\n').length, 1);
  assert.is(JSON.parse(w.out()).verb, 'join');
  assert.is(w.err(), `${FULL}\n`);
});

test.run();
