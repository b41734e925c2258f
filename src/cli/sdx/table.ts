/**
 * The tables of `sdxinfo` as text: header, dashes, rows, left-aligned, one blank between columns.
 *
 * The manual's sample (gds.md 3.6) has fixed columns that scripts cut: OBJ is 6 wide, names (CLASS,
 * GROUP, DISK, VOLUME) 7, STATUS 8, each wider than its header. We take these as least widths, and 8
 * for numbers of blocks, which the sample does not show; a longer value widens its column. The last
 * column has its dashes too, but no blanks behind the values, as in the sample.
 */

import { columnWidths } from '../columns.ts';

const LEAST_WIDTH: Readonly<Record<string, number>> = {
  OBJ: 6,
  NAME: 7,
  CLASS: 7,
  GROUP: 7,
  DISK: 7,
  VOLUME: 7,
  MASTER: 7,
  DEVNAM: 7,
  TYPE: 6,
  DEVBLKS: 8,
  FREEBLKS: 8,
  '1STBLK': 8,
  LASTBLK: 8,
  BLOCKS: 8,
  BLKS: 8,
  CURBLKS: 8,
  COPYBLKS: 8,
  STATUS: 8,
};

/** A value that does not exist. */
export const MISSING = '*';

export type Table = {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
};

export function tableLines(table: Table): string[] {
  const { columns, rows } = table;
  const widths = columnWidths(
    [columns, ...rows],
    columns.map((column) => LEAST_WIDTH[column] ?? 0),
  );
  const text = (row: readonly string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]))
      .join(' ')
      .trimEnd();
  return [text(columns), widths.map((width) => '-'.repeat(width)).join(' '), ...rows.map(text)];
}

/** Tables one after the other, a blank line between them. */
export function tablesLines(tables: readonly Table[]): string[] {
  return tables.flatMap((table, i) => [...(i > 0 ? [''] : []), ...tableLines(table)]);
}
