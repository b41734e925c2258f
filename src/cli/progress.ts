/**
 * Progress of copies on stderr: one rewritten line on a terminal, otherwise a plain line every five
 * seconds at most. Takes its time from the reports, so it needs no clock.
 */

import { formatSeconds, formatSize } from '../base/units.ts';
import type { Progress } from '../engine/api.ts';
import type { Output } from './environment.ts';

const PLAIN_SECONDS = 5;

export class ProgressLine {
  readonly #output: Output;
  #shown = false;
  /** Per copy: when its last plain line was written, in seconds since its start. */
  readonly #last = new Map<string, number>();

  constructor(output: Output) {
    this.#output = output;
  }

  show(progress: Progress): void {
    if (this.#output.isTTY) {
      if (progress.finished) {
        this.clear();
        return;
      }
      const text = progressText(progress).slice(0, Math.max(20, this.#output.columns - 1));
      this.#shown = true;
      this.#write(`\r\x1b[K${text}`);
      return;
    }
    const copy = `${progress.verb}\0${progress.proxy}`;
    const last = this.#last.get(copy) ?? 0;
    // A second copy of the same pair starts counting at 0 again.
    const since = progress.seconds < last ? progress.seconds : progress.seconds - last;
    if (progress.finished || since < PLAIN_SECONDS) return;
    this.#last.set(copy, progress.seconds);
    this.#write(`${progressText(progress)}\n`);
  }

  /** Takes the rewritten line away, before anything else is printed. */
  clear(): void {
    if (this.#shown) this.#write('\r\x1b[K');
    this.#shown = false;
  }

  #write(text: string): void {
    // Nobody to tell when stderr is gone; the work goes on.
    this.#output.write(text).catch(() => {});
  }
}

/** `restore vm <- vm-proxy: 42 %, 1.2 GiB of 2.9 GiB, 310 MiB/s, 6 s left (compare: …)` */
export function progressText(progress: Progress): string {
  const { doneBytes, totalBytes, rateBytesPerSec, secondsLeft } = progress;
  const percent = totalBytes === 0 ? 100 : Math.floor((doneBytes / totalBytes) * 100);
  const parts = [`${percent} %`, `${formatSize(doneBytes)} of ${formatSize(totalBytes)}`];
  if (rateBytesPerSec > 0) parts.push(`${formatSize(rateBytesPerSec)}/s`);
  if (secondsLeft !== null) parts.push(`${formatSeconds(secondsLeft)} left`);
  const arrow = progress.direction === 'toProxy' ? '->' : '<-';
  const pair = `${progress.master} ${arrow} ${progress.proxy}`;
  return `${progress.verb} ${pair}: ${parts.join(', ')} (${progress.method}: ${progress.reason})`;
}
