/**
 * Every verb in every state of a pair: what DESIGN section 4 allows is done and leaves the state
 * that it names (as a process), everything else is refused with 13 and changes nothing.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runHere } from '../support/here.ts';
import { expectJson, expectText } from '../support/refusals.ts';
import { bringTo, STATES, type StateName } from '../support/states.ts';
import { each, inWorld, samePhotos, type World } from '../support/world.ts';

const test = suite('e2e: verbs in wrong states');

const VERBS = {
  join: ['join', 'vm', 'vm-proxy'],
  relate: ['relate', 'vm', 'vm-proxy'],
  part: ['part', 'vm-proxy'],
  rejoin: ['rejoin', 'vm-proxy'],
  restore: ['restore', 'vm-proxy'],
  keep: ['restore', 'vm-proxy', '--keep'],
  update: ['update', 'vm-proxy'],
  swap: ['swap', 'vm-proxy'],
  cancel: ['cancel', 'vm-proxy'],
  break: ['break', 'vm-proxy'],
  'break --restore': ['break', 'vm-proxy', '--restore'],
  'start proxy': ['start', 'vm-proxy'],
  'start master': ['start', 'vm'],
  'write proxy': ['write', 'vm-proxy'],
  'write master': ['write', 'vm'],
  'read proxy': ['read', 'vm-proxy', '--length', '512'],
  'remove proxy': ['remove', 'vm-proxy'],
  'remove master': ['remove', 'vm'],
  'fix proxy': ['fix', 'vm-proxy'],
  'fix master': ['fix', 'vm'],
  'part master': ['part', 'vm'],
} as const satisfies Record<string, readonly string[]>;

type VerbName = keyof typeof VERBS;

/** What a verb leads to: a state as `info` calls it, `-` when the pair is gone, `=` no change. */
type Outcome = string;

/** Verbs that are allowed, by state; all others are refused. */
const ALLOWED: Readonly<Record<StateName, Partial<Record<VerbName, Outcome>>>> = {
  unrelated: {
    join: 'joined',
    relate: 'parted',
    'start proxy': '-',
    'start master': '-',
    'write proxy': '-',
    'write master': '-',
    'read proxy': '-',
    'remove proxy': '-',
    'remove master': '-',
  },
  // Part and swap finish the copy first: without a server the user waits for it either way.
  joining: {
    join: 'joined',
    rejoin: 'joined',
    part: 'parted',
    swap: 'joined',
    break: '-',
    'break --restore': '-',
    'start master': 'joining',
    'write master': 'joining',
  },
  joined: {
    part: 'parted',
    swap: 'joined',
    break: '-',
    'break --restore': '-',
    'start master': 'joined',
    'write master': 'joined',
  },
  parted: {
    rejoin: 'joined',
    restore: 'joined',
    keep: 'parted',
    update: 'parted',
    cancel: 'parted',
    break: '-',
    'break --restore': '-',
    'start proxy': 'parted',
    'start master': 'parted',
    'write proxy': 'parted',
    'write master': 'parted',
    'read proxy': 'parted',
  },
  copying: {
    rejoin: 'joined',
    update: 'parted',
    cancel: 'invalid',
    break: '-',
    'break --restore': '-',
    'start master': 'copying',
    'write master': 'copying',
  },
  restoring: { restore: 'joined', 'break --restore': '-' },
  'restoring-keep': {
    restore: 'joined',
    keep: 'parted',
    cancel: 'invalid',
    'break --restore': '-',
    'start proxy': 'restoring',
    'write proxy': 'restoring',
    'read proxy': 'restoring',
  },
  'invalid-proxy': {
    rejoin: 'joined',
    update: 'parted',
    cancel: 'invalid',
    break: '-',
    'break --restore': '-',
    'start master': 'invalid',
    'write master': 'invalid',
    'fix proxy': 'parted',
  },
  'invalid-master': {
    restore: 'joined',
    keep: 'parted',
    cancel: 'invalid',
    break: '-',
    'break --restore': '-',
    'start proxy': 'invalid',
    'write proxy': 'invalid',
    'read proxy': 'invalid',
    'fix master': 'parted',
  },
};

const REFUSED = { code: 'wrong-state' as const, says: /vm/ };
/** Between them every verb is refused once in words. */
const IN_WORDS: readonly StateName[] = ['unrelated', 'restoring'];

async function refuses(w: World, state: StateName, name: VerbName): Promise<void> {
  const before = w.photograph();
  const args = [...VERBS[name], ...(IN_WORDS.includes(state) ? [] : ['--json'])];
  const ended = await runHere(w, args, 'data');
  if (args.includes('--json')) expectJson(ended, REFUSED);
  else expectText(ended, REFUSED);
  samePhotos(before, w.photograph());
}

async function allows(state: StateName, name: VerbName, outcome: Outcome): Promise<void> {
  await inWorld(async (w) => {
    await bringTo(w, state);
    const ended = await w.run(VERBS[name], { input: 'data' });
    assert.is(ended.status, 0, ended.stderr);
    const info = await w.engine((disks) => disks.info());
    assert.is(info.pairs[0]?.state ?? '-', outcome);
    if (outcome === 'joined') assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'));
  });
}

for (const state of STATES) {
  const names = Object.keys(VERBS) as VerbName[];
  // `read` prints data, so it has no JSON form, and refuses it as a mistake of usage.
  const refused = names.filter(
    (n) => !ALLOWED[state][n] && (n !== 'read proxy' || IN_WORDS.includes(state)),
  );

  test(`${state}: refused`, () =>
    inWorld(async (w) => {
      await bringTo(w, state);
      await each(
        refused,
        (name) => name,
        (name) => refuses(w, state, name),
        1,
      );
    }));

  test(`${state}: allowed`, () =>
    each(
      Object.entries(ALLOWED[state]) as [VerbName, Outcome][],
      ([name]) => name,
      ([name, outcome]) => allows(state, name, outcome),
    ));
}

test.run();
