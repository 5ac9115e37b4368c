import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { problemsInMarkdown } from './markdown';
import { problemsInSource } from './source';

/*
 * Reads what users read: documents, and the comments and texts of lib.
 *
 *   npm run lint:prose              all of them
 *   npm run lint:prose -- <file>…   these
 */
const ROOT = join(__dirname, '../../..');
const DOCUMENTS = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'];

const filesIn = (folder: string, ending: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith(ending) && !file.startsWith('reference/api/'))
    .map((file) => join(folder, file));

async function main(): Promise<void> {
  const given = process.argv.slice(2);
  const files =
    given.length > 0 ? given : [...DOCUMENTS, ...filesIn('docs', '.md'), ...filesIn('lib', '.ts')];
  let count = 0;
  for (const file of files) {
    const text = readFileSync(file, 'utf8');
    const problems = file.endsWith('.md') ? await problemsInMarkdown(text) : problemsInSource(text);
    for (const problem of problems) console.error(`${file}:${problem}`);
    count += problems.length;
  }
  if (count > 0) process.exitCode = 1;
}

void main();
