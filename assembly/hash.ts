/**
 * XXH64 with seed 0, streaming: any split of the input into pieces gives the same digest.
 *
 * A stripe is 32 bytes, one u64 for each of four lanes. What does not fill a stripe waits in the
 * state (see `layout.ts` for its map). The digest only reads the state.
 */
import { HASH_BUFFER, HASH_FILL, HASH_LANES, HASH_STATE_BYTES, HASH_TOTAL } from './layout';

const PRIME1: u64 = 0x9e3779b185ebca87;
const PRIME2: u64 = 0xc2b2ae3d27d4eb4f;
const PRIME3: u64 = 0x165667b19e3779f9;
const PRIME4: u64 = 0x85ebca77c2b2ae63;
const PRIME5: u64 = 0x27d4eb2f165667c5;
const STRIPE: usize = 32;

function round(lane: u64, input: u64): u64 {
  return rotl<u64>(lane + input * PRIME2, 31) * PRIME1;
}

function merge(hash: u64, lane: u64): u64 {
  return (hash ^ round(0, lane)) * PRIME1 + PRIME4;
}

export function hashReset(state: usize): void {
  memory.fill(state, 0, HASH_STATE_BYTES);
  store<u64>(state, PRIME1 + PRIME2, HASH_LANES);
  store<u64>(state, PRIME2, HASH_LANES + 8);
  store<u64>(state, 0, HASH_LANES + 16);
  store<u64>(state, 0 - PRIME1, HASH_LANES + 24);
}

/** Runs whole stripes from `p` up to `end` through the lanes. */
function stripes(state: usize, from: usize, end: usize): void {
  let lane0 = load<u64>(state, HASH_LANES);
  let lane1 = load<u64>(state, HASH_LANES + 8);
  let lane2 = load<u64>(state, HASH_LANES + 16);
  let lane3 = load<u64>(state, HASH_LANES + 24);
  for (let p = from; p < end; p += STRIPE) {
    lane0 = round(lane0, load<u64>(p));
    lane1 = round(lane1, load<u64>(p, 8));
    lane2 = round(lane2, load<u64>(p, 16));
    lane3 = round(lane3, load<u64>(p, 24));
  }
  store<u64>(state, lane0, HASH_LANES);
  store<u64>(state, lane1, HASH_LANES + 8);
  store<u64>(state, lane2, HASH_LANES + 16);
  store<u64>(state, lane3, HASH_LANES + 24);
}

export function hashUpdate(state: usize, address: usize, length: usize): void {
  store<u64>(state, load<u64>(state, HASH_TOTAL) + <u64>length, HASH_TOTAL);
  const buffer = state + HASH_BUFFER;
  // The mask costs nothing and keeps a state nobody has reset inside its own window.
  let fill = <usize>load<u32>(state, HASH_FILL) & (STRIPE - 1);
  let p = address;
  let left = length;
  if (fill > 0) {
    const taken = min(STRIPE - fill, left);
    memory.copy(buffer + fill, p, taken);
    fill += taken;
    p += taken;
    left -= taken;
    if (fill == STRIPE) {
      stripes(state, buffer, buffer + STRIPE);
      fill = 0;
    }
  }
  if (left > 0) {
    const end = p + (left & ~(STRIPE - 1));
    stripes(state, p, end);
    fill = left & (STRIPE - 1);
    memory.copy(buffer, end, fill);
  }
  store<u32>(state, <u32>fill, HASH_FILL);
}

export function hashDigest(state: usize): u64 {
  const total = load<u64>(state, HASH_TOTAL);
  let hash = PRIME5;
  if (total >= <u64>STRIPE) {
    const lane0 = load<u64>(state, HASH_LANES);
    const lane1 = load<u64>(state, HASH_LANES + 8);
    const lane2 = load<u64>(state, HASH_LANES + 16);
    const lane3 = load<u64>(state, HASH_LANES + 24);
    hash = rotl<u64>(lane0, 1) + rotl<u64>(lane1, 7) + rotl<u64>(lane2, 12) + rotl<u64>(lane3, 18);
    hash = merge(merge(merge(merge(hash, lane0), lane1), lane2), lane3);
  }
  hash += total;
  let p = state + HASH_BUFFER;
  const end = p + (<usize>load<u32>(state, HASH_FILL) & (STRIPE - 1));
  for (; p + 8 <= end; p += 8) {
    hash = rotl<u64>(hash ^ round(0, load<u64>(p)), 27) * PRIME1 + PRIME4;
  }
  if (p + 4 <= end) {
    hash = rotl<u64>(hash ^ (<u64>load<u32>(p) * PRIME1), 23) * PRIME2 + PRIME3;
    p += 4;
  }
  for (; p < end; p++) {
    hash = rotl<u64>(hash ^ (<u64>load<u8>(p) * PRIME5), 11) * PRIME1;
  }
  hash = (hash ^ (hash >> 33)) * PRIME2;
  hash = (hash ^ (hash >> 29)) * PRIME3;
  return hash ^ (hash >> 32);
}
