import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { chartsOf } from './chart';
import { markdown } from './report';
import type { Results } from './results';
import { price, summary } from './summary';

const ROOT = join(__dirname, '..');

/** Puts the results where they are read: JSON, charts, and the tables between the markers of the documents. */
export async function write(results: Results): Promise<void> {
  mkdirSync(join(ROOT, 'bench/results'), { recursive: true });
  await store('bench/results/reference.json', JSON.stringify(results));
  for (const [name, svg] of Object.entries(chartsOf(results))) {
    writeFileSync(join(ROOT, 'docs/internals', name), svg);
  }
  await between('docs/internals/performance.md', 'results', markdown(results));
  await between('docs/guarantees/comparison.md', 'results', summary(results));
  await between('README.md', 'price', price(results));
}

async function between(path: string, name: string, content: string): Promise<void> {
  const [begin, end] = [`<!-- npm run bench -- --write: begin ${name} -->`, `<!-- end ${name} -->`];
  const text = readFileSync(join(ROOT, path), 'utf8');
  const [before, rest] = text.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new Error(`${path} lacks ${begin} … ${end}`);
  await store(path, `${before}${begin}\n\n${content}\n\n${end}${after}`);
}

async function store(path: string, content: string): Promise<void> {
  const file = join(ROOT, path);
  writeFileSync(file, await format(content, { ...(await resolveConfig(file)), filepath: file }));
}
