/** A reader of the text that Prometheus scrapes (version 0.0.4), stricter than Prometheus itself. */

import * as assert from 'uvu/assert';

export type Scraped = {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
};

const HELP = /^# HELP ([a-z][a-z0-9_]*) ((?:[^\\\n]|\\\\|\\n)+)$/;
const TYPE = /^# TYPE ([a-z][a-z0-9_]*) (counter|gauge|histogram)$/;
const SAMPLE =
  /^([a-z][a-z0-9_]*)(?:\{((?:[a-z][a-z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,(?=[a-z])|(?=\})))+)\})? (\+Inf|-?\d+(?:\.\d+)?(?:e[+-]\d+)?)$/;
const LABEL = /([a-z][a-z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"/g;

/** All samples. Throws for whatever is not exactly as it should be. */
export function scrape(text: string): readonly Scraped[] {
  assert.ok(text.endsWith('\n'), 'the last line ends');
  const found: Scraped[] = [];
  const types = new Map<string, string>();
  let family = '';
  let helped = '';
  const seen = new Set<string>();
  for (const line of text.slice(0, -1).split('\n')) {
    const [, help] = HELP.exec(line) ?? [];
    const [, typed, type] = TYPE.exec(line) ?? [];
    if (help !== undefined) {
      assert.not.ok(types.has(help), `${help} comes once`);
      helped = help;
    } else if (typed !== undefined) {
      assert.is(typed, helped, 'HELP comes right before TYPE');
      types.set(typed, type);
      family = typed;
    } else {
      const sample = sampleIn(line);
      const own = `${sample.name} ${JSON.stringify(sample.labels)}`;
      assert.not.ok(seen.has(own), `a sample comes once: ${line}`);
      seen.add(own);
      assert.is(familyOf(sample.name, types), family, `samples stand in their family: ${line}`);
      found.push(sample);
    }
  }
  for (const [name, type] of types) {
    const own = found.filter((s) => familyOf(s.name, types) === name);
    assert.ok(own.length > 0, `${name} has samples`);
    assert.is(/_total$/.test(name), type === 'counter', `${name}: _total is for counters`);
    if (type === 'counter') assert.ok(own.every(({ value }) => value >= 0));
    if (type === 'histogram') checkHistogram(name, own);
  }
  return found;
}

function sampleIn(line: string): Scraped {
  const [, name, labels = '', value] = SAMPLE.exec(line) ?? [];
  assert.ok(name, `this is no sample: ${line}`);
  const pairs = [...labels.matchAll(LABEL)].map(([, label, text]) => [
    label,
    text.replace(/\\(["\\n])/g, (_, c) => (c === 'n' ? '\n' : c)),
  ]);
  assert.is(new Set(pairs.map(([label]) => label)).size, pairs.length, `labels once: ${line}`);
  const number = value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value);
  return { name, labels: Object.fromEntries(pairs), value: number };
}

function familyOf(name: string, types: ReadonlyMap<string, string>): string {
  const base = name.replace(/_(bucket|sum|count)$/, '');
  return types.get(base) === 'histogram' ? base : name;
}

/** Bounds rise to +Inf, counts never fall, and the last one is `_count`. */
function checkHistogram(name: string, samples: readonly Scraped[]): void {
  const keyOf = ({ labels: { le: _, ...rest } }: Scraped) => JSON.stringify(rest);
  for (const key of new Set(samples.map(keyOf))) {
    const own = samples.filter((s) => keyOf(s) === key);
    const buckets = own.filter((s) => s.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels: { le } }) =>
      le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le),
    );
    assert.is(bounds.at(-1), Number.POSITIVE_INFINITY, name);
    for (let i = 1; i < buckets.length; i++) {
      assert.ok(bounds[i] > bounds[i - 1] && buckets[i].value >= buckets[i - 1].value, name);
    }
    const [count, ...more] = own.filter((s) => s.name === `${name}_count`);
    assert.is(count.value, buckets.at(-1)!.value, name);
    const [sum] = own.filter((s) => s.name === `${name}_sum`);
    assert.ok(sum.value >= 0 && more.length === 0, name);
  }
}

/** The value of the one sample of that name whose labels contain these. */
export function sampleOf(
  samples: readonly Scraped[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const found = samples.filter(
    (s) =>
      s.name === name && Object.entries(labels).every(([label, text]) => s.labels[label] === text),
  );
  assert.ok(found.length <= 1, `${name}: ${found.length} samples`);
  return found[0]?.value;
}
