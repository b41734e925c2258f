/**
 * Somebody else's writer: what fio has written and synced is there after the server was killed under another
 * job of it, on the master and on the snapshot that is taken then. (Of what is under way at the kill fio does
 * not know what was answered; the numbered blocks of the other tests do.)
 */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serve } from '../e2e/serve-support.ts';
import { cases, MIB } from '../interop/support.ts';
import { Running, sleep } from '../support/world.ts';

const test = suite('crash: fio across a kill');
const HALF = 16 * MIB;

/** Random writes all over one half of the volume. */
function fio(uri: string, half: 0 | 1, ...words: string[]): Running {
  const job = [`--name=half${half}`, '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bs=4k'];
  const where = [`--offset=${half * HALF}`, `--size=${HALF}`, '--iodepth=8'];
  return new Running(
    ['fio', ...job, ...where, '--verify=crc32c', '--verify_state_save=0', ...words],
    process.env,
    '',
  );
}

async function verify(uri: string): Promise<number | null> {
  const { status, stdout } = await fio(uri, 0, '--verify_only', '--verify_fatal=1').ended;
  if (status === 0) assert.match(stdout, new RegExp(`issued rwts: total=${HALF / 4096}`));
  return status;
}

cases(test, 'crash')(['fio'], 'what was synced is there', async (w) => {
  fs.truncateSync(w.image('m.img', 1), 2 * HALF);
  await w.ok(['join', w.path('m.img'), w.path('p.img')]);
  const doomed = await serve(w);
  const uri = doomed.uri('default/m');
  const { status, stdout, stderr } = await fio(uri, 0, '--do_verify=0', '--end_fsync=1').ended;
  assert.is(status, 0, stdout + stderr);
  const writing = fio(uri, 1, '--do_verify=0', '--fsync=32', '--time_based', '--runtime=60');
  await sleep(1000);
  await doomed.kill();
  writing.child.kill('SIGKILL');
  await writing.ended;
  const server = await serve(w);
  assert.is(await verify(server.uri('default/m')), 0);
  await w.ok(['part', 'p']);
  assert.is(await verify(server.uri('default/p')), 0);
  assert.is((await w.ok(['verify', 'p'])).pairs[0].differing, 0);
  await server.stop();
  // A check that cannot fail proves nothing.
  w.scribble('p.img', 5 * 4096 + 2000, 'x');
  const last = await serve(w);
  assert.is.not(await verify(last.uri('default/p')), 0);
  await last.stop();
});

test.run();
