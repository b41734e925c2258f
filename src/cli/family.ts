/**
 * Edge: a process and all that it has started and not let go of, as Linux shows them. A process group is
 * not enough: `timeout` and `setsid` make groups of their own. Elsewhere, and where `/proc` may not be
 * read, nobody is found.
 */

import fs from 'node:fs';

export type Relative = { readonly pid: number; readonly parent: number; readonly born: string };

/** Everybody below a process, at this moment. */
export function descendantsOf(pid: number): Relative[] {
  const all = everybody();
  const found: Relative[] = [];
  const parents = new Set([pid]);
  // A child may have a smaller number than its parent.
  for (let before = -1; before !== found.length; ) {
    before = found.length;
    for (const one of all) {
      if (!parents.has(one.parent) || parents.has(one.pid)) continue;
      parents.add(one.pid);
      found.push(one);
    }
  }
  return found;
}

/** Whether it runs still; its number may be another one's by now. */
export function runs({ pid, born }: Relative): boolean {
  return look(pid)?.born === born;
}

function everybody(): Relative[] {
  try {
    const names = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return names.map((name) => look(Number(name))).filter((one) => one !== undefined);
  } catch {
    return [];
  }
}

/** Undefined: it has ended. */
function look(pid: number): Relative | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in parentheses, may hold anything.
    const [state, parent, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' ? undefined : { pid, parent: Number(parent), born: rest[17] };
  } catch {
    return undefined;
  }
}
