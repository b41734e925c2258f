/**
 * The ratios as a picture: one bar a row, all floors on one line, so that a bar that crosses the
 * line has reached what it must. Colours follow the reader's light or dark scheme; no fonts, no
 * scripts, nothing from elsewhere.
 */

import { formatFloor, formatRatio, type Ratio, type Results, score } from './result.ts';

const ROW = 22;
const HEAD = 64;
const FOOT = 34;
const WIDTH = 900;
/** Where bars begin and end; the line of the floors lies between. */
const LEFT = 400;
const RIGHT = 740;
/** A bar this many times its floor fills the width; longer ones are cut and end in a tip. */
const SCORE_MAX = 3;

const STYLE = `
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.title { font-size: 15px; font-weight: 600 }
.reached { fill: #2f81a8 } .missed { fill: #c4632a }
.floor { stroke: #24292f; stroke-width: 1.5; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 }
  .reached { fill: #58a6d0 } .missed { fill: #e08a56 } .floor { stroke: #e6edf3 }
}`;

export function picture({ ratios, machine, smoke }: Results): string {
  const height = HEAD + ratios.length * ROW + FOOT;
  const floorX = LEFT + (RIGHT - LEFT) / SCORE_MAX;
  const bottom = height - FOOT + 4;
  const title = `kagemusha against its floors${smoke ? ' (smoke run: no meaning)' : ''}`;
  const where = `${machine.cpu}, ${machine.cores} cores, images on ${machine.fileSystem}`;
  const when = `${machine.date.slice(0, 10)}, commit ${machine.commit}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${STYLE}\n</style>`,
    text(12, 24, title, 'title'),
    text(12, 43, `${where}; ${when}`, 'small'),
    text(floorX, HEAD - 6, 'floor', 'small', 'middle'),
    ...ratios.map((ratio, i) => bar(ratio, HEAD + i * ROW)),
    `<path class="floor" d="M${round(floorX)} ${HEAD - 2}V${bottom}"/>`,
    text(12, height - 12, 'Bars: how far each row is above what the plan asks for.', 'small'),
    '</svg>',
    '',
  ].join('\n');
}

function bar(ratio: Ratio, y: number): string {
  const { work, runtime, peer, kind, value, reached } = ratio;
  const part = Math.min(score(ratio), SCORE_MAX) / SCORE_MAX;
  const end = round(LEFT + (RIGHT - LEFT) * part);
  const tip = score(ratio) > SCORE_MAX ? `l7 6.5l-7 6.5` : 'v13';
  const label = `${work} : ${peer}${runtime === 'node' ? '' : ` (${runtime})`}`;
  const figure = formatRatio(kind, value);
  const meaning = kind === 'time' ? ' of its time' : '';
  return [
    text(LEFT - 8, y + 14, label, '', 'end'),
    `<path class="${reached ? 'reached' : 'missed'}" d="M${LEFT} ${y + 3}H${end}${tip}H${LEFT}z"/>`,
    text(RIGHT + 12, y + 14, `${figure}${meaning}`),
    text(WIDTH - 8, y + 14, formatFloor(ratio), 'small', 'end'),
  ].join('');
}

function text(x: number, y: number, content: string, style = '', anchor = 'start'): string {
  const shape = style === '' ? '' : ` class="${style}"`;
  const align = anchor === 'start' ? '' : ` text-anchor="${anchor}"`;
  return `<text x="${round(x)}" y="${y}"${shape}${align}>${escaped(content)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
