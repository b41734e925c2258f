/** Volumes that are all hole: 16 TiB, or the largest that the file system takes. */

import fs from 'node:fs';

const TIB = 2 ** 40;
/** ext4 with blocks of 4 KiB ends one block below 16 TiB. */
const SIZES = [16 * TIB, 16 * TIB - 4096, 15 * TIB, 8 * TIB, 4 * TIB, 2 * TIB, TIB / 16];

/** Bytes of the images: each of these files is made as large as all of them can be. */
export function makeHoles(files: readonly string[], most: number): number {
  for (const size of SIZES.filter((size) => size <= most)) {
    try {
      for (const file of files) {
        fs.writeFileSync(file, '');
        fs.truncateSync(file, size);
      }
      return size;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EFBIG') throw error;
    }
  }
  throw new Error(`${files[0]}: the file system takes no file of ${SIZES.at(-1)} bytes`);
}
