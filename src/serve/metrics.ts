/** What `/metrics` tells of classes, pairs and NBD clients, out of memory; the table is docs/serve.md. */

import type { ClassLook, PairLook, VolumeLook } from '../engine/api.ts';
import type { CommandName, NbdMetrics } from '../nbd/metrics.ts';
import {
  type Family,
  formatFamilies,
  formatValue,
  type Labels,
  type Sample,
} from './exposition.ts';

/** What is looked at in one moment. */
export type Watched = {
  /** ms since 1970. */
  readonly now: number;
  readonly startedAt: number;
  readonly classes: readonly ClassLook[];
  /** Classes that cannot be opened, and why. */
  readonly problems: ReadonlyMap<string, string>;
  readonly nbd: NbdMetrics;
};

const VOLUME_STATUS: readonly VolumeLook['status'][] = ['ACTIVE', 'STOP', 'INVALID'];
const PAIR_STATES: readonly PairLook['state'][] = [
  'joining',
  'joined',
  'parted',
  'copying',
  'restoring',
  'invalid',
];
const METHODS = ['differential', 'compare', 'full'] as const;
const ENDS = ['done', 'stopped', 'failed'] as const;

/** As labels name them. */
const COMMANDS: readonly (readonly [CommandName, string])[] = [
  ['read', 'read'],
  ['write', 'write'],
  ['flush', 'flush'],
  ['trim', 'trim'],
  ['cache', 'cache'],
  ['writeZeroes', 'write_zeroes'],
  ['blockStatus', 'block_status'],
];
/** Commands whose range is data that is moved or made zero. */
const MOVING: readonly CommandName[] = ['read', 'write', 'trim', 'writeZeroes'];
/** Bounds of latency, powers of two of a µs: 32 µs to 8.4 s. */
const FIRST_POWER = 5;
const LAST_POWER = 23;

export function metricsText(watched: Watched): string {
  return formatFamilies([
    ...serverFamilies(watched),
    ...volumeFamilies(watched.classes),
    ...pairFamilies(watched.classes, watched.now),
    ...nbdFamilies(watched.nbd),
  ]);
}

function gauge(name: string, help: string, samples: readonly Sample[]): Family {
  return { name, help, samples, type: 'gauge' };
}

function counter(name: string, help: string, samples: readonly Sample[]): Family {
  return { name, help, samples, type: 'counter' };
}

/** One sample each for the names that it can have: 1 for the one that it has. */
function oneOf(labels: Labels, label: string, all: readonly string[], is: string): Sample[] {
  return all.map((name) => ({ labels: { ...labels, [label]: name }, value: is === name ? 1 : 0 }));
}

function serverFamilies({ startedAt, classes, problems }: Watched): Family[] {
  const open = classes.map((c) => ({ labels: { class: c.class }, value: 1 }));
  const closed = [...problems.keys()].map((name) => ({ labels: { class: name }, value: 0 }));
  const broken = classes.map((c) => ({
    labels: { class: c.class },
    value: c.broken === null ? 0 : 1,
  }));
  return [
    gauge('kage_server_start_time_seconds', 'When the server was started, Unix time.', [
      { labels: {}, value: startedAt / 1000 },
    ]),
    gauge('kage_class_open', '1 if the class is open, 0 if it cannot be opened.', [
      ...open,
      ...closed,
    ]),
    gauge(
      'kage_class_broken',
      '1 if the state of the class could not be written down: the server has to be restarted.',
      broken,
    ),
  ];
}

function volumeFamilies(classes: readonly ClassLook[]): Family[] {
  const each = (samples: (volume: VolumeLook, labels: Labels) => Sample[]) =>
    classes.flatMap((c) =>
      c.volumes.flatMap((v) => samples(v, { class: c.class, volume: v.name })),
    );
  return [
    gauge(
      'kage_volume_status',
      '1 for the status that the volume has, 0 for the others.',
      each((v, labels) => oneOf(labels, 'status', VOLUME_STATUS, v.status)),
    ),
    gauge(
      'kage_volume_clients',
      'NBD connections that have the volume attached.',
      each((v, labels) => [{ labels, value: v.users }]),
    ),
  ];
}

function pairFamilies(classes: readonly ClassLook[], now: number): Family[] {
  const each = (samples: (pair: PairLook, labels: Labels) => Sample[]) =>
    classes.flatMap((c) =>
      c.pairs.flatMap((p) => samples(p, { class: c.class, master: p.master, proxy: p.proxy })),
    );
  /** One sample of each pair for which there is such a number. */
  const number = (name: string, help: string, of: (pair: PairLook) => number | null) =>
    gauge(
      name,
      help,
      each((pair, labels) => {
        const value = of(pair);
        return value === null ? [] : [{ labels, value }];
      }),
    );
  const seconds = (ms: number | null) => (ms === null ? null : ms / 1000);
  const isSnapshot = ({ joined, state }: PairLook) => !joined && state !== 'invalid';
  return [
    gauge(
      'kage_pair_state',
      '1 for the state that the pair is in, 0 for the others.',
      each((p, labels) => oneOf(labels, 'state', PAIR_STATES, p.state)),
    ),
    number('kage_pair_doubtful', '1 if the maps are not trusted: the next copy compares.', (p) =>
      p.doubt === null ? 0 : 1,
    ),
    number(
      'kage_pair_changed_bytes',
      'Regions that may differ since the part, bytes.',
      (p) => p.changedBytes,
    ),
    number(
      'kage_pair_pending_bytes',
      'Regions that a copy still has to bring, bytes.',
      (p) => p.pendingBytes,
    ),
    number(
      'kage_pair_last_copy_timestamp_seconds',
      'When the last copy was completed, Unix time.',
      (p) => seconds(p.lastCopyAt),
    ),
    number(
      'kage_pair_last_snapshot_timestamp_seconds',
      'When the proxy became a snapshot last, by part or update, Unix time.',
      (p) => seconds(p.snapshotAt),
    ),
    number(
      'kage_proxy_age_seconds',
      'Age of the snapshot that the proxy holds; only while it is parted and valid.',
      (p) =>
        isSnapshot(p) && p.snapshotAt !== null ? Math.max(0, (now - p.snapshotAt) / 1000) : null,
    ),
    number('kage_pair_copy_running', '1 while a copy runs.', (p) => (p.copy === null ? 0 : 1)),
    number(
      'kage_pair_copy_done_bytes',
      'What the running copy has looked at, bytes; 0 if none runs.',
      (p) => p.copy?.doneBytes ?? 0,
    ),
    number(
      'kage_pair_copy_total_bytes',
      'All that the running copy has to look at, bytes; 0 if none runs.',
      (p) => p.copy?.totalBytes ?? 0,
    ),
    gauge(
      'kage_pair_last_whole_copy_info',
      'Method and reason of the last copy that was not differential; always 1.',
      each(({ lastWhole }, labels) => {
        if (lastWhole === null) return [];
        const { method, reason } = lastWhole;
        return [{ labels: { ...labels, method, reason }, value: 1 }];
      }),
    ),
    counter(
      'kage_pair_copies_total',
      'Copies that have ended since the class was opened, by method and result.',
      each(({ copies }, labels) =>
        METHODS.flatMap((method) =>
          ENDS.map((result) => ({
            labels: { ...labels, method, result },
            value: copies.find((c) => c.method === method && c.end === result)?.count ?? 0,
          })),
        ),
      ),
    ),
  ];
}

function nbdFamilies(nbd: NbdMetrics): Family[] {
  const each = (of: (command: CommandName) => number, among = COMMANDS) =>
    among.map(([name, command]) => ({ labels: { command }, value: of(name) }));
  const one = (value: number) => [{ labels: {}, value }];
  return [
    gauge('kage_nbd_connections', 'NBD connections that are open.', one(nbd.connections)),
    counter(
      'kage_nbd_connections_accepted_total',
      'NBD connections that were let in.',
      one(nbd.accepted),
    ),
    counter(
      'kage_nbd_connections_refused_total',
      'NBD connections that were closed at once because there were too many.',
      one(nbd.refused),
    ),
    counter(
      'kage_nbd_connections_cut_off_total',
      'NBD connections that kept memory others waited for.',
      one(nbd.cutOff),
    ),
    counter(
      'kage_nbd_requests_total',
      'NBD requests that were answered.',
      each((name) => nbd.requests(name)),
    ),
    counter(
      'kage_nbd_request_errors_total',
      'NBD requests that were answered with an error.',
      each((name) => nbd.errors(name)),
    ),
    counter(
      'kage_nbd_bytes_total',
      'Bytes that were read, written or made zero for NBD clients.',
      each(
        (name) => nbd.bytes(name),
        COMMANDS.filter(([name]) => MOVING.includes(name)),
      ),
    ),
    {
      name: 'kage_nbd_request_duration_seconds',
      help: 'From reading an NBD request to its answer.',
      type: 'histogram',
      samples: COMMANDS.flatMap(([name, command]) => latencyOf(nbd, name, command)),
    },
  ];
}

function latencyOf(nbd: NbdMetrics, name: CommandName, command: string): Family['samples'] {
  const latency = nbd.latency(name);
  const bucket = (le: number, value: number) => ({
    suffix: '_bucket' as const,
    labels: { command, le: formatValue(le) },
    value,
  });
  const buckets = [];
  for (let power = FIRST_POWER; power <= LAST_POWER; power++) {
    buckets.push(bucket(2 ** power / 1e6, latency.upTo(power)));
  }
  return [
    ...buckets,
    bucket(Number.POSITIVE_INFINITY, latency.total),
    { suffix: '_sum', labels: { command }, value: latency.sum / 1000 },
    { suffix: '_count', labels: { command }, value: latency.total },
  ];
}
