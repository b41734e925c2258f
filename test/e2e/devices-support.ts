/** A server with device files, for tests that may mount: as root, where there are FUSE and loop devices. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import type { suite } from 'uvu';
import { type Case, cases, leaveOut } from '../interop/support.ts';
import type { World } from '../support/world.ts';

/** Declares cases that mount; they are left out by name where that cannot be. */
export function mounting(test: ReturnType<typeof suite>, area: string): Case {
  const can = process.getuid?.() === 0 && fs.existsSync('/dev/fuse');
  if (can) {
    const check = cases(test, area);
    return (tools, name, work) => check(['nbdfuse', 'fusermount3', ...tools], name, work);
  }
  return (_tools, name) => leaveOut(test, `${area}: ${name}`, name, 'needs root and /dev/fuse');
}

type Mount = { readonly point: string; readonly source: string; readonly type: string };

/** What is mounted at a folder and below it, the innermost last. */
export function mountsIn(folder: string): Mount[] {
  const lines = fs.readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n');
  return lines
    .map((line) => {
      const [before, after] = line.split(' - ');
      const [type, source] = after.split(' ');
      return { point: before.split(' ')[4], source, type };
    })
    .filter(({ point }) => point.startsWith(folder));
}

/** Takes away at the end of a case whatever it has left mounted. Before anything is mounted. */
export function unmountAtEnd(w: World, ...folders: readonly string[]): void {
  w.atEnd(() => {
    for (const folder of [w.folder, ...folders]) {
      for (const { point } of mountsIn(`${folder}/`).reverse()) spawnSync('umount', ['-l', point]);
    }
  });
}
