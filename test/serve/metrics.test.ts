/** What a scrape and a health check read, from looks that are made up; and that the page knows it all. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ClassLook, PairLook, VolumeLook } from '../../src/engine/api.ts';
import { NbdMetrics } from '../../src/nbd/metrics.ts';
import { COMMAND } from '../../src/nbd/wire.ts';
import { formatFamilies } from '../../src/serve/exposition.ts';
import { healthAnswer } from '../../src/serve/health.ts';
import { metricsText, type Watched } from '../../src/serve/metrics.ts';
import { sampleOf, scrape } from '../support/exposition.ts';

const test = suite('control metrics');

const VOLUME: VolumeLook = {
  name: 'vm',
  status: 'ACTIVE',
  problem: null,
  role: 'master',
  users: 2,
};
const PAIR: PairLook = {
  master: 'vm',
  proxy: 'vm-proxy',
  state: 'parted',
  joined: false,
  doubt: null,
  changedBytes: 65536,
  pendingBytes: 0,
  snapshotAt: 90_000,
  lastCopyAt: 80_500,
  lastWhole: { method: 'full', reason: 'first copy, to a new image' },
  copy: null,
  copies: [{ method: 'full', end: 'done', count: 3 }],
};
const look = (more: Partial<ClassLook> = {}): ClassLook => ({
  class: 'default',
  broken: null,
  volumes: [VOLUME],
  pairs: [PAIR],
  ...more,
});
const watched = (more: Partial<Watched> = {}): Watched => ({
  now: 100_000,
  startedAt: 50_000,
  classes: [look()],
  problems: new Map(),
  nbd: new NbdMetrics(),
  ...more,
});
const pairOf = (pair: Partial<PairLook>) =>
  scrape(metricsText(watched({ classes: [look({ pairs: [{ ...PAIR, ...pair }] })] })));

test('a pair that is parted, and its snapshot', () => {
  const samples = pairOf({});
  const expected = {
    kage_pair_doubtful: 0,
    kage_pair_changed_bytes: 65536,
    kage_pair_pending_bytes: 0,
    kage_pair_last_copy_timestamp_seconds: 80.5,
    kage_pair_last_snapshot_timestamp_seconds: 90,
    kage_proxy_age_seconds: 10,
    kage_pair_copy_running: 0,
    kage_pair_copy_done_bytes: 0,
    kage_pair_copy_total_bytes: 0,
    kage_pair_last_whole_copy_info: 1,
  };
  for (const [name, value] of Object.entries(expected)) {
    const labels = { class: 'default', master: 'vm', proxy: 'vm-proxy' };
    assert.is(sampleOf(samples, name, labels), value, name);
  }
  assert.is(sampleOf(samples, 'kage_pair_state', { state: 'parted' }), 1);
  assert.is(samples.filter((s) => s.name === 'kage_pair_state' && s.value === 1).length, 1);
  const copies = (method: string, result: string) =>
    sampleOf(samples, 'kage_pair_copies_total', { method, result });
  assert.equal([copies('full', 'done'), copies('compare', 'failed')], [3, 0]);
  const why = { method: 'full', reason: 'first copy, to a new image' };
  assert.is(sampleOf(samples, 'kage_pair_last_whole_copy_info', why), 1);
});

test('only a snapshot has an age, and only what has happened has a time', () => {
  for (const pair of [
    { joined: true, state: 'joined' },
    { state: 'invalid' },
    { snapshotAt: null },
  ] as const) {
    assert.is(sampleOf(pairOf(pair), 'kage_proxy_age_seconds'), undefined);
  }
  const fresh = pairOf({ lastCopyAt: null, snapshotAt: null, lastWhole: null });
  for (const name of ['last_copy_timestamp_seconds', 'last_snapshot_timestamp_seconds']) {
    assert.is(sampleOf(fresh, `kage_pair_${name}`), undefined);
  }
  assert.is(sampleOf(fresh, 'kage_pair_last_whole_copy_info'), undefined);
  assert.is(
    sampleOf(pairOf({ snapshotAt: 200_000 }), 'kage_proxy_age_seconds'),
    0,
    'a clock set back',
  );
});

test('a copy that runs, maps in doubt, a volume that is INVALID, a class that is not there', () => {
  const copy = {
    verb: 'join',
    direction: 'toProxy',
    method: 'full',
    reason: 'first copy',
    doneBytes: 5,
    totalBytes: 10,
  } as const;
  const samples = pairOf({ copy, doubt: 'written by others', state: 'joining' });
  assert.is(sampleOf(samples, 'kage_pair_copy_running'), 1);
  assert.is(sampleOf(samples, 'kage_pair_copy_done_bytes'), 5);
  assert.is(sampleOf(samples, 'kage_pair_copy_total_bytes'), 10);
  assert.is(sampleOf(samples, 'kage_pair_doubtful'), 1);
  const invalid: VolumeLook = { ...VOLUME, status: 'INVALID', problem: 'gone' };
  const all = scrape(
    metricsText(
      watched({
        classes: [look({ volumes: [invalid], broken: 'disk full' })],
        problems: new Map([['db', 'in use']]),
      }),
    ),
  );
  assert.is(sampleOf(all, 'kage_volume_status', { volume: 'vm', status: 'INVALID' }), 1);
  assert.is(sampleOf(all, 'kage_volume_status', { volume: 'vm', status: 'ACTIVE' }), 0);
  assert.is(sampleOf(all, 'kage_volume_clients', { volume: 'vm' }), 2);
  assert.is(sampleOf(all, 'kage_class_open', { class: 'default' }), 1);
  assert.is(sampleOf(all, 'kage_class_open', { class: 'db' }), 0);
  assert.is(sampleOf(all, 'kage_class_broken', { class: 'default' }), 1);
});

test('NBD: requests, bytes and latencies by command', () => {
  const nbd = new NbdMetrics();
  nbd.connections = 2;
  nbd.accepted = 7;
  nbd.refused = 1;
  nbd.add(COMMAND.read, 4096, false, 0.016);
  nbd.add(COMMAND.read, 4096, true, 0.0321);
  nbd.add(COMMAND.writeZeroes, 512, false, 20_000);
  nbd.add(COMMAND.flush, 0, false, 1.024);
  const samples = scrape(metricsText(watched({ nbd })));
  const of = (name: string, command: string, more = {}) =>
    sampleOf(samples, `kage_nbd_${name}`, { command, ...more });
  assert.is(sampleOf(samples, 'kage_nbd_connections'), 2);
  assert.is(sampleOf(samples, 'kage_nbd_connections_accepted_total'), 7);
  assert.is(sampleOf(samples, 'kage_nbd_connections_refused_total'), 1);
  assert.equal([of('requests_total', 'read'), of('request_errors_total', 'read')], [2, 1]);
  assert.equal([of('bytes_total', 'read'), of('bytes_total', 'write_zeroes')], [4096, 512]);
  const bucket = (command: string, le: string) =>
    of('request_duration_seconds_bucket', command, { le });
  assert.equal([bucket('read', '0.000032'), bucket('read', '0.000064')], [1, 2]);
  assert.equal([bucket('flush', '0.000512'), bucket('flush', '0.001024')], [0, 1]);
  assert.equal([bucket('write_zeroes', '8.388608'), bucket('write_zeroes', '+Inf')], [0, 1]);
  assert.is(of('request_duration_seconds_sum', 'write_zeroes'), 20);
});

test('any text is a label, and comes back', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string(), (reason, text) => {
      const [sample] = scrape(
        formatFamilies([
          {
            name: 'kage_x',
            help: `h ${text.replace(/[\r\v\f\u2028\u2029]/g, '')}`,
            type: 'gauge',
            samples: [{ labels: { reason }, value: 1 }],
          },
        ]),
      );
      assert.is(sample.labels.reason, reason);
    }),
  );
  const labelled = formatFamilies([
    { name: 'a', help: 'h', type: 'gauge', samples: [{ labels: { x: 'a"b\\c\nd' }, value: 1 }] },
  ]);
  assert.is(labelled, '# HELP a h\n# TYPE a gauge\na{x="a\\"b\\\\c\\nd"} 1\n');
});

test('the table of docs/serve.md has every metric, and no other', () => {
  const root = process.env.KAGE_ROOT ?? process.cwd();
  const page = fs.readFileSync(path.join(root, 'docs/serve.md'), 'utf8');
  const documented = [...page.matchAll(/^\| `(kage_[a-z_]+)`/gm)].map(([, name]) => name);
  const text = metricsText(watched({ problems: new Map([['db', 'x']]) }));
  const told = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
  assert.equal([...documented].sort(), [...told].sort());
});

const promtool = spawnSync('promtool', ['--version']).status === 0;
if (!promtool) console.log('SKIP control metrics: promtool is not here');
(promtool ? test : test.skip)('promtool finds nothing to say', () => {
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
    input: metricsText(watched()),
    encoding: 'utf8',
  });
  assert.is(status, 0, `${stdout}${stderr}`);
});

test('healthy: ok, and warnings for what a restart would not make better', () => {
  const health = { ready: true, classes: [look()], problems: new Map<string, string>() };
  assert.equal(healthAnswer(health), { status: 200, body: 'ok\n' });
  const volumes: VolumeLook[] = [
    { ...VOLUME, status: 'INVALID', problem: 'the copy to it\nfailed' },
    { ...VOLUME, name: 'b', problem: 'no such file' },
  ];
  assert.equal(healthAnswer({ ...health, classes: [look({ volumes })] }), {
    status: 200,
    body:
      'ok\nwarning: default/vm is INVALID: the copy to it failed\n' +
      'warning: default/b cannot be used: no such file\n',
  });
});

test('unhealthy: a line for each problem', () => {
  const health = {
    ready: false,
    classes: [look({ class: 'a' }), look({ class: 'b', broken: 'disk full' })],
    problems: new Map([['db', 'in use by process 7']]),
  };
  const { status, body } = healthAnswer(health);
  assert.is(status, 503);
  assert.equal(body.split('\n'), [
    'the server is being started',
    'class db is not served: in use by process 7',
    'class b is broken, restart the server: its state could not be written: disk full',
    '',
  ]);
});

test.run();
