import { moduleOptions } from '../../lib/options/specification/module';
import type { Option, Options } from '../../lib/options/specification/option';
import { routeOptions } from '../../lib/options/specification/route';

const BEGIN = '<!-- npm run docs:options: begin -->';
const END = '<!-- npm run docs:options: end -->';

type Row = readonly [option: string, byDefault: string, meaning: string];

/** A value as an application writes it. */
export function literal(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  return typeof value === 'string' ? `'${value}'` : String(value);
}

/** The page that has them, below the root. */
export const PAGE = 'docs/reference/options.md';

/**
 * The page with the option tables as the specification has them.
 * @throws Error if the page has no markers
 */
export function withOptionTables(page: string): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${PAGE} lacks the markers ${BEGIN} and ${END}`);
  return [page.slice(0, begin) + BEGIN, ...sections(), page.slice(end)].join('\n\n');
}

function sections(): string[] {
  const service = Object.entries(routeOptions).filter(([, { levels }]) =>
    levels.some((at) => at === 'service'),
  );
  return [
    table(rowsOf(routeOptions)),
    `\`IdempotencyService.execute()\` takes ${service.map(([name]) => `\`${name}\``).join(', ')} as well. Its \`scope\` and \`fingerprint\` are texts, and its \`legacy\` gives a value; those of the module are for HTTP requests alone.`,
    'For the module alone:',
    table(rowsOf(moduleOptions)),
  ];
}

/** What is within an option comes before it. */
function rowsOf(options: Options, within = ''): Row[] {
  return Object.entries(options).flatMap(([name, option]) => [
    ...(option.options ? rowsOf(option.options, `${within}${name}.`) : []),
    [`\`${within}${name}\``, byDefault(option), option.text] as const,
  ]);
}

function byDefault({ default: value, otherwise = '', unit }: Option): string {
  if (value === undefined) return otherwise;
  return `\`${literal(value)}\`${unit ? ` ${unit}` : ''}`;
}

/** As prettier aligns it. */
function table(rows: readonly Row[]): string {
  const cells = [['option', 'default', 'meaning'], ...rows].map((row) =>
    row.map((text) => text.replaceAll('|', String.raw`\|`)),
  );
  const widths = [0, 1, 2].map((column) => Math.max(...cells.map((row) => row[column]!.length)));
  const [head, ...body] = cells.map((row) => line(row.map((text, column) => text.padEnd(widths[column]!))));
  return [head, line(widths.map((width) => '-'.repeat(width))), ...body].join('\n');
}

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
