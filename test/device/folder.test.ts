/** State folders in memory. On disk: `file-folder.test.ts`. */

import { MemoryHost } from '../../src/device/memory-host.ts';
import { folderConformance } from './folder-suite.ts';

const test = folderConformance('device: folder in memory', async () => {
  const host = new MemoryHost(1);
  return { folder: host.folder('/state'), async remove() {} };
});

test.run();
