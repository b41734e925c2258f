/**
 * Stands in for the package `string-width` inside the bundle: yargs measures its help with it, and
 * its patterns for emoji cost every start of the program some 30 ms. Our help has no wide characters.
 */

export default function stringWidth(text: string): number {
  return [...text].length;
}
