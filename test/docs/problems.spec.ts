import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IdempotencyError, IdempotencyException, type IdempotencyErrorCode, type Problem } from '../../lib';
import { CODES } from './problem-codes';

/** The rows of the table in docs/reference/problems.md, by type. */
const rows = new Map(
  readFileSync(join(__dirname, '../../docs/reference/problems.md'), 'utf8')
    .split('\n')
    .filter((line) => /^\| `[a-z-]+` *\| \d{3} /.test(line))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map(([, type = '', status = '', when = '', what = '']) => [
      type.replaceAll('`', ''),
      { status: Number(status), when, what },
    ]),
);

describe('docs/reference/problems.md', () => {
  it.each(Object.entries(CODES) as [IdempotencyErrorCode, boolean][])(
    'says of each problem its type, its status, when it occurs and what to do: %s',
    (code, retryAfter) => {
      const { type, status } = new IdempotencyException(
        new IdempotencyError(code, 'detail'),
      ).getResponse() as Problem;
      const row = rows.get(type.replace(/^urn:problem-type:nestjs-idempotency:/, ''));
      expect(row).toMatchObject({ status });
      expect(row?.when).not.toBe('');
      expect(row?.what).not.toBe('');
      expect(row?.when.includes('`Retry-After`')).toBe(retryAfter);
    },
  );

  it('lists no problem that there is not', () => {
    expect(rows.size).toBe(Object.keys(CODES).length);
  });
});
