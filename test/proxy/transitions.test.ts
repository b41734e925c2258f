import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Direction,
  RULES,
  type Rule,
  VERBS,
  type Verb,
  WRITE_ORDER,
  WRITE_RULES,
  WRITES,
} from '../../src/proxy/states.ts';
import {
  copierWaits,
  evictionWaits,
  keptSteps,
  mapAfter,
  type PairView,
  readFrom,
  recoverHot,
  refusal,
  spreadsTo,
  stateOf,
  stepIndex,
  type VerbOptions,
  writeSteps,
  writeWaits,
} from '../../src/proxy/transitions.ts';

const test = suite('proxy transitions');

function view(joined: boolean, direction: Direction, pendingEmpty: boolean): PairView {
  return { joined, direction, pendingEmpty, masterValid: true, proxyValid: true };
}

const JOINED = view(true, 'toProxy', true);
const JOINING = view(true, 'toProxy', false);
const RESTORING = view(true, 'toMaster', false);
const PARTED = view(false, 'toProxy', true);
const COPYING = view(false, 'toProxy', false);
const RESTORING_KEPT = view(false, 'toMaster', false);

const STATES: readonly (PairView | undefined)[] = [
  ...[undefined, JOINED, JOINING, RESTORING, PARTED, COPYING, RESTORING_KEPT],
];

/** A verb as it is typed: `part --instant`. */
function keyOf(typed: string, pair: PairView | undefined, siblings: readonly PairView[] = []) {
  const [verb, option] = typed.split(' --');
  const options: VerbOptions = option === undefined ? {} : { [option]: true };
  return refusal(verb as Verb, pair, options, siblings)?.key ?? 'ok';
}

// Columns: unrelated, joined, joining, restoring, parted, copying, restoring with the proxy kept.
const ALLOWED: Readonly<Record<string, string>> = {
  join: 'ok is-joined is-joined is-joined is-parted is-parted is-parted',
  relate: 'ok is-joined is-joined is-joined is-parted is-parted is-parted',
  part: 'is-unrelated ok copying-to-proxy copying-to-master is-parted is-parted is-parted',
  'part --instant': 'is-unrelated ok ok copying-to-master is-parted is-parted is-parted',
  rejoin: 'is-unrelated is-joined is-joined is-joined ok ok copying-to-master',
  restore: 'is-unrelated is-joined is-joined is-joined ok copying-to-proxy ok',
  restoreKeep: 'is-unrelated is-joined is-joined is-joined ok copying-to-proxy ok',
  update: 'is-unrelated is-joined is-joined is-joined ok ok copying-to-master',
  swap: 'is-unrelated ok copying-to-proxy copying-to-master is-parted is-parted is-parted',
  cancel: 'is-unrelated is-joined is-joined is-joined ok ok ok',
  break: 'is-unrelated ok ok copying-to-master ok ok copying-to-master',
  'break --restore': 'is-unrelated ok ok ok ok ok ok',
};

test('the table has a line for every verb', () => {
  for (const verb of Object.keys(VERBS)) assert.ok(ALLOWED[verb], verb);
});

for (const [typed, expected] of Object.entries(ALLOWED)) {
  test(`${typed} is allowed where the design says`, () => {
    assert.is(STATES.map((pair) => keyOf(typed, pair)).join(' '), expected);
  });
}

/** The typed verbs, of those that the states allow otherwise, that `pair` refuses with `key`. */
function refusedWith(key: string, pair: PairView, siblings: readonly PairView[] = []): string {
  return Object.keys(ALLOWED)
    .filter((typed) => keyOf(typed, pair, siblings) === key)
    .join(', ');
}

test('an INVALID side is no source', () => {
  const noMaster = { masterValid: false };
  const noProxy = { proxyValid: false };
  assert.is(refusedWith('master-invalid', { ...PARTED, ...noMaster }), 'rejoin, update');
  assert.is(
    refusedWith('master-invalid', { ...JOINED, ...noMaster }),
    'part, part --instant, swap',
  );
  assert.is(refusedWith('master-invalid', { ...JOINED, ...noMaster, related: false }), 'join');
  assert.is(refusedWith('proxy-invalid', { ...PARTED, ...noProxy }), 'restore, restoreKeep');
  assert.is(refusedWith('proxy-invalid', { ...JOINED, ...noProxy }), 'part, part --instant, swap');
  assert.is(refusedWith('proxy-invalid', { ...JOINED, ...noProxy, related: false }), '');
});

test('nothing is taken from a master that a sibling restores', () => {
  const key = 'sibling-restoring';
  for (const sibling of [RESTORING, RESTORING_KEPT]) {
    assert.is(keyOf('join', undefined, [JOINED, sibling]), key);
    assert.is(refusedWith(key, JOINED, [sibling]), 'part --instant, swap');
    assert.is(refusedWith(key, PARTED, [sibling]), 'rejoin, restore, restoreKeep, update');
  }
  assert.is(refusedWith(key, JOINED, [{ ...RESTORING, pendingEmpty: true }]), '');
});

test('a master is not restored under a snapshot that is still being taken', () => {
  assert.is(refusedWith('sibling-copying', PARTED, [COPYING]), 'restore, restoreKeep');
  assert.is(refusedWith('sibling-copying', PARTED, [JOINING, PARTED]), '');
  assert.is(refusedWith('sibling-copying', PARTED, [{ ...COPYING, proxyValid: false }]), '');
});

test('a refusal has words for people', () => {
  const unfinished = refusal('break', RESTORING);
  assert.match(unfinished?.reason ?? '', 'unfinished');
  assert.match(unfinished?.hint ?? '', '--restore');
});

test('a verb makes of a pair what the design says', () => {
  const effect = (verb: Verb) => {
    const { joined, direction, pending, changed, increment } = VERBS[verb];
    return [joined, direction, pending, changed, increment].join(' ');
  };
  assert.is(effect('join'), 'true toProxy all none all');
  assert.is(effect('relate'), 'false toProxy none all all');
  assert.is(effect('part'), 'false keep keep none frozen');
  assert.is(effect('rejoin'), 'true toProxy pending|changed none pending|changed');
  assert.is(effect('restore'), 'true toMaster pending|changed none pending|changed');
  assert.is(effect('restoreKeep'), 'false toMaster pending|changed none keep');
  assert.is(effect('update'), 'false toProxy pending|changed none pending|changed');
  assert.is(effect('swap'), 'keep keep keep keep keep');
  assert.is(effect('cancel'), 'keep keep none pending|changed keep');
  assert.is(effect('break'), 'gone keep none none none');
  const all = Object.keys(VERBS) as Verb[];
  assert.equal(
    all.filter((verb) => VERBS[verb].abandons),
    ['cancel', 'break'],
  );
  assert.equal(
    all.filter((verb) => VERBS[verb].spreads),
    ['restore', 'restoreKeep'],
  );
});

test('the word for a state is derived', () => {
  const words = STATES.slice(1).map((pair) => stateOf(pair as PairView));
  assert.is(words.join(' '), 'joined joining restoring parted copying restoring');
  assert.is(stateOf({ ...JOINING, masterValid: false }), 'invalid');
  assert.is(stateOf({ ...PARTED, proxyValid: false }), 'invalid');
});

test('the write table has every combination once', () => {
  const seen = WRITES.map(({ joined, pending, role }) => `${joined} ${pending} ${role}`);
  const wanted: string[] = [];
  for (const joined of [true, false]) {
    for (const pending of [true, false]) {
      for (const role of ['source', 'target']) wanted.push(`${joined} ${pending} ${role}`);
    }
  }
  assert.equal([...seen].sort(), wanted.sort());
});

test('the steps of a write are in the one order and contain one write', () => {
  for (const { steps } of WRITES) {
    const order = steps.map(stepIndex);
    assert.equal(
      order,
      [...new Set(order)].sort((a, b) => a - b),
    );
    assert.is(steps.filter((step) => step === 'write').length, 1);
  }
  assert.equal(
    WRITE_ORDER.filter((step) => !WRITES.some(({ steps }) => steps.includes(step))),
    [],
  );
});

test('a write settles only what is settling, and skips the steps of a rule that is off', () => {
  const quiet = { joined: false, pending: false, settling: false, role: 'source' } as const;
  assert.equal(writeSteps(quiet), ['intent', 'mark', 'write']);
  assert.equal(writeSteps({ ...quiet, settling: true }), ['settle', 'intent', 'mark', 'write']);
  for (const [step, rule] of Object.entries(WRITE_RULES)) {
    for (const { steps, ...situation } of WRITES) {
      const kept = writeSteps({ ...situation, settling: true }, new Set([rule]));
      assert.equal(
        kept,
        steps.filter((s) => s !== step),
      );
    }
  }
});

test('steps outside the write table know their rules', () => {
  const rules: Record<string, Rule> = { b: 'sync-source' };
  assert.equal(keptSteps(['a', 'b'], rules), ['a', 'b']);
  assert.equal(keptSteps(['a', 'b'], rules, new Set<Rule>(['sync-source'])), ['a']);
  assert.equal(keptSteps(['a', 'b'], rules, new Set<Rule>(['sync-target'])), ['a', 'b']);
});

test('a pending region of the target is read from the source', () => {
  assert.is(readFrom('proxy', 'toProxy', true), 'master');
  assert.is(readFrom('master', 'toProxy', true), 'master');
  assert.is(readFrom('master', 'toMaster', true), 'proxy');
  assert.is(readFrom('proxy', 'toMaster', true), 'proxy');
  assert.is(readFrom('proxy', 'toProxy', false), 'proxy');
});

test('recovery of a hot region', () => {
  const hot = { joined: true, direction: 'toProxy', pending: false } as const;
  assert.is(recoverHot(hot), 'pend');
  assert.is(recoverHot({ ...hot, direction: 'toMaster' }), 'copy-from-master');
  assert.is(recoverHot({ ...hot, joined: false }), 'mark');
  for (const joined of [true, false]) {
    for (const direction of ['toProxy', 'toMaster'] as const) {
      assert.is(recoverHot({ joined, direction, pending: true }), 'leave');
    }
  }
});

test('maps after a verb', () => {
  assert.equal(mapAfter('keep', 'changed', 'swap'), ['changed']);
  assert.equal(mapAfter('none', 'pending', 'cancel'), []);
  assert.equal(mapAfter('all', 'pending', 'join'), ['all']);
  assert.equal(mapAfter('pending|changed', 'pending', 'rejoin'), ['pending', 'changed']);
});

test('a copier waits for a source that is whole, and for a commit that gives its target up', () => {
  const free = { direction: 'toProxy', sourceValid: true, sourcePending: false } as const;
  assert.not(copierWaits({ ...free, switching: null }));
  assert.not(copierWaits({ ...free, switching: 'part' }));
  assert.ok(copierWaits({ ...free, switching: 'update' }));
  assert.ok(copierWaits({ ...free, switching: null, sourceValid: false }));
  assert.ok(copierWaits({ ...free, switching: null, sourcePending: true }));
});

test('between a switch and its commit only what harms neither state goes on', () => {
  assert.not(writeWaits('part', 'master', ['intent', 'preserve', 'mark', 'write']));
  assert.not(writeWaits('update', 'master', ['intent', 'mark', 'write']));
  assert.ok(writeWaits('update', 'master', ['intent', 'preserve', 'mark', 'write']));
  assert.ok(writeWaits('rejoin', 'master', ['write']));
  assert.ok(writeWaits('restoreKeep', 'master', ['intent', 'mark', 'write']));
  assert.ok(evictionWaits(true));
  assert.not(evictionWaits(false));
});

test('siblings of a restored master', () => {
  assert.equal(spreadsTo({ joined: true }), { map: 'pending', direction: 'toProxy' });
  assert.equal(spreadsTo({ joined: false }), { map: 'changed', direction: 'keep' });
});

test('every rule says what it demands', () => {
  for (const [rule, text] of Object.entries(RULES)) assert.ok(text.length > 20, rule);
});

test.run();
