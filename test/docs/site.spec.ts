import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { menu, unreached } from '../../docs/.vitepress/menu';

const ROOT = join(__dirname, '../..');

/** Made from the docstrings when the site is built. */
const GENERATED = 'reference/api/';

const pages = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).filter(
  (file) => file.endsWith('.md') && !file.startsWith('.vitepress/') && !file.startsWith(GENERATED),
);
const documents = ['README.md', 'CHANGELOG.md', 'SECURITY.md', ...pages.map((page) => `docs/${page}`)];

const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const proseOf = (file: string): string => textOf(file).replace(/^```.*?^```/gms, '');

/** As VitePress makes anchors of headings. */
function anchorsIn(file: string): Set<string> {
  const headings = [...proseOf(file).matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) =>
    heading
      .replaceAll(/[`*]/g, '')
      .replaceAll(/[\s~`!@#$%^&*()\-_+=[\]{}|\\;:"'“”‘’<>,.?/]+/g, '-')
      .replaceAll(/^-|-$/g, '')
      .toLowerCase(),
  );
  return new Set(headings);
}

/** What the package holds beside these: its own `package.json`, README and license. */
const { files } = JSON.parse(textOf('package.json')) as { files: string[] };
const isPacked = (file: string): boolean =>
  ['README.md', 'LICENSE'].includes(file) ||
  files.some((each) => file === each || file.startsWith(`${each}/`));

function brokenLinksIn(file: string): string[] {
  const links = [...proseOf(file).matchAll(/\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)/g)];
  return links
    .filter(([, path = '', anchor]) => {
      const target = path === '' ? file : normalize(join(dirname(file), path));
      if (!isPacked(target) || !existsSync(join(ROOT, target))) return true;
      return anchor !== undefined && !anchorsIn(target).has(anchor);
    })
    .map(([link]) => `${file}: ${link}`);
}

describe('the documentation', () => {
  it('has a README of at most 200 lines', () => {
    expect(textOf('README.md').trimEnd().split('\n').length).toBeLessThanOrEqual(200);
  });

  it('has a menu that leads to each page, and to pages that are there', () => {
    expect(unreached(pages)).toEqual([]);
    const listed = menu.flatMap((room) => room.pages.map(({ page }) => `${page}.md`));
    expect(listed.filter((page) => !page.startsWith(GENERATED) && !pages.includes(page))).toEqual([]);
  });

  it('has an index that leads to each decision', () => {
    const index = textOf('docs/internals/decisions/index.md');
    const decisions = pages.filter((page) => /decisions\/\d/.test(page)).map((page) => basename(page));
    expect(decisions.length).toBeGreaterThan(10);
    expect(decisions.filter((each) => !index.includes(`](${each})`))).toEqual([]);
  });

  it.each(documents)('has links that lead to what the package holds: %s', (file) => {
    expect(brokenLinksIn(file)).toEqual([]);
  });

  it.each(pages)('says first what its reader can do afterwards: docs/%s', (page) => {
    const [title, , opening] = textOf(`docs/${page}`).split('\n');
    expect(title).toMatch(/^# \S/);
    expect(opening).toMatch(/^After this page you /);
  });
});
