import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { faultAt, reach, STEPS, type Step, setFaultHook } from '../../src/base/faults.ts';

const test = suite('base: faults');
test.after.each(() => setFaultHook());

/** How many steps of `path` are reached before the strike; all of them: it never comes. */
function stepsBefore(text: string, path: readonly Step[]): number {
  let reached = 0;
  setFaultHook(
    faultAt(text, () => {
      throw new Error('strike');
    }),
  );
  try {
    for (const step of path) {
      reach(step);
      reached++;
    }
  } catch {
    return reached;
  }
  return reached;
}

const PATH: readonly Step[] = ['copy:written', 'copy:cleared', 'copy:written', 'copy:written'];

test('the switch strikes at the n-th arrival at its step, and only once', () => {
  assert.is(stepsBefore('copy:written', PATH), 0);
  assert.is(stepsBefore('copy:cleared', PATH), 1);
  assert.is(stepsBefore('copy:written@2', PATH), 2);
  assert.is(stepsBefore('copy:written@3', PATH), 3);
  assert.is(stepsBefore('copy:written@4', PATH), 4);
  assert.is(stepsBefore('no:such', PATH), 4);
  let strikes = 0;
  setFaultHook(faultAt('copy:written', () => strikes++));
  for (const step of PATH) reach(step);
  assert.is(strikes, 1);
});

test('without a hook a step does nothing', () => {
  setFaultHook(() => {
    throw new Error('still there');
  });
  setFaultHook();
  reach('commit:done');
});

test('every step has a place and words', () => {
  for (const [name, words] of Object.entries(STEPS)) {
    assert.match(name, /^[a-z]+:[a-z-]+$/);
    assert.ok(words.length > 10, name);
  }
});

test.run();
