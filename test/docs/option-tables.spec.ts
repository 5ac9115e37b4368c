import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { encryptionOptions } from '../../lib/options/specification/encryption';
import { legacyOptions } from '../../lib/options/specification/legacy';
import { moduleOptions } from '../../lib/options/specification/module';
import type { Option, Options } from '../../lib/options/specification/option';
import { policyOptions } from '../../lib/options/specification/policy';
import { postgresOptions } from '../../lib/options/specification/postgres';
import { redisOptions } from '../../lib/options/specification/redis';
import { routeOptions } from '../../lib/options/specification/route';
import { literal, PAGE, withOptionTables } from './option-tables';

const ROOT = join(__dirname, '../..');
const TYPES = ['lib/options/idempotency.options.ts', 'lib/options/legacy.options.ts'];

interface Documented {
  readonly text: string;
  readonly byDefault: string | undefined;
}

function parsed(file: string): ts.SourceFile {
  return ts.createSourceFile(file, readFileSync(join(ROOT, file), 'utf8'), ts.ScriptTarget.Latest, true);
}

/** What the members of an interface say of themselves, without those that it inherits. */
function docstringsOf(name: string): Map<string, Documented> {
  const declared = TYPES.flatMap((file) => [...parsed(file).statements]).find(
    (each): each is ts.InterfaceDeclaration => ts.isInterfaceDeclaration(each) && each.name.text === name,
  );
  if (!declared) throw new Error(`no interface ${name} in ${TYPES.join(', ')}`);
  return new Map(
    declared.members.map((member) => {
      const text = ts
        .getJSDocCommentsAndTags(member)
        .map((each) => ts.getTextOfJSDocComment(each.comment) ?? '')
        .join(' ');
      const tag = ts.getJSDocTags(member).find((each) => each.tagName.text === 'default');
      return [member.name!.getText(), { text, byDefault: tag && ts.getTextOfJSDocComment(tag.comment) }];
    }),
  );
}

/** Written like a value, whether it is the right one or not. */
const LIKE_A_VALUE = /^(['"[{\d]|(true|false)\b)/;

/** How the docstring of an option differs from its specification. */
function difference(option: Option, documented: Documented): string | undefined {
  const { default: value, unit } = option;
  const byDefault = documented.byDefault ?? '';
  if (documented.text.length < 10) return 'has no text';
  if (unit && !documented.text.toLowerCase().includes(unit)) return `does not say ${unit}`;
  if (value === undefined) return LIKE_A_VALUE.test(byDefault) ? `has the default ${byDefault}` : undefined;
  const [said] = byDefault.split(/ \(|\n/); // what is in brackets explains the value
  return said?.trim() === literal(value) ? undefined : `has the default ${said}, not ${literal(value)}`;
}

const ownOptions = Object.fromEntries(
  Object.entries(routeOptions).filter(([name]) => !(name in policyOptions)),
);
const interfaces: [string, Options][] = [
  ['PolicyOptions', policyOptions],
  ['IdempotencyOptions', ownOptions],
  ['LegacyOptions', legacyOptions],
  ['RedisOptions', redisOptions],
  ['PostgresOptions', postgresOptions],
  ['EncryptionOptions', encryptionOptions],
  ['IdempotencyModuleOptions', moduleOptions],
];

describe('the options as they are documented', () => {
  it('stand in their page as the specification has them (`npm run docs:options` writes them)', () => {
    const page = readFileSync(join(ROOT, PAGE), 'utf8');
    expect(withOptionTables(page)).toBe(page);
  });

  it.each(interfaces)('are those of the specification, and no others: %s', (name, options) => {
    expect([...docstringsOf(name).keys()].sort()).toEqual(Object.keys(options).sort());
  });

  it.each(interfaces)('have docstrings with the specified default and unit: %s', (name, options) => {
    const documented = docstringsOf(name);
    const differences = Object.entries(options).flatMap(([option, specified]) => {
      const found = difference(specified, documented.get(option)!);
      return found ? [`${option} ${found}`] : [];
    });
    expect(differences).toEqual([]);
  });

  it.each<[string, Documented, RegExp]>([
    ['another default', { text: 'Longest key, in characters.', byDefault: '256' }, /default 256, not 255/],
    ['a default that begins alike', { text: 'In characters, at most.', byDefault: '2550' }, /2550, not 255/],
    ['no default', { text: 'Longest key, in characters.', byDefault: undefined }, /not 255/],
    ['no unit', { text: 'Longest key that is taken.', byDefault: '255' }, /does not say characters/],
    ['no text', { text: '', byDefault: '255' }, /has no text/],
  ])('would be found to have %s', (_, documented, found) => {
    expect(difference(policyOptions.maxKeyLength, documented)).toMatch(found);
  });
});
