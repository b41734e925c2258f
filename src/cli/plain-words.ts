/**
 * Words that are plainly right, sorted without the parser, which takes longer to load than most
 * commands take to run. Whatever is not plain (other notations, `--help`, mistakes) is left to the
 * parser: it knows what to say. A test holds every answer from here against the parser's.
 */

import { type Args, EVERYWHERE } from './options.ts';
import type { Verb } from './verbs/verb.ts';

/** Words that the parser takes for more than a plain argument, wherever they stand. */
const SPECIAL = /^(-.*|true|false|help|)$/;

/** The arguments of one verb; undefined: ask the parser. */
export function plainWords(verb: Verb, words: readonly string[]): Args | undefined {
  const rows = { ...EVERYWHERE, ...verb.options };
  const args: Record<string, string | boolean | readonly string[]> = {};
  const others: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (!SPECIAL.test(word)) {
      others.push(word);
      continue;
    }
    const found = Object.entries(rows).find(
      ([name, { alias }]) => word === `--${name}` || (alias !== undefined && word === `-${alias}`),
    );
    if (found === undefined || found[0] in args) return undefined;
    const [name, { value }] = found;
    const next = words[i + 1];
    if (value !== undefined) {
      if (next === undefined || SPECIAL.test(next)) return undefined;
      i++;
    }
    args[name] = value === undefined ? true : next;
  }
  return place(verb.takes, others, args);
}

/** Gives the words to the places of `takes`: `<a> <b>`, `[a]` or `<a..>`. */
function place(
  takes: string,
  words: readonly string[],
  args: Record<string, string | boolean | readonly string[]>,
): Args | undefined {
  const places = takes.split(' ').filter((part) => part !== '');
  const needed = places.filter((part) => part.startsWith('<')).length;
  const several = places.at(-1)?.endsWith('..>') ?? false;
  if (words.length < needed || (!several && words.length > places.length)) return undefined;
  places.forEach((part, i) => {
    const name = part.replace(/\W/g, '');
    if (part.endsWith('..>')) args[name] = words.slice(i);
    else if (i < words.length) args[name] = words[i];
  });
  return args;
}
