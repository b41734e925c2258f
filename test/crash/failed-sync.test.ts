/** A copy whose sync fails: nothing is believed equal from then on, whatever a later sync says. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RegionMap, type Run } from '../../src/bitmap/region-map.ts';
import type { Crew } from '../../src/copy/crew.ts';
import { runJob } from '../../src/copy/job.ts';
import type { BlockDevice } from '../../src/device/device.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('crash: failed sync');
const REGION = 4096;
const REGIONS = 600;

/** A device that only syncs; `results` says of each sync whether it succeeds, then all do. */
function device(name: string, results: boolean[]): BlockDevice {
  return {
    name,
    size: REGIONS * REGION,
    readOnly: false,
    read() {},
    write() {},
    zero() {},
    async flush() {
      if (!(results.shift() ?? true)) throw new Error(`${name}: sync failed`);
    },
    async close() {},
  };
}

/** A crew of three that copies nothing, while a clock runs 1 s a piece. */
function crew(clock: { now: number }): Crew {
  return {
    members: 3,
    async run() {
      clock.now += 1000;
      return { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 };
    },
    async close() {},
  };
}

for (const side of ['source', 'target'] as const) {
  test(`the sync of the ${side} fails once, in the middle`, async () => {
    const clock = { now: 0 };
    const pending = new RegionMap(createKernel('js'), REGIONS);
    pending.setAll();
    const cleared: Run[] = [];
    const source = device('source', side === 'source' ? [true, false] : []);
    const target = device('target', side === 'target' ? [true, false] : []);
    let clearedBeforeFailure = 0;
    let failed = false;
    const watch = (d: BlockDevice): BlockDevice => ({
      ...d,
      async flush() {
        try {
          await d.flush();
        } catch (error) {
          failed = true;
          clearedBeforeFailure = cleared.length;
          throw error;
        }
      },
    });
    try {
      await runJob({
        crew: crew(clock),
        source: watch(source),
        target: watch(target),
        pending,
        regionSize: REGION,
        size: REGIONS * REGION,
        async clear(runs) {
          cleared.push(...runs);
        },
        rateBytesPerSec: 16 * REGION,
        now: () => clock.now,
        async sleep(ms) {
          clock.now += ms;
        },
      });
      assert.unreachable('the job failed');
    } catch (error) {
      assert.match(String(error), new RegExp(`${side}: sync failed`));
    }
    assert.ok(failed && clearedBeforeFailure > 0, 'one batch was cleared before');
    assert.is(cleared.length, clearedBeforeFailure, 'and nothing after');
  });
}

test.run();
