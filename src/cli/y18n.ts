/**
 * Stands in for the package `y18n` inside the bundle: yargs wants translations from files beside
 * its own source, which one bundled file does not have and Deno's permissions would refuse.
 */

import { format } from 'node:util';

export default function y18n() {
  return {
    __: (text: string, ...values: unknown[]) => format(text, ...values),
    __n: (one: string, many: string, count: number, ...values: unknown[]) =>
      format((count === 1 ? one : many).replace('%d', String(count)), ...values),
    getLocale: () => 'en',
    setLocale: () => {},
    updateLocale: () => {},
    locale: 'en',
  };
}
