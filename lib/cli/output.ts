/** For people: columns as wide as their contents. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(head), ...rows.map((row) => line(row.map(visible)))].join('\n');
}

/** For people: one value a line. */
export function lines(values: Readonly<Record<string, unknown>>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  const width = Math.max(...given.map(([name]) => name.length));
  return given.map(([name, value]) => `${name.padEnd(width)}  ${visible(textOf(value))}`).join('\n');
}

export function age(date: Date, now = Date.now()): string {
  return seconds((now - date.getTime()) / 1000);
}

export function seconds(value: number): string {
  const [size, unit]: readonly [number, string] =
    value >= 172_800 ? [86_400, 'd'] : value >= 7_200 ? [3_600, 'h'] : value >= 120 ? [60, 'min'] : [1, 's'];
  return `${Math.round(value / size)} ${unit}`;
}

export function bytes(value: number): string {
  const [size, unit]: readonly [number, string] =
    value >= 1e9 ? [1e9, 'GB'] : value >= 1e6 ? [1e6, 'MB'] : value >= 1e4 ? [1e3, 'kB'] : [1, 'B'];
  return `${Math.round((10 * value) / size) / 10} ${unit}`;
}

/** Keys and scopes come from clients: what would move the cursor of a terminal, or colour it, is escaped. */
export function visible(text: string): string {
  return text.replace(/[\p{C}\u2028\u2029]/gu, (character) => {
    const hex = (character.codePointAt(0) ?? 0).toString(16);
    return `\\u{${hex}}`;
  });
}

/** A URL that may be printed. */
export function withoutPassword(url: string): string {
  return url
    .replace(/(\/\/[^:/@]*):[^@]*@/, '$1:***@')
    .replace(/([?&](?:password|sslpassword)=)[^&]*/gi, '$1***');
}

function textOf(value: unknown): string {
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'string' ? value : JSON.stringify(value);
}
