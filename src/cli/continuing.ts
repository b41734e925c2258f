/** Tells who interrupts a copy that nothing is lost. */

import { KageError } from '../base/errors.ts';

/** The same result; an `interrupted` error says what the next run does. */
export async function continuing<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof KageError) || error.code !== 'interrupted') throw error;
    throw new KageError('interrupted', error.message, {
      hint: error.hint ?? 'run the same command again: it continues',
      data: error.data,
      cause: error,
    });
  }
}
