import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { titlesIn, testsNamedIn, type NamedTest } from '../support/titles';

const ROOT = join(__dirname, '../..');
const LEVELS = ['MUST', 'MUST NOT', 'SHOULD', 'RECOMMENDED', 'MAY', '(advice)'];

interface Row {
  readonly section: string;
  readonly level: string;
  readonly statement: string;
  readonly binds: string;
  readonly answer: string;
  readonly tests: readonly NamedTest[];
}

/** The rows of the table of requirements in docs/reference/ietf.md. */
function readTable(): Row[] {
  const lines = readFileSync(join(ROOT, 'docs/reference/ietf.md'), 'utf8').split('\n');
  return lines
    .filter((line) => /^\| [25](\.\d)* /.test(line))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map(([, section = '', level = '', statement = '', binds = '', answer = '', held = '']) => ({
      section,
      level,
      statement,
      binds,
      answer,
      tests: testsNamedIn(held),
    }));
}

describe('the table of the IETF draft’s requirements', () => {
  const rows = readTable();

  it('has a row for each statement of sections 2 and 5', () => {
    const perSection: Record<string, number> = {};
    for (const { section } of rows) perSection[section] = (perSection[section] ?? 0) + 1;
    expect(perSection).toEqual({
      '2.1': 1,
      '2.2': 5,
      '2.3': 2,
      '2.4': 2,
      '2.5.1': 3,
      '2.5.2': 5,
      '2.6': 3,
      '2.7': 6,
      '5': 4,
    });
  });

  it('says of each how binding it is, whom it binds, and what we do', () => {
    for (const row of rows) {
      expect(LEVELS).toContain(row.level);
      expect(row.binds).toMatch(/^(us|client|publisher)(, publisher)?$/);
      expect(row.answer).not.toBe('');
    }
  });

  it('names a test for all that we do ourselves', () => {
    expect(rows.filter(({ binds, tests }) => binds.startsWith('us') && tests.length === 0)).toEqual([]);
  });

  it('names tests that are run, each by a title that no other test of its file has', () => {
    const named = rows.flatMap(({ tests }) => tests);
    expect(named.length).toBeGreaterThan(40);
    const others = (file: string, title: string) =>
      titlesIn(file).filter((each) => each === title).length - 1;
    expect(named.filter(({ file, title }) => others(file, title) !== 0)).toEqual([]);
  });

  it('names no test by a title that is nothing but the place of its value', () => {
    const titles = rows.flatMap(({ tests }) => tests.map(({ title }) => title));
    expect(titles.filter((title) => /^[\s\p{P}]*$/u.test(title.replaceAll(/[%$]\w+/g, '')))).toEqual([]);
  });
});
