/** Left-aligned columns of text. */

/**
 * Rows of equal length as lines: each column as wide as its widest cell, at least `least[i]`,
 * `gap` between two columns, nothing behind the last.
 */
export function alignColumns(
  rows: readonly (readonly string[])[],
  gap = '  ',
  least: readonly number[] = [],
): string[] {
  const widths = columnWidths(rows, least);
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]))
      .join(gap)
      .trimEnd(),
  );
}

export function columnWidths(
  rows: readonly (readonly string[])[],
  least: readonly number[] = [],
): number[] {
  const widths = [...least];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  return widths;
}
