import type { Figures, Spread } from './results';

/** A Markdown table. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, headings.map(() => '---'), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Empty where nothing was measured. */
export function shown(value: number, digits: number): string {
  return Number.isNaN(value) ? '' : value.toFixed(digits).replace(/^-(0(\.0*)?)$/, '$1'); // no -0
}

export function ranged({ median, min, max }: Spread, digits: number): string {
  const text = shown(median, digits);
  return min === max || text === '' ? text : `${text} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
}

/** Of milliseconds. */
export function micros({ median }: Spread): string {
  return shown(median * 1_000, 0);
}

/** Of bytes. */
export function kilo({ median }: Spread): string {
  return shown(median / 1_000, 1);
}

/** A figure with errors, or of executions that should not have been, is none. */
export function noted(own: Figures, figure: string): string {
  if (own.failures > 0) return `failed: ${own.failures} errors (${figure})`;
  return own.once ? figure : `not deduplicated (${figure})`;
}
