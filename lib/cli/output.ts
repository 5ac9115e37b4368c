import { visible } from '../core/visible';

/** For people: columns as wide as their contents. */
export function table(head: readonly string[], contents: readonly (readonly string[])[]): string {
  const rows = contents.map((row) => row.map(visible));
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(head), ...rows.map(line)].join('\n');
}

/** For people: one value a line. */
export function lines(values: Readonly<Record<string, unknown>>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  const width = Math.max(...given.map(([name]) => name.length));
  return given.map(([name, value]) => `${name.padEnd(width)}  ${visible(textOf(value))}`).join('\n');
}

/** Up to the last `@`, as a password may have one; and each URL of a list is one. */
const REST = String.raw`(?:(?!,\w+:\/\/)\S)*@`;
const PASSWORD = new RegExp(String.raw`(:\/\/[^\s:/@]*):${REST}`, 'g');
/** A token may stand in the place of the user. */
const TOKEN = new RegExp(String.raw`(https?:\/\/)(?![^\s:/@]*:\*{3}@)${REST}`, 'gi');

/** A URL, or a text with URLs, that may be printed. */
export function withoutPassword(text: string): string {
  return text
    .replace(PASSWORD, '$1:***@')
    .replace(TOKEN, '$1***@')
    .replace(/([?&](?:password|sslpassword)=)[^&\s]*/gi, '$1***');
}

function textOf(value: unknown): string {
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'string' ? value : JSON.stringify(value);
}
