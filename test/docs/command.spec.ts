import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { program } from '../../lib/cli/program';

const page = readFileSync(join(__dirname, '../../docs/operate/operating.md'), 'utf8');

/** Whether the page has it as a word in code, such as `--audit <file>` or `npx nestjs-idempotency list`. */
const isNamed = (name: string): boolean => new RegExp(`[\\s\`]${name}(?![\\w-])`).test(page);

const verbs = program('0.0.0', () => undefined).commands;

describe('docs/operate/operating.md', () => {
  it('names every verb of the command', () => {
    expect(verbs.length).toBeGreaterThan(5);
    expect(verbs.map((verb) => verb.name()).filter((verb) => !page.includes(`| \`${verb}\` `))).toEqual([]);
  });

  it.each(verbs.map((verb) => [verb.name(), verb] as const))('names every option of %s', (_, verb) => {
    const names = verb.options.flatMap(({ long, envVar }) => [long ?? '', ...(envVar ? [envVar] : [])]);
    expect(names.length).toBeGreaterThan(5);
    expect(names.filter((name) => !isNamed(name))).toEqual([]);
  });
});
