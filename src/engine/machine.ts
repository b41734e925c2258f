/** The host that everything runs on unless a test brings its own: files, block devices, NBD exports. */

import { FileHost } from '../device/file-host.ts';
import type { Host } from '../device/host.ts';
import { NbdHost } from '../nbd/nbd-host.ts';

export function thisMachine(): Host {
  return new NbdHost(new FileHost());
}
