import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

const ROOT = join(__dirname, '../..');

/** A test as a document names it. */
export interface NamedTest {
  readonly file: string;
  readonly title: string;
}

/** The tests that a text names, as `file` “title”, or `file` “title” “another title”. */
export function testsNamedIn(text: string): NamedTest[] {
  return [...text.matchAll(/`(test\/[^`]+)`((?: “[^”]+”)+)/g)].flatMap(([, file = '', titles = '']) =>
    [...titles.matchAll(/“([^”]+)”/g)].map(([, title = '']) => ({ file, title })),
  );
}

/** The titles of the tests that a file runs, as they are written there: none that is skipped, nor what is inside of it. */
export function titlesIn(file: string): string[] {
  const source = ts.createSourceFile(
    file,
    readFileSync(join(ROOT, file), 'utf8'),
    ts.ScriptTarget.Latest,
    true,
  );
  const titles: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && node.arguments[0] && ts.isStringLiteralLike(node.arguments[0])) {
      // `it(…)`, `it.each(…)(…)` and `it.each<…>(…)(…)` begin alike.
      const callee = node.expression.getText();
      if (/^(x|(it|describe)\s*\.\s*(skip|todo|failing)\b)/.test(callee)) return;
      if (/^it\b/.test(callee)) titles.push(node.arguments[0].text);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return titles;
}
