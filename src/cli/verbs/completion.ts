/** `kage completion`: the script that makes a shell complete our commands. */

import { KageError } from '../../base/errors.ts';
import { SCRIPTS } from '../completion-scripts.ts';
import { textOf } from '../options.ts';
import type { Verb } from './verb.ts';

export const completion: Verb = {
  name: 'completion',
  group: 'about',
  takes: '<shell>',
  summary: 'Print the completion script for bash or zsh',
  arguments: { shell: 'bash or zsh' },
  options: {},
  examples: [
    ['source <(kage completion bash)', 'in ~/.bashrc'],
    ['source <(kage completion zsh)', 'in ~/.zshrc, after compinit'],
  ],
  completes: [[Object.keys(SCRIPTS)], []],

  async run(args, session) {
    const shell = textOf(args, 'shell')!;
    const script = SCRIPTS[shell];
    if (script === undefined) {
      throw new KageError('usage', `no completion for ${shell}: only for bash and zsh`);
    }
    await session.printer.data({ verb: 'completion', shell, script }, [script.trimEnd()]);
    return undefined;
  },
};
