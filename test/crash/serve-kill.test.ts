/** kill -9 of a real server under load; `npm run sim` does more of it. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { killServers } from './serve-kill.ts';

const test = suite('crash: kill -9 of a server');

test('what was flushed is there, and nothing that differs is believed equal', async () => {
  const { kills, parts, writes } = await killServers(Number(process.env.KAGE_SEED ?? 1), 6);
  assert.is(kills, 6);
  assert.ok(parts > 0, 'no part came through');
  assert.ok(writes > 100, `${writes} writes`);
});

test.run();
