/** Progress of a verb as an async iterator, for callers that like loops better than callbacks. */

import type { Progress } from './api.ts';

/**
 * Runs `work` with a callback to hand on as `onProgress`, and yields each report; the generator's
 * return value is the result. Leaving the loop early aborts the work by the signal it was given.
 *
 *     for await (const p of followProgress((o) => disks.join('a.img', 'b.img', o))) …
 */
export async function* followProgress<T>(
  work: (options: { onProgress: (p: Progress) => void; signal: AbortSignal }) => Promise<T>,
): AsyncGenerator<Progress, T, void> {
  const stop = new AbortController();
  const reports: Progress[] = [];
  let wake = () => {};
  let ended = false;
  const result = work({
    signal: stop.signal,
    onProgress(progress) {
      reports.push(progress);
      wake();
    },
  }).finally(() => {
    ended = true;
    wake();
  });
  result.catch(() => {});
  try {
    while (!ended || reports.length > 0) {
      const next = reports.shift();
      if (next !== undefined) yield next;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    return await result;
  } finally {
    if (!ended) {
      stop.abort();
      await result.catch(() => {});
    }
  }
}
