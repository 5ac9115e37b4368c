import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(__dirname, '../..');

const LONG = `This sentence says ${'one thing and then another thing and '.repeat(8)}then it ends.`;

const MARKDOWN: readonly (readonly [text: string, found: RegExp])[] = [
  ['Nobody takes it.', /:1: "Nobody": name who/],
  ['\n\n| what | who |\n| --- | --- |\n| this | whoever asks |', /:5: "whoever"/],
  ['The store has a pool of its own.', /"of its own"/],
  ['It gives the key back.', /"gives the key back": "release the key"/],
  ['It is is there.', /is is|`is`/i],
  ['This is a error.', /\ban\b/],
  [LONG, /a sentence of \d+ words/],
  ['It is no outage.', /"is no ": "is not a"/],
  ['Done. Recorded are all responses.', /"Recorded are all.*": begin/],
  ['Where it fails, nothing runs.', /"Where it fails/],
];
const SOURCE: readonly (readonly [text: string, found: RegExp])[] = [
  ['/** A comment\n * for whoever reads it. */\nexport const a = 1;', /:1: "whoever"/],
  [
    "export const a = 1; // by itself\nexport const b = 'nobody is there';",
    /:1: "by itself"[^]*:2: "nobody"/,
  ],
  ['export const a = `${1} that it vouches for`;', /"vouches"/],
];
const CLEAN =
  'No client waits. `nobody` is code, and so is this:\n\n```ts\n// whatever\n```\n\nThere is no end.\n\n' +
  `${'It says one thing. '.repeat(8)}It says ${'another thing and '.repeat(8)}then it ends. ` +
  `\`code\` says ${'another thing and '.repeat(8)}then it ends.\n`;

/** What the linter says of files with these texts. */
function lint(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'prose-'));
  try {
    const paths = Object.entries(files).map(([name, text]) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    });
    const command = [
      '--no-warnings',
      '-r',
      './test/support/register.js',
      'test/docs/prose/lint.ts',
      ...paths,
    ];
    return spawnSync(process.execPath, command, { cwd: ROOT, encoding: 'utf8' }).stderr;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('the linter of prose', () => {
  const texts = [
    ...MARKDOWN.map((each) => ['md', ...each] as const),
    ...SOURCE.map((each) => ['ts', ...each] as const),
  ];
  const said = lint({
    ...Object.fromEntries(texts.map(([kind, text], index) => [`wrong-${index}.${kind}`, text])),
    'clean.md': CLEAN,
  }).split('\n');

  it.each(texts.map(([, text, found], index) => [text, found, index] as const))(
    'finds what is wrong with %j',
    (_, found, index) => {
      expect(said.filter((line) => line.includes(`wrong-${index}.`)).join('\n')).toMatch(found);
    },
  );

  it('finds nothing in code', () => {
    expect(said.filter((line) => line.includes('clean.md'))).toEqual([]);
  });
});
