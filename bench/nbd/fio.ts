/** The load: `fio` with its NBD engine, and what it counted. */

import { type Parameter, pick } from '../harness.ts';
import { Background } from './background.ts';

/** Not measured: connections, and the time in which a runtime compiles what runs hot. */
const WARM_UP: Parameter<number> = { smoke: 0, real: 1 };
const SECONDS: Parameter<number> = { smoke: 0, real: 2 };
/** Instead of a time. */
const SMOKE_REQUESTS = 64;

export interface Load {
  /** The last one: so many bytes are left out after each request. */
  rw: 'randread' | 'randwrite' | 'randrw' | 'read' | 'write' | `write:${number}`;
  /** Bytes of a request. */
  bytes: number;
  depth: number;
  /** Requests a second, of reads and of writes each; without it as many as are answered. */
  rate?: number;
  /** Each place at most once. */
  once?: boolean;
  /** Another time, s, without a time before it that is not measured. */
  seconds?: number;
  /** So many requests instead of a time. */
  requests?: number;
  more?: readonly string[];
}

/** Of one direction; latencies in ms, from the request to its answer. */
export interface Counted {
  requests: number;
  requestsPerSec: number;
  bytesPerSec: number;
  p50: number;
  p99: number;
  p999: number;
  max: number;
}

/** What a figure has to be quoted with. */
export function paramsOf({ rw, bytes, depth, rate }: Load): Record<string, string | number> {
  return { rw, request: bytes, depth, ...(rate === undefined ? {} : { rate }) };
}

export type Result = { read: Counted; write: Counted };

export function startFio(uri: string, load: Load, options: { smoke: boolean }): Background {
  const { rw, bytes, depth, rate, once } = load;
  return new Background([
    // A thread: a process of its own would go on when this one is killed.
    ...['fio', '--name=load', '--thread', '--ioengine=nbd', `--uri=${uri}`, '--output-format=json'],
    ...[`--rw=${rw}`, `--bs=${bytes}`, `--iodepth=${depth}`, '--percentile_list=50:99:99.9'],
    ...(rate === undefined ? [] : [`--rate_iops=${rate},${rate}`]),
    ...(once ? [] : ['--norandommap']),
    ...duration(load, options),
    ...(load.more ?? []),
  ]);
}

export async function fio(uri: string, load: Load, options: { smoke: boolean }): Promise<Result> {
  return resultOf(await startFio(uri, load, options).result());
}

function duration({ requests, seconds }: Load, options: { smoke: boolean }): string[] {
  if (requests !== undefined) return [`--number_ios=${requests}`];
  if (options.smoke) return [`--number_ios=${SMOKE_REQUESTS}`];
  const warmUp = seconds === undefined ? [`--ramp_time=${pick(WARM_UP, options)}`] : [];
  return ['--time_based', ...warmUp, `--runtime=${seconds ?? pick(SECONDS, options)}`];
}

export function resultOf(stdout: string): Result {
  // What the engine has to say about its connection comes before.
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{\n')));
  return { read: counted(jobs[0].read), write: counted(jobs[0].write) };
}

// biome-ignore lint/suspicious/noExplicitAny: what fio prints
function counted(side: any): Counted {
  const { percentile = {}, max = 0 } = side.clat_ns;
  const ms = (ns = 0) => ns / 1e6;
  return {
    requests: side.total_ios,
    requestsPerSec: side.iops,
    bytesPerSec: side.bw_bytes,
    p50: ms(percentile['50.000000']),
    p99: ms(percentile['99.000000']),
    p999: ms(percentile['99.900000']),
    max: ms(max),
  };
}
