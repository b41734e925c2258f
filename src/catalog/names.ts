/** Names of classes, disks and volumes by the manual's rules (gds.md section 9). */

import { KageError } from '../base/errors.ts';
import { NAME_LENGTH_MAX } from '../base/limits.ts';

/** Throws `bad-name` unless the name has 1 to `lengthMax` letters, digits, `-`, `_`, the first a letter or digit. */
export function validateName(kind: string, name: string, lengthMax = NAME_LENGTH_MAX): void {
  const fault =
    name.length === 0
      ? 'is empty'
      : name.length > lengthMax
        ? `has ${name.length} characters, at most ${lengthMax} are allowed`
        : !/^[A-Za-z0-9]/.test(name)
          ? 'must begin with a letter or a digit'
          : !/^[A-Za-z0-9_-]+$/.test(name)
            ? 'may hold letters, digits, `-` and `_` only'
            : null;
  if (fault !== null) {
    throw new KageError('bad-name', `${kind} name '${name}' ${fault}`, { data: { name } });
  }
}

/** A volume name from a file's: `vm.proxy.img` gives `vm-proxy`. */
export function nameFromPath(path: string): string {
  // Of a URI the name of the export, without what says where its server is.
  const place = /^nbds?(\+unix)?:/.test(path) ? path.replace(/\?.*$/, '') : path;
  const base = place
    .slice(place.lastIndexOf('/') + 1)
    .replace(/\.(img|raw|dd|bin|iso|image|disk)$/i, '');
  const name = base
    .replace(/[^A-Za-z0-9_-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .replace(/-+$/, '');
  return name.slice(0, NAME_LENGTH_MAX) || 'volume';
}

/** `base`, or `base-2`, `base-3`… shortened to `lengthMax`, whatever is not taken. */
export function freeName(
  base: string,
  taken: ReadonlySet<string>,
  lengthMax = NAME_LENGTH_MAX,
): string {
  let name = base.slice(0, lengthMax);
  for (let n = 2; taken.has(name); n++) {
    const suffix = `-${n}`;
    name = base.slice(0, lengthMax - suffix.length) + suffix;
  }
  return name;
}
