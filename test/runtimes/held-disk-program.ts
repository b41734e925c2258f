/**
 * A transfer on a disk that does not answer before a file is there, which is made when the call has
 * returned: whoever makes it in his own thread never comes to that. Arguments: image, file.
 */

import fs from 'node:fs';
import { FileDevice } from '../../src/device/file.ts';

const [image, go] = process.argv.slice(2);
const device = new FileDevice(image, { readOnly: false });
const bytes = new Uint8Array(4096).fill(7);

/** Both are under way at the same time. */
async function held(...calls: (() => Promise<void>)[]): Promise<void> {
  const done = calls.map((call) => call());
  fs.writeFileSync(go, '');
  await Promise.all(done);
  fs.rmSync(go);
}

await held(
  () => device.writeLater(bytes, 0),
  () => device.writeLater(bytes, 65536),
);
await held(
  () => device.readLater(new Uint8Array(4096), 1 << 20),
  () => device.readLater(new Uint8Array(4096), 2 << 20),
);
await device.close();
console.log('went on');
