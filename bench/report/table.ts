/** The results as text: for a terminal, and as Markdown for the documentation. */

import {
  type Entry,
  formatFloor,
  formatMeasure,
  formatRatio,
  type Ratio,
  type Results,
} from './result.ts';

const RATIO_HEAD = ['work', 'runtime', 'ours', 'peer', 'our speed', 'our time', 'wanted', ''];
const ENTRY_HEAD = ['work', 'runtime', 'side', 'best', 'median', 'rounds'];
const LATENCY_HEAD = ['work', 'runtime', 'side', 'p50', 'p99', 'p99.9', 'rounds'];
const LINES = ['native', 'wasm', 'twin', 'Int32Array', 'BigInt64Array', 'bytes'];
const SPEED_HEAD = ['GB/s, best', 'runtime', ...LINES];

export function plain(results: Results): string {
  return [
    ...head(results),
    '',
    ...columns([RATIO_HEAD, ...results.ratios.map(ratioCells)]),
    '',
    ...columns([ENTRY_HEAD, ...programs(results).map(entryCells)]),
    '',
    ...columns([LATENCY_HEAD, ...latencies(results).map(latencyCells)]),
    '',
    ...columns([SPEED_HEAD, ...speedRows(results)]),
    ...absences(results).map((line) => `\n${line}`),
  ].join('\n');
}

export function markdown(results: Results): string {
  const { ratios } = results;
  return [
    '# What the bench measured',
    '',
    'Written by `npm run bench`. Ratios are of the best rounds of both sides, with NBD of the median',
    'ones; the sides took turns in one run on one machine, with the same durability. What each work is:',
    '`bench/`.',
    '',
    ...head(results).map((line) => `- ${line}`),
    '',
    '![Each ratio against its floor](results.svg)',
    '',
    '## Against the floors',
    '',
    ...grid(RATIO_HEAD, ratios.map(ratioCells)),
    '',
    '## Programs',
    '',
    ...grid(ENTRY_HEAD, programs(results).map(entryCells)),
    '',
    '## Latency',
    '',
    'Of single requests, as the client sees them; the median round of each figure.',
    '',
    ...grid(LATENCY_HEAD, latencies(results).map(latencyCells)),
    '',
    '## Kernel',
    '',
    'One thread, 10^9 bytes of input a second. Native: what the runtime itself offers. Twin: the same',
    'contract in plain JS. Arrays and bytes: the loop one would write.',
    '',
    ...grid(SPEED_HEAD, speedRows(results)),
    ...absences(results).flatMap((line) => ['', line]),
    '',
  ].join('\n');
}

function head({ machine: m, smoke }: Results): string[] {
  const list = (versions: Record<string, string>) =>
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', ');
  return [
    ...(smoke ? ['SMOKE RUN: tiny sizes, the figures mean nothing'] : []),
    `${m.cpu}, ${m.cores} cores, ${m.memoryGiB} GiB; ${m.system}; images on ${m.fileSystem}`,
    `${list(m.runtimes)}; ${list(m.peers)}`,
    `commit ${m.commit}, ${m.date}; load when it began: ${m.loadAtStart}`,
  ];
}

function ratioCells(ratio: Ratio): string[] {
  const { work, runtime, ours, peer, kind, value, reached } = ratio;
  const shown = formatRatio(kind, value);
  const cells = kind === 'speed' ? [shown, ''] : ['', shown];
  return [work, runtime, ours, peer, ...cells, formatFloor(ratio), reached ? '' : 'missed'];
}

function entryCells(entry: Entry): string[] {
  const { work, runtime, name, best, median, rounds } = entry;
  return [
    work,
    runtime,
    name,
    formatMeasure(entry, best),
    formatMeasure(entry, median),
    `${rounds}`,
  ];
}

function programs({ entries }: Results): Entry[] {
  return entries.filter((entry) => entry.unit !== 'GB/s' && !isLatency(entry));
}

function latencies({ entries }: Results): Entry[] {
  return entries.filter(isLatency);
}

/** Its value is the 99th percentile; the others lie beside it. */
function isLatency({ params }: Entry): boolean {
  return params.p50 !== undefined;
}

function latencyCells(entry: Entry): string[] {
  const { work, runtime, name, median, rounds, params } = entry;
  const times = [Number(params.p50), median, Number(params.p999)];
  return [work, runtime, name, ...times.map((ms) => formatMeasure(entry, ms)), `${rounds}`];
}

/** One row for each work and runtime, one column for each line of the bench. */
function speedRows({ entries }: Results): string[][] {
  const rows = new Map<string, string[]>();
  for (const { work, runtime, name, unit, best } of entries) {
    if (unit !== 'GB/s') continue;
    const key = `${work} ${runtime}`;
    const row = rows.get(key) ?? [work, runtime, ...LINES.map(() => '')];
    row[2 + LINES.indexOf(name)] = best.toFixed(best < 10 ? 2 : 1);
    rows.set(key, row);
  }
  return [...rows.values()];
}

function absences({ absences: list }: Results): string[] {
  return list.map(({ work, name, reason }) => `${work}: ${name}: ${reason}`);
}

/** Left-aligned columns, two spaces apart. */
function columns(rows: readonly string[][]): string[] {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd(),
  );
}

function grid(header: readonly string[], rows: readonly string[][]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)];
}
