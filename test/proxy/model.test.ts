import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RULES, type Rule } from '../../src/proxy/states.ts';
import { type Bounds, explore, type Finding } from './model.ts';

const test = suite('proxy model');

// Where `complete` is true the walk ends by itself: no history of any length breaks a promise there.
// Walked to their end once, with nothing found, and too slow for each day: live verbs with two
// proxies and 3 values (860,000 worlds, 2 minutes) and with one proxy and 8 values; two proxies with
// two regions of one extent and 2 values (410,000 worlds).
const WORLDS: readonly (Bounds & { readonly name: string; readonly complete: boolean })[] = [
  {
    name: 'one proxy, one region, live verbs',
    ...{ proxies: 1, regions: 1, values: 4, wideExtents: false, live: true, depth: 100 },
    complete: true,
  },
  {
    name: 'one proxy, two regions, live verbs',
    ...{ proxies: 1, regions: 2, values: 3, wideExtents: false, live: true, depth: 100 },
    complete: true,
  },
  {
    name: 'one proxy, two regions of one extent, live verbs',
    ...{ proxies: 1, regions: 2, values: 3, wideExtents: true, live: true, depth: 100 },
    complete: true,
  },
  {
    name: 'two proxies, one region, live verbs',
    ...{ proxies: 2, regions: 1, values: 2, wideExtents: false, live: true, depth: 100 },
    complete: true,
  },
  {
    name: 'two proxies, two regions',
    ...{ proxies: 2, regions: 2, values: 3, wideExtents: false, live: false, depth: 6 },
    complete: false,
  },
];

/** Every rule is there for something that can happen here. */
const RULE_WORLD: Bounds = {
  ...{ proxies: 2, regions: 1, values: 3, wideExtents: false, live: true, depth: 8 },
};

function story({ broken }: Finding): string {
  return broken ? [...broken.trace, broken.promise].join('; ') : 'no promise was broken';
}

for (const { name, complete, ...bounds } of WORLDS) {
  test(`every promise holds: ${name}`, () => {
    const finding = explore(bounds);
    assert.is(story(finding), 'no promise was broken');
    assert.is(finding.complete, complete);
  });
}

for (const rule of Object.keys(RULES) as Rule[]) {
  test(`without ${rule} data is lost`, () => {
    const finding = explore(RULE_WORLD, [rule]);
    console.log(`${rule} off: ${story(finding)}`);
    assert.ok(finding.broken, `${rule} off: ${story(finding)}`);
  });
}

test.run();
