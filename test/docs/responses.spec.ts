import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TABLE } from '../e2e/responses/table';

const PAGE = join(__dirname, '../../docs/guarantees/responses.md');

/** Rows of the page's first table, without its head. */
function documented(): string[][] {
  const lines = readFileSync(PAGE, 'utf8').split('\n');
  const start = lines.findIndex((line) => line.startsWith('|'));
  const table = lines.slice(start);
  const end = table.findIndex((line) => !line.startsWith('|'));
  return table.slice(2, end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

describe('docs/guarantees/responses.md', () => {
  it('says of each way to answer what the tests hold, and nothing else', () => {
    const tested = TABLE.map(({ style, first, retry, notes = '' }) => [style, String(first), retry, notes]);
    expect(documented()).toEqual(tested);
  });

  it('names each way once', () => {
    const styles = TABLE.map(({ style }) => style);
    expect(new Set(styles).size).toBe(styles.length);
  });
});
