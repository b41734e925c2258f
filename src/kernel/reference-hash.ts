/**
 * XXH64, plainly. The lanes run on 32-bit halves, since BigInt allocates at every step. The digest,
 * once a stream, is BigInt and follows the specification line by line.
 */
import type { Operations } from './facade.ts';
import { HASH_STATE_BYTES } from './kernel.ts';
import type { TwinMemory } from './reference.ts';

type HashOperations = Pick<Operations, 'hashReset' | 'hashUpdate' | 'hashDigest'>;

const STRIPE_BYTES = 32;

// Offsets in the state; `assembly/layout.ts` draws them.
const TOTAL = 0;
const LANES = 8;
const BUFFER = 40;
const FILL = 72;

const PRIME1 = 0x9e3779b185ebca87n;
const PRIME2 = 0xc2b2ae3d27d4eb4fn;
const PRIME3 = 0x165667b19e3779f9n;
const PRIME4 = 0x85ebca77c2b2ae63n;
const PRIME5 = 0x27d4eb2f165667c5n;
const PRIME1_LOW = 0x85ebca87 | 0;
const PRIME1_HIGH = 0x9e3779b1 | 0;
const PRIME2_LOW = 0x27d4eb4f | 0;
const PRIME2_HIGH = 0xc2b2ae3d | 0;

/** Bits 32 to 63 of a 64-bit product; the lower half is `Math.imul(aLow, bLow)`. */
function productHigh(aLow: number, aHigh: number, bLow: number, bHigh: number): number {
  const a0 = aLow & 0xffff;
  const a1 = aLow >>> 16;
  const b0 = bLow & 0xffff;
  const b1 = bLow >>> 16;
  const cross = Math.imul(a1, b0);
  const other = Math.imul(a0, b1);
  // The halves of the cross products are added apart: no sum passes 31 bits, all stays integer.
  const middle = (Math.imul(a0, b0) >>> 16) + (cross & 0xffff) + (other & 0xffff);
  const low = Math.imul(a1, b1) + (cross >>> 16) + (other >>> 16) + (middle >>> 16);
  return (low + Math.imul(aLow, bHigh) + Math.imul(aHigh, bLow)) | 0;
}

/** One lane takes in one 64-bit word: add its product, rotate by 31, multiply. */
function takeIn(lanes: Int32Array, lane: number, low: number, high: number): void {
  const productLow = Math.imul(low, PRIME2_LOW);
  const sumLow = (lanes[lane] + productLow) | 0;
  const carry = sumLow >>> 0 < productLow >>> 0 ? 1 : 0;
  const sumHigh = (lanes[lane + 1] + productHigh(low, high, PRIME2_LOW, PRIME2_HIGH) + carry) | 0;
  const turnedLow = (sumLow << 31) | (sumHigh >>> 1);
  const turnedHigh = (sumHigh << 31) | (sumLow >>> 1);
  lanes[lane] = Math.imul(turnedLow, PRIME1_LOW);
  lanes[lane + 1] = productHigh(turnedLow, turnedHigh, PRIME1_LOW, PRIME1_HIGH);
}

/** Little-endian, at any address. */
function readWord(u8: Uint8Array, p: number): number {
  return u8[p] | (u8[p + 1] << 8) | (u8[p + 2] << 16) | (u8[p + 3] << 24);
}

/** Runs whole stripes of [start, end) through the lanes of a state. */
function stripes(memory: TwinMemory, state: number, start: number, end: number): void {
  const { u8 } = memory;
  const view = new DataView(u8.buffer, state, HASH_STATE_BYTES);
  const lanes = new Int32Array(8);
  for (let i = 0; i < 8; i++) lanes[i] = view.getInt32(LANES + i * 4, true);
  for (let p = start; p < end; p += STRIPE_BYTES) {
    takeIn(lanes, 0, readWord(u8, p), readWord(u8, p + 4));
    takeIn(lanes, 2, readWord(u8, p + 8), readWord(u8, p + 12));
    takeIn(lanes, 4, readWord(u8, p + 16), readWord(u8, p + 20));
    takeIn(lanes, 6, readWord(u8, p + 24), readWord(u8, p + 28));
  }
  for (let i = 0; i < 8; i++) view.setInt32(LANES + i * 4, lanes[i], true);
}

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const rotl = (value: bigint, bits: bigint): bigint =>
  u64((value << bits) | (value >> (64n - bits)));
const round = (lane: bigint, input: bigint): bigint =>
  u64(rotl(u64(lane + input * PRIME2), 31n) * PRIME1);

function digest(view: DataView): bigint {
  const total = view.getBigUint64(TOTAL, true);
  let hash = PRIME5;
  if (total >= STRIPE_BYTES) {
    const lanes = [0, 8, 16, 24].map((offset) => view.getBigUint64(LANES + offset, true));
    hash = u64(rotl(lanes[0], 1n) + rotl(lanes[1], 7n) + rotl(lanes[2], 12n) + rotl(lanes[3], 18n));
    for (const lane of lanes) hash = u64((hash ^ round(0n, lane)) * PRIME1 + PRIME4);
  }
  hash = u64(hash + total);
  let p = BUFFER;
  const end = BUFFER + (view.getUint32(FILL, true) % STRIPE_BYTES);
  for (; p + 8 <= end; p += 8) {
    hash = u64(rotl(hash ^ round(0n, view.getBigUint64(p, true)), 27n) * PRIME1 + PRIME4);
  }
  if (p + 4 <= end) {
    const word = BigInt(view.getUint32(p, true));
    hash = u64(rotl(hash ^ u64(word * PRIME1), 23n) * PRIME2 + PRIME3);
    p += 4;
  }
  for (; p < end; p++) {
    const byte = BigInt(view.getUint8(p));
    hash = u64(rotl(hash ^ u64(byte * PRIME5), 11n) * PRIME1);
  }
  hash = u64((hash ^ (hash >> 33n)) * PRIME2);
  hash = u64((hash ^ (hash >> 29n)) * PRIME3);
  return hash ^ (hash >> 32n);
}

export function hashOperations(memory: TwinMemory): HashOperations {
  const viewOf = (state: number) => new DataView(memory.u8.buffer, state, HASH_STATE_BYTES);

  return {
    hashReset: (state) => {
      memory.u8.fill(0, state, state + HASH_STATE_BYTES);
      const view = viewOf(state);
      view.setBigUint64(LANES, u64(PRIME1 + PRIME2), true);
      view.setBigUint64(LANES + 8, PRIME2, true);
      view.setBigUint64(LANES + 24, u64(-PRIME1), true);
    },
    hashUpdate: (state, address, length) => {
      const { u8 } = memory;
      const view = viewOf(state);
      view.setBigUint64(TOTAL, u64(view.getBigUint64(TOTAL, true) + BigInt(length)), true);
      const buffer = state + BUFFER;
      let fill = view.getUint32(FILL, true) % STRIPE_BYTES;
      let p = address;
      let left = length;
      if (fill > 0) {
        const taken = Math.min(STRIPE_BYTES - fill, left);
        u8.copyWithin(buffer + fill, p, p + taken);
        fill += taken;
        p += taken;
        left -= taken;
        if (fill === STRIPE_BYTES) {
          stripes(memory, state, buffer, buffer + STRIPE_BYTES);
          fill = 0;
        }
      }
      if (left > 0) {
        fill = left % STRIPE_BYTES;
        const end = p + left - fill;
        stripes(memory, state, p, end);
        u8.copyWithin(buffer, end, end + fill);
      }
      view.setUint32(FILL, fill, true);
    },
    hashDigest: (state) => digest(viewOf(state)).toString(16).padStart(16, '0'),
  };
}
