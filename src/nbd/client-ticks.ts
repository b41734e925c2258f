/**
 * Waiting times of the client, counted in ticks of a clock that can only sleep. A clock that is
 * set, or a machine that slept, lets nothing time out: a tick is a tick only if this process was
 * awake.
 */

/** One tick, ms: also what the process lives on at most because somebody has waited. */
export const TICK_MS = 100;

/** What the client needs of a `Host`, and what a test replaces. */
export type Clock = { sleep(ms: number): Promise<void> };

/**
 * Returns the function that begins to tick, if it does not already: `tick` runs every `TICK_MS`
 * until it returns false.
 */
export function createTicker(clock: Clock, tick: () => boolean): () => void {
  let running = false;
  return () => {
    if (running) return;
    running = true;
    void run();
  };

  async function run(): Promise<void> {
    do await clock.sleep(TICK_MS);
    while (tick());
    running = false;
  }
}
