/** `kage add`: existing images become volumes, data kept in place. */

import { formatSize } from '../../base/units.ts';
import type { AddRequest } from '../../engine/api.ts';
import type { CliEnvironment } from '../environment.ts';
import { isSet, listOf } from '../options.ts';
import { DEFAULT_CLASS } from '../session.ts';
import type { Verb } from './verb.ts';

export const add: Verb = {
  name: 'add',
  group: 'volumes',
  takes: '<image..>',
  summary: 'Make volumes of existing images, data kept in place',
  details:
    'IMAGE or IMAGE=NAME. Without a name the volume is called after its file: vm.proxy.img ' +
    'gives vm-proxy. The class is made when it does not exist.',
  arguments: { image: 'Raw images or block devices, each with =NAME if wanted' },
  options: {
    exclusive: { describe: 'Nobody else writes to these images: trust the map without checks' },
  },
  examples: [
    ['kage add vm.img', 'volume vm of class default'],
    ['kage add /dev/vg0/data=data log.img -c db', 'two volumes of class db'],
  ],
  completes: [['image']],

  async run(args, session) {
    const exclusive = isSet(args, 'exclusive');
    const requests = listOf(args, 'image').map((text) => parseImage(text, exclusive, session.env));
    const name = session.givenClass ?? DEFAULT_CLASS;
    const volumes = await session.withClass(
      name,
      (diskClass) => diskClass.add(requests, session.runOptions),
      { create: true },
    );
    const added = session.dryRun ? 'would be added' : 'added';
    await session.printer.result(
      { verb: 'add', class: name, dryRun: session.dryRun, volumes },
      volumes.map((v) => `${v.name}: ${added} (${v.path}, ${formatSize(v.size)}, class ${name})`),
    );
    return undefined;
  },
};

/** The `=` of a parameter of a URI: `?socket=` */
const PARAMETER = /:\/\/.*[?&][\w-]+$/;

/** `IMAGE=NAME`; a file whose own name has a `=` is found as it is. */
function parseImage(text: string, exclusive: boolean, env: CliEnvironment): AddRequest {
  const at = text.lastIndexOf('=');
  const flags = exclusive ? { exclusive } : {};
  if (at <= 0 || env.exists(text) || PARAMETER.test(text.slice(0, at)))
    return { path: text, ...flags };
  return { path: text.slice(0, at), name: text.slice(at + 1), ...flags };
}
