/** `--json`: exactly one object on stdout, in the shapes that DESIGN section 7 promises. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { classInfo, world } from './fake.ts';

const test = suite('cli json');

async function objectOf(...argv: string[]): Promise<Record<string, unknown>> {
  const w = world({ stdin: [new Uint8Array(3)] });
  assert.is(await w.run(...argv, '--json'), 0, w.out() + w.err());
  const lines = w.out().split('\n');
  assert.is(lines.length, 2);
  assert.is(lines[1], '');
  return JSON.parse(lines[0]);
}

for (const verb of ['rejoin', 'restore', 'update']) {
  test(`${verb}: pairs with their copy`, async () => {
    assert.equal(await objectOf(verb, 'vm-proxy'), {
      verb,
      class: 'default',
      dryRun: false,
      pairs: [
        {
          master: 'vm',
          proxy: 'vm-proxy',
          state: verb === 'update' ? 'parted' : 'joined',
          copy: {
            direction: verb === 'restore' ? 'toMaster' : 'toProxy',
            method: 'differential',
            reason: 'tracked since the part',
            regions: 3,
            regionsWritten: 3,
            bytesRead: 196608,
            bytesWritten: 131072,
            seconds: 0.25,
          },
          notes: [],
        },
      ],
    });
  });
}

test('a dry run has the same shape', async () => {
  const report = await objectOf('rejoin', 'vm-proxy', '--dry-run');
  assert.is(report.dryRun, true);
  assert.ok((report.pairs as { copy: object }[])[0].copy);
});

test('a verb without a copy has pairs without one', async () => {
  const { pairs } = await objectOf('part', 'vm-proxy');
  assert.equal(pairs, [{ master: 'vm', proxy: 'vm-proxy', state: 'parted', notes: [] }]);
});

test('verbs on volumes name them', async () => {
  assert.equal(await objectOf('start', '/images/vm.img'), {
    verb: 'start',
    class: 'default',
    dryRun: false,
    volumes: ['vm'],
  });
  const added = (await objectOf('add', 'x.img=data')).volumes as { name: string; path: string }[];
  assert.equal([added[0].name, added[0].path], ['data', 'x.img']);
  assert.equal(await objectOf('write', 'vm', '--offset', '512'), {
    verb: 'write',
    class: 'default',
    dryRun: false,
    volume: 'vm',
    offset: 512,
    length: 3,
  });
});

test('info has everything that is known of the class', async () => {
  assert.equal(
    await objectOf('info'),
    JSON.parse(JSON.stringify({ verb: 'info', ...classInfo() })),
  );
  const one = await objectOf('info', 'other');
  assert.equal(one.pairs, []);
  assert.is((one.volumes as unknown[]).length, 1);
});

test('diff, copy, classes, verify, sdxinfo, completion, help', async () => {
  assert.is((await objectOf('diff', 'a.img', 'b.img')).differing, 2);
  assert.is((await objectOf('copy', 'a.img', 'b.img')).verb, 'copy');
  assert.equal(await objectOf('classes'), { verb: 'classes', classes: ['default'] });
  assert.is((await objectOf('verify', 'vm-proxy')).verb, 'verify');
  assert.is(((await objectOf('sdxinfo')).classes as unknown[]).length, 1);
  assert.is((await objectOf('completion', 'bash')).shell, 'bash');
  assert.is(typeof (await objectOf('help')).help, 'string');
});

test.run();
