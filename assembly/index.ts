/** What the kernel exports. Nothing but numbers crosses this line. */
export { arenaStart } from './layout';
export { copy, diff, diffCopy, fill, nonZero } from './block';
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
export { hashDigest, hashReset, hashUpdate } from './hash';
