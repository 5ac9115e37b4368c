import { allSnippets, problemsOf, type Snippet } from './snippets';

const snippets = allSnippets();

const wrong: (readonly [what: string, code: string, found: RegExp])[] = [
  ['an option that is not there', "IdempotencyModule.forRoot({ lese: '30s' });", /'lese' does not exist/],
  ['a name without an import', '@Idempotnt()\ncreate() {}', /Cannot find name 'Idempotnt'/],
  [
    'a value that is not checked for undefined',
    'const id: number = [7].at(0);',
    /not assignable to type 'number'/,
  ],
  ['a syntax error', 'const = 1;', /Variable declaration expected/],
  [
    'an import without the extension that an ES module needs',
    "import './line-0';",
    /need explicit file extensions/,
  ],
];
const controls = wrong.map(([, code], index): Snippet => ({
  place: `control.md:${index}`,
  code: `${code}\n`,
}));

describe('the snippets of the documentation', () => {
  const problems = problemsOf([...snippets, ...controls]);

  it('are found', () => {
    expect(snippets.length).toBeGreaterThan(25);
  });

  it.each(snippets.map((each) => [each.place, each] as const))(
    'compile in a strict application: %s',
    (_, each) => {
      expect(problems.get(each)).toEqual([]);
    },
  );

  it.each(wrong.map(([what, , found], index) => [what, index, found] as const))(
    'would be found to have %s',
    (_, index, found) => {
      expect(problems.get(controls[index]!)?.join('\n')).toMatch(found);
    },
  );
});
