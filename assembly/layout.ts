/**
 * The map of linear memory: what lies where, and the few numbers all of the kernel shares.
 *
 *     address 0              4096 (ARENA_START at least)                      end of memory
 *     ┌──────────────────────┬────────────┬──────────┬───────────┬─ ─ ─ ─ ─ ─┐
 *     │ page zero: of nobody │ window     │ window   │ free      │ may grow  │
 *     │ (and static data)    │            │          │           │           │
 *     └──────────────────────┴────────────┴──────────┴───────────┴─ ─ ─ ─ ─ ─┘
 *                            └── the arena, cut into windows by the facade's allocator ──┘
 *
 * - Windows start at multiples of 4096 and are whole pages long, but the functions here take any
 *   address and any length: nothing is assumed to be aligned except a hash state.
 * - Bit `i` of a bitmap at `p` is bit `i & 7` (least significant first) of byte `p + (i >> 3)`.
 * - Addresses and lengths are u32. The facade never grows memory to the last 64 KiB of the address
 *   space, so that `address + length` and one block beyond it never wrap around.
 * - Bit indices are f64 at the boundary and i64 inside: 4 GiB of bitmap hold 2^35 bits.
 *
 * A hash state (80 bytes, 8-byte aligned):
 *
 *     0       8       16      24      32      40                              72  76   80
 *     ┌───────┬───────┬───────┬───────┬───────┬───────────────────────────────┬───┬────┐
 *     │ total │ lane0 │ lane1 │ lane2 │ lane3 │ bytes of an incomplete stripe │ n │ 0  │
 *     └───────┴───────┴───────┴───────┴───────┴───────────────────────────────┴───┴────┘
 *
 * The release build has no assertions and no bounds of its own: the facade checks every argument.
 */

/** The granularity of windows, in bytes: what direct I/O wants. */
export const PAGE: usize = 4096;

/**
 * Bytes one turn of the compare loop and of the zero test looks at. Both keep eight to ten vectors
 * alive; twice as many and V8's code spills registers and loses a fifth.
 */
export const BLOCK: usize = 128;
export const ZERO_BLOCK: usize = 256;

export const HASH_TOTAL: usize = 0;
export const HASH_LANES: usize = 8;
export const HASH_BUFFER: usize = 40;
export const HASH_FILL: usize = 72;
export const HASH_STATE_BYTES: usize = 80;

/** Where the arena begins: the first page after static data. */
export function arenaStart(): usize {
  return (__heap_base + PAGE - 1) & ~(PAGE - 1);
}
