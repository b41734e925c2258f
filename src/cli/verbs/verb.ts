/** What a verb is: a row of help, options and examples, and the function that runs it. */

import type { Args, OptionRows } from '../options.ts';
import type { Session } from '../session.ts';

export type VerbGroup = 'pairs' | 'volumes' | 'images' | 'server' | 'about';

/** What completes an argument: names of the class, files, or a fixed list. */
export type Completes = 'volume' | 'proxy' | 'image' | 'verb' | readonly string[];

export type Verb = {
  readonly name: string;
  readonly group: VerbGroup;
  /** Arguments in the notation of yargs: `<master> <proxy>`, `<proxy..>`, `[name]`. */
  readonly takes: string;
  /** What it takes behind `--`: argument `command`, at least one word, as they are. */
  readonly command?: string;
  readonly summary: string;
  /** What help says beyond the summary. */
  readonly details?: string;
  /** One line of help per argument. */
  readonly arguments: Readonly<Record<string, string>>;
  readonly options: OptionRows;
  readonly examples: readonly (readonly [command: string, what: string])[];
  /** One entry per argument; the last one counts for all that follow. */
  readonly completes: readonly (readonly Completes[])[];
  /** Gives the exit status; nothing means done. */
  run(args: Args, session: Session): Promise<number | undefined>;
};
