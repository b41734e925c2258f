/**
 * The library: open a class of disk images, run the verbs on its volumes, follow the copies. See
 * `docs/library.md` for an example that runs.
 */

export { ERRORS, type ErrorCode, EXIT, KageError } from './base/errors.ts';
export type * from './engine/api.ts';
export { followProgress } from './engine/follow.ts';
export { copyImage, diffImages } from './engine/images.ts';
export {
  type EngineOptions,
  findImage,
  listClasses,
  openClass,
  readClass,
  reopenCatalog,
} from './engine/open.ts';
