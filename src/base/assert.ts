/**
 * Assertions: what must hold whatever the input is. A failure is a bug of ours, never an operator's
 * mistake, so it has no error code; edges validate first and throw a coded error.
 */

/** Thrown by `assert`. */
export class AssertionFault extends Error {
  override readonly name = 'AssertionFault';
}

/**
 * Throws `AssertionFault` unless `condition` is truthy. A message with values in it is a function,
 * so that a check that holds builds no string.
 */
export function assert(condition: unknown, message: string | (() => string)): asserts condition {
  if (condition) return;
  throw new AssertionFault(typeof message === 'string' ? message : message());
}
