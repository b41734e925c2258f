/** Every limit that a user, a peer or a file could run into, each with its unit and its source. */

/** Smallest and largest tracking unit, bytes (DESIGN section 4); a power of two. */
export const REGION_SIZE_MIN = 4096;
export const REGION_SIZE_MAX = 4 * 1024 * 1024;
export const REGION_SIZE_DEFAULT = 64 * 1024;

/** The block of GDS tables and options, bytes (gds.md section 9). */
export const BLOCK_SIZE = 512;

/** Object names: 1 to 32 characters; of a single disk 28 (gds.md section 9). */
export const NAME_LENGTH_MAX = 32;
export const SINGLE_DISK_NAME_LENGTH_MAX = 28;

/** Proxies of one master (gds.md section 9: slices of the family). */
export const PROXIES_MAX = 32;

/** Largest image, bytes: at 4 PiB every offset is a safe integer, with room for arithmetic. */
export const IMAGE_SIZE_MAX = 2 ** 52;

/** One piece of a stream into or out of a volume, and of a copy with `delay=`, bytes. */
export const CHUNK_SIZE = 1024 * 1024;
/**
 * One transfer of a copy that reads both sides, bytes: with its twin it stays in the cache of one
 * core (1 MiB on many servers). Four times as much takes 6 to 15 % more time, a quarter as much too.
 */
export const COPY_CHUNK_SIZE = 256 * 1024;
/** What one worker is handed at a time, bytes. */
export const TASK_SIZE = 32 * 1024 * 1024;
/** Copy workers: more than this gains nothing on local disks. */
export const WORKERS_MAX = 4;

/** Hot extent of the intent log, bytes: at least a region (DESIGN section 5 rule 1). */
export const EXTENT_SIZE = 4 * 1024 * 1024;
/** Hot extents of one class: the log stays one page. */
export const EXTENTS_MAX = 240;

/** Identities of the images are recorded this often while a class is open, ms. */
export const HEARTBEAT_MS = 5000;
/** `delay=` of the manual's commands, ms (gds.md section 9). */
export const DELAY_MS_MAX = 1000;
/** How long a service may stand still for an instant, ms: by default, and at most (a day). */
export const QUIESCE_MS_DEFAULT = 30_000;
export const QUIESCE_MS_MAX = 24 * 3600 * 1000;
/** What is waited beyond that for somebody who should have answered by then, ms. */
export const QUIESCE_SLACK_MS = 5000;
/** Catalog root, bytes: a larger file is not one of ours. */
export const ROOT_LENGTH_MAX = 64 * 1024 * 1024;
