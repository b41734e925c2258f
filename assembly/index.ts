/** What the kernel exports. Nothing but numbers crosses this line. */

export {
  and,
  andNot,
  clearRange,
  count,
  nextClear,
  nextSet,
  or,
  setRange,
  xor,
} from './bitmap';
export { copy, diff, diffCopy, fill, nonZero } from './block';
export { hashDigest, hashReset, hashUpdate } from './hash';
export { arenaStart } from './layout';
