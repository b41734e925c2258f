/**
 * `node unsynced.mjs SOURCE TARGET`: copies all of SOURCE over TARGET with the product's own
 * crew and job, without the final sync that no command of ours leaves out. For comparison with
 * programs that do not sync either.
 */

import { REGION_SIZE_DEFAULT } from '../../src/base/limits.ts';
import { RegionMap } from '../../src/bitmap/region-map.ts';
import { fileCrew } from '../../src/copy/crew.ts';
import { runJob } from '../../src/copy/job.ts';
import { FileDevice } from '../../src/device/file.ts';
import { FileHost } from '../../src/device/file-host.ts';
import { createKernel } from '../../src/kernel/select.ts';

const [source, target] = process.argv.slice(2);
const host = new FileHost();
const regionSize = REGION_SIZE_DEFAULT;
const devices = {
  source: new FileDevice(source, { readOnly: true }),
  target: new FileDevice(target, { readOnly: false }),
};
const { size } = devices.source;
const kernel = createKernel('wasm');
const pending = new RegionMap(kernel, Math.ceil(size / regionSize));
pending.setAll();

async function specOf(file: string) {
  const { path, identity } = (await host.inspect(file))!;
  return { path, offset: 0, size, identity };
}

const crew = fileCrew(kernel, devices.source, devices.target, {
  source: await specOf(source),
  target: await specOf(target),
  mode: 'write',
  regionSize,
});
await runJob({
  crew,
  ...devices,
  pending,
  regionSize,
  size,
  readOnly: true, // Nothing is synced; the mode is the crew's.
  now: () => host.now(),
  sleep: (ms) => host.sleep(ms),
});
process.exit(0);
