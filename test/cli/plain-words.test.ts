/** The short way through plain words gives what the parser gives, or gives way to it. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseWords } from '../../src/cli/arguments.ts';
import { type Args, EVERYWHERE } from '../../src/cli/options.ts';
import { plainWords } from '../../src/cli/plain-words.ts';
import { VERBS } from '../../src/cli/verbs/index.ts';
import type { Verb } from '../../src/cli/verbs/verb.ts';

const test = suite('plain words');

/** Options of the verb in every notation, and words that parsers like to see more in. */
function wordsOf(verb: Verb): fc.Arbitrary<string[]> {
  const options = Object.entries({ ...EVERYWHERE, ...verb.options }).flatMap(([name, row]) => [
    `--${name}`,
    `--${name}=x`,
    `--no-${name}`,
    ...(row.alias === undefined ? [] : [`-${row.alias}`, `-${row.alias}x`]),
  ]);
  const plain = fc.constantFrom(
    'a',
    './b.img',
    'vm-1',
    'C:x',
    'a b',
    '64K',
    '7',
    '0x1f',
    '1e3',
    'ä',
  );
  const odd = fc.constantFrom(
    '',
    '-',
    '--',
    '-1',
    'true',
    'false',
    'help',
    '--help',
    '-h',
    '--x',
    'a=b',
  );
  const needed = verb.takes.split(' ').filter((part) => part.startsWith('<')).length;
  const arguments_ = fc.array(plain, { minLength: needed, maxLength: needed + 1 });
  const others = fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...options) },
      { weight: 1, arbitrary: plain },
      { weight: 1, arbitrary: odd },
    ),
    { maxLength: 3 },
  );
  return fc.tuple(arguments_, others, fc.infiniteStream(fc.nat())).map(([first, second, at]) =>
    (second as string[]).reduce<string[]>((words, word) => {
      const place = at.next().value % (words.length + 1);
      return [...words.slice(0, place), word, ...words.slice(place)];
    }, first),
  );
}

/** Only what a verb can ask for: names of arguments and options that were given. */
function known(verb: Verb, args: Args): Args {
  const names = [
    ...Object.keys(verb.arguments),
    ...Object.keys({ ...EVERYWHERE, ...verb.options }),
  ];
  return Object.fromEntries(
    names.filter((name) => args[name] !== undefined).map((name) => [name, args[name]]),
  );
}

for (const verb of VERBS) {
  test(`kage ${verb.name}`, async () => {
    let plain = 0;
    await fc.assert(
      fc.asyncProperty(wordsOf(verb), async (words) => {
        const quick = plainWords(verb, words);
        if (quick === undefined) return;
        plain++;
        assert.equal(known(verb, quick), known(verb, await parseWords(verb, words)));
        assert.equal(quick, known(verb, quick));
      }),
      { numRuns: 60 },
    );
    assert.ok(plain > 1, `${plain} lists of words were plain`);
  });
}

test('what people type is plain', () => {
  const verb = (name: string) => VERBS.find((v) => v.name === name)!;
  assert.equal(plainWords(verb('info'), []), {});
  assert.equal(plainWords(verb('join'), ['a', '-c', 'x', 'b', '--json']), {
    master: 'a',
    class: 'x',
    proxy: 'b',
    json: true,
  });
  assert.equal(plainWords(verb('part'), ['a', 'b']), { proxy: ['a', 'b'] });
  assert.is(plainWords(verb('part'), []), undefined);
  assert.is(plainWords(verb('swap'), ['a', 'b']), undefined);
  assert.is(plainWords(verb('join'), ['a', 'b', '--regoin', '64K']), undefined);
});

test.run();
