import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { testsNamedIn, titlesIn } from '../support/titles';

const ROOT = join(__dirname, '../..');
const text = readFileSync(join(ROOT, 'docs/guarantees/failures.md'), 'utf8');

describe('docs/guarantees/failures.md', () => {
  const rows = text.split('\n').filter((line) => /^\| (?!fault |what |-)/.test(line));

  it('names a test in each row of its tables', () => {
    expect(rows.length).toBeGreaterThan(30);
    expect(rows.filter((row) => testsNamedIn(row).length === 0)).toEqual([]);
  });

  it('has each fault once', () => {
    const spelled = rows.map((row) => row.replace(/ +/g, ' '));
    expect(spelled.filter((row, at) => spelled.indexOf(row) !== at)).toEqual([]);
  });

  it('names tests that are there', () => {
    const missing = testsNamedIn(text).filter(({ file, title }) => !titlesIn(file).includes(title));
    expect(missing).toEqual([]);
  });

  it('names every file of scenarios', () => {
    const scenarios = readdirSync(join(ROOT, 'test/faults'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.spec.ts') && !file.startsWith('rig/'))
      .map((file) => `test/faults/${file}`);
    const named = new Set(testsNamedIn(text).map(({ file }) => file));
    expect(scenarios.filter((file) => !named.has(file))).toEqual([]);
  });
});
