import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import type { Row } from './rows';

export interface Result {
  readonly row: Row;
  readonly verdict: 'works' | 'refused' | 'FAILS';
  /** Why it is refused or fails. */
  readonly reason?: string;
  /** By npm package, and `node`. Of a refused row, none is installed. */
  readonly versions: Readonly<Record<string, string>>;
  readonly seconds: number;
}

const PAGE = join(__dirname, '../../docs/reference/compatibility.md');
const BEGIN = '<!-- npm run test:compat -- --write: begin -->';
const END = '<!-- end -->';

const COLUMNS = [
  'Nest',
  'platform',
  'modules',
  'TypeORM',
  '@nestjs/typeorm',
  'ioredis',
  'Node',
  'TypeScript',
];

/** The results as a Markdown table. */
export function table(results: readonly Result[]): string {
  const head = [...COLUMNS, 'swagger', 'result', 'seconds'];
  const lines = results.map(({ row, versions, verdict, reason, seconds }) => [
    versions['@nestjs/core'] ?? row.nest,
    row.platform,
    row.modules === 'esm' ? 'ESM' : 'CommonJS',
    versions.typeorm ?? row.typeorm,
    versions['@nestjs/typeorm'] ?? row.nestTypeorm,
    (versions.ioredis ?? row.ioredis) + (row.override ? ' ¹' : ''),
    versions.node ?? '–',
    versions.typescript ?? row.typescript,
    versions['@nestjs/swagger'] ?? '–',
    verdict === 'refused' ? (reason ?? verdict) : verdict,
    seconds.toFixed(0),
  ]);
  return [head, head.map(() => '-'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/**
 * Puts the table into the page on compatibility, between its markers.
 * @param servers with what the rows ran
 * @throws Error if the page has no markers
 */
export async function writePage(results: readonly Result[], servers: string): Promise<void> {
  const page = readFileSync(PAGE, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${PAGE} lacks the markers ${BEGIN} and ${END}`);
  const text = [
    BEGIN,
    `Run on ${new Date().toISOString().slice(0, 10)} on ${process.platform} ${process.arch} with ${servers}.`,
    table(results),
    END,
  ].join('\n\n');
  const changed = page.slice(0, begin) + text + page.slice(end + END.length);
  writeFileSync(PAGE, await format(changed, { ...(await resolveConfig(PAGE)), filepath: PAGE }));
}
