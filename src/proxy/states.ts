/**
 * The state table of a pair, as data: which verb is allowed when and what it does, what a client's
 * read, write and flush consist of, how the copier works, what recovery does, and which rule of the
 * order of writes each step stands for. The engine executes these rows, the brute-force model checks
 * them, the documents show them. Nothing here does anything.
 *
 * A pair is: `joined`, `direction` with the map `pending` (regions of the copy's target that still
 * have to be taken from its source), the map `changed` (parted: regions whose logical content may
 * differ), the map `increment` (what differs from the previous part). A pending region of the target
 * *has the source's content*. Every state of the manual is derived from these, never stored.
 */

export type Direction = 'toProxy' | 'toMaster';
export type Side = 'master' | 'proxy';

export type Verb =
  | 'join'
  | 'relate'
  | 'part'
  | 'rejoin'
  | 'restore'
  | 'restoreKeep'
  | 'update'
  | 'swap'
  | 'cancel'
  | 'break';

/** What a verb makes of a map, from the maps before it. */
export type MapExpression = 'keep' | 'none' | 'all' | 'pending|changed';

export type VerbRow = {
  /** Relation before. */
  readonly from: 'unrelated' | 'joined' | 'parted' | 'related';
  /**
   * Which copy may be unfinished: `none`; `toProxy` or `toMaster` (or none); `any`; `instant` =
   * none, or with --instant also toProxy; `restore` = none or toProxy, with --restore any.
   */
  readonly unfinished: 'none' | 'toProxy' | 'toMaster' | 'any' | 'instant' | 'restore';
  /** The side whose content the verb relies on; it must not be INVALID. */
  readonly source: Side | null;
  /** The side whose content the verb gives up; its INVALID mark ends with the commit. */
  readonly target: Side | null;
  /** Volumes that must be stopped (nobody uses them). */
  readonly stopped: readonly Side[];
  /** Relation after; `gone` = unrelated. */
  readonly joined: boolean | 'gone' | 'keep';
  readonly direction: Direction | 'keep';
  readonly pending: MapExpression;
  readonly changed: MapExpression;
  /** `frozen`: the map as filled so far becomes what a backup pulls. */
  readonly increment: MapExpression | 'frozen';
  /** An unfinished copy's target becomes INVALID. */
  readonly abandons: boolean;
  /** Siblings take the regions that this verb makes pending on the master. */
  readonly spreads: boolean;
};

export const VERBS: Readonly<Record<Verb, VerbRow>> = {
  join: {
    from: 'unrelated',
    unfinished: 'none',
    source: 'master',
    target: 'proxy',
    stopped: ['proxy'],
    joined: true,
    direction: 'toProxy',
    pending: 'all',
    changed: 'none',
    increment: 'all',
    abandons: false,
    spreads: false,
  },
  relate: {
    from: 'unrelated',
    unfinished: 'none',
    source: null,
    target: null,
    stopped: [],
    joined: false,
    direction: 'toProxy',
    pending: 'none',
    changed: 'all',
    increment: 'all',
    abandons: false,
    spreads: false,
  },
  part: {
    from: 'joined',
    unfinished: 'instant',
    source: 'master',
    target: null,
    stopped: [],
    joined: false,
    direction: 'keep',
    pending: 'keep',
    changed: 'none',
    increment: 'frozen',
    abandons: false,
    spreads: false,
  },
  rejoin: {
    from: 'parted',
    unfinished: 'toProxy',
    source: 'master',
    target: 'proxy',
    stopped: ['proxy'],
    joined: true,
    direction: 'toProxy',
    pending: 'pending|changed',
    changed: 'none',
    increment: 'pending|changed',
    abandons: false,
    spreads: false,
  },
  restore: {
    from: 'parted',
    unfinished: 'toMaster',
    source: 'proxy',
    target: 'master',
    stopped: ['master', 'proxy'],
    joined: true,
    direction: 'toMaster',
    pending: 'pending|changed',
    changed: 'none',
    increment: 'pending|changed',
    abandons: false,
    spreads: true,
  },
  restoreKeep: {
    from: 'parted',
    unfinished: 'toMaster',
    source: 'proxy',
    target: 'master',
    stopped: ['master', 'proxy'],
    joined: false,
    direction: 'toMaster',
    pending: 'pending|changed',
    changed: 'none',
    increment: 'keep',
    abandons: false,
    spreads: true,
  },
  update: {
    from: 'parted',
    unfinished: 'toProxy',
    source: 'master',
    target: 'proxy',
    stopped: ['proxy'],
    joined: false,
    direction: 'toProxy',
    pending: 'pending|changed',
    changed: 'none',
    increment: 'pending|changed',
    abandons: false,
    spreads: false,
  },
  swap: {
    from: 'joined',
    unfinished: 'none',
    source: 'master',
    target: null,
    stopped: [],
    joined: 'keep',
    direction: 'keep',
    pending: 'keep',
    changed: 'keep',
    increment: 'keep',
    abandons: false,
    spreads: false,
  },
  cancel: {
    from: 'parted',
    unfinished: 'any',
    source: null,
    target: null,
    stopped: [],
    joined: 'keep',
    direction: 'keep',
    pending: 'none',
    changed: 'pending|changed',
    increment: 'keep',
    abandons: true,
    spreads: false,
  },
  break: {
    from: 'related',
    unfinished: 'restore',
    source: null,
    target: null,
    stopped: [],
    joined: 'gone',
    direction: 'keep',
    pending: 'none',
    changed: 'none',
    increment: 'none',
    abandons: true,
    spreads: false,
  },
};

/** Verbs that copy towards the proxy: they wait while a sibling restores the master. */
export const WAITS_FOR_RESTORE: readonly Verb[] = ['join', 'rejoin', 'update'];

/**
 * The rules of the order of writes. Each is what a step below is there for; the model switches one
 * off at a time and must then find data that is lost.
 */
export const RULES = {
  'intent-first': 'a hot extent is durable before a write that could make the sides differ',
  'mark-changed': 'a write while parted marks its region changed',
  'mirror-joined': 'a write while joined goes to both sides',
  'fill-target': 'a partial write of a pending target region first takes the rest from the source',
  'preserve-target': 'a source region is copied to the target before it is overwritten',
  'preserve-durable':
    'preserved content is synced before its bit is cleared and the source written',
  'clear-before-source': 'the pending bit is durably clear before the source is overwritten',
  'settle-before-source': 'a source write settles a filled region before it overwrites the source',
  'sync-source': 'a bit is cleared only after the source, too, was synced since it was read',
  'sync-target': 'a bit is cleared only after the target was synced since it was written',
  'flush-mirror': 'a flush while joined covers both sides: either disk alone has what was flushed',
  'flush-clears': 'a flush durably clears the pending bits of what it covers',
  'evict-syncs': 'a joined extent leaves the log only after both sides were synced',
  'evict-marks': 'a parted extent leaves the log only when its changed bits are durable',
  'verb-settles': 'a verb settles all regions before its commit',
  'verb-syncs-source': 'a verb syncs its source before its commit',
  'verb-syncs-target': 'a verb syncs its target before its commit',
  'log-survives': 'a verb never clears the intent log',
  'union-maps': 'rejoin, restore and update take the union of pending and changed',
  'cancel-keeps': 'cancel keeps what was pending as changed',
  'spread-restore': 'siblings take the regions a restore brings to the master',
  'spread-turns': 'a joined sibling takes them from the master, whichever way it copied before',
  'restore-waits': 'a restore waits for a snapshot copy that a sibling takes from the master',
  'copier-source': 'nothing is copied from an INVALID side',
  'copier-waits': 'a copier leaves a region alone that its source durably takes from elsewhere',
  'switch-holds-log': 'no extent leaves the log between a switch in memory and its commit',
  'switch-holds-target': 'nothing is written to the side that a verb gives up before its commit',
  'recover-hot': 'after a crash a hot region is copied again or marked changed',
  'recover-pending': 'a hot region that is pending stays so: its content is in the source',
  'recover-direction': 'other hot regions are made equal from the master: it needs no proxy anew',
} as const;

export type Rule = keyof typeof RULES;

/** Steps of a client's write of one region, for one pair, in this order. */
export const WRITE_ORDER = [
  'settle', // sync source and target, clear the settling bit durably
  'intent', // the hot extent, durable
  'preserve', // old content: source to target
  'sync-source',
  'sync-target',
  'clear', // the pending bit, durably
  'fill', // the rest of the region: source to target
  'mark', // the changed bit, in memory
  'write', // the volume that the client writes
  'mirror', // the other side of a joined pair
  'settling', // the pending bit, in memory: reads use the target from now on
] as const;

export type WriteStep = (typeof WRITE_ORDER)[number];

export type WriteSituation = {
  readonly joined: boolean;
  /** The region is pending on the target of the pair's direction. */
  readonly pending: boolean;
  /** The region was filled and is not yet durably clear. */
  readonly settling: boolean;
  /** The written volume's part in the pair's copy direction. */
  readonly role: 'source' | 'target';
};

type WriteRow = Omit<WriteSituation, 'settling'> & { readonly steps: readonly WriteStep[] };

export const WRITES: readonly WriteRow[] = [
  {
    joined: true,
    pending: true,
    role: 'target',
    steps: ['intent', 'fill', 'write', 'mirror', 'settling'],
  },
  // The copier will bring it: the region is durably pending already.
  { joined: true, pending: true, role: 'source', steps: ['write'] },
  { joined: true, pending: false, role: 'target', steps: ['intent', 'write', 'mirror'] },
  { joined: true, pending: false, role: 'source', steps: ['intent', 'write', 'mirror'] },
  {
    joined: false,
    pending: true,
    role: 'target',
    steps: ['intent', 'fill', 'mark', 'write', 'settling'],
  },
  {
    joined: false,
    pending: true,
    role: 'source',
    steps: ['intent', 'preserve', 'sync-source', 'sync-target', 'clear', 'mark', 'write'],
  },
  { joined: false, pending: false, role: 'target', steps: ['intent', 'mark', 'write'] },
  { joined: false, pending: false, role: 'source', steps: ['settle', 'intent', 'mark', 'write'] },
];

/** Which rule a step of a write stands for; a step without one is the write itself. */
export const WRITE_RULES: Readonly<Partial<Record<WriteStep, Rule>>> = {
  settle: 'settle-before-source',
  intent: 'intent-first',
  preserve: 'preserve-target',
  'sync-target': 'preserve-durable',
  clear: 'clear-before-source',
  fill: 'fill-target',
  mark: 'mark-changed',
  mirror: 'mirror-joined',
};

/** What a batch of the copier consists of. */
export const COPY_STEPS = ['read', 'write', 'sync-source', 'sync-target', 'clear'] as const;
/** How a flush of one volume is answered, per pair. */
export const FLUSH_STEPS = ['sync-own', 'sync-mirror', 'sync-source', 'clear'] as const;
/** How an extent leaves the intent log. */
export const EVICT_STEPS = {
  joined: ['sync-source', 'sync-target', 'leave'],
  parted: ['mark-durable', 'leave'],
} as const;
/** What every verb does around its row. */
export const VERB_STEPS = ['settle', 'sync-source', 'sync-target', 'commit'] as const;

/** Which rule each of these steps stands for. */
export const COPY_RULES = {
  'sync-source': 'sync-source',
  'sync-target': 'sync-target',
} as const;
export const FLUSH_RULES = {
  'sync-mirror': 'flush-mirror',
  'sync-source': 'sync-source',
  clear: 'flush-clears',
} as const;
export const EVICT_RULES = {
  'sync-source': 'evict-syncs',
  'sync-target': 'evict-syncs',
  'mark-durable': 'evict-marks',
} as const;
export const VERB_RULES = {
  settle: 'verb-settles',
  'sync-source': 'verb-syncs-source',
  'sync-target': 'verb-syncs-target',
} as const;
