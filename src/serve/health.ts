/**
 * What `/healthz` answers. Unhealthy is what keeps the server from its work: a class that it should
 * serve and cannot, or one whose state cannot be written down. What a restart would not make better (a
 * volume that is INVALID, an image that is gone) is a warning, and the status stays 200.
 */

import type { HttpAnswer } from '../control/http.ts';
import type { ClassLook } from '../engine/api.ts';

export type Health = {
  /** The classes were opened, or found to be closed. */
  readonly ready: boolean;
  readonly classes: readonly ClassLook[];
  /** Classes that cannot be opened, and why. */
  readonly problems: ReadonlyMap<string, string>;
};

export function healthAnswer({ ready, classes, problems }: Health): HttpAnswer {
  const wrong = [
    ...(ready ? [] : ['the server is being started']),
    ...[...problems].map(([name, why]) => `class ${name} is not served: ${why}`),
    ...classes.flatMap((c) =>
      c.broken === null
        ? []
        : `class ${c.class} is broken, restart the server: its state could not be written: ${c.broken}`,
    ),
  ];
  const warnings = classes.flatMap((c) =>
    c.volumes
      .filter((v) => v.problem !== null)
      .map((v) => {
        const what = v.status === 'INVALID' ? 'is INVALID' : 'cannot be used';
        return `warning: ${c.class}/${v.name} ${what}: ${v.problem}`;
      }),
  );
  const lines = [...(wrong.length === 0 ? ['ok'] : wrong), ...warnings];
  const body = lines.map((line) => `${line.replace(/\s*[\r\n]+\s*/g, ' ')}\n`).join('');
  return { status: wrong.length === 0 ? 200 : 503, body };
}
