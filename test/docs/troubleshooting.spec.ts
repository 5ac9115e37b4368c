import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { IdempotencyError, IdempotencyException, type Problem } from '../../lib';
import { CODES } from './problem-codes';

const ROOT = join(__dirname, '../..');
const page = readFileSync(join(ROOT, 'docs/operate/troubleshooting.md'), 'utf8');

/** The texts of a file, each with what is added to it; what is inserted into a template stands as a `…`. */
function textsIn(file: string): { readonly text: string; readonly isSetupError: boolean }[] {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true);
  const found: { text: string; isSetupError: boolean }[] = [];
  const visit = (node: ts.Node): void => {
    const text = textOf(node);
    if (text === undefined) {
      ts.forEachChild(node, visit);
      return;
    }
    const { parent } = node;
    const isSetupError =
      ts.isNewExpression(parent) && parent.expression.getText() === 'IdempotencySetupError';
    found.push({ text, isSetupError });
  };
  visit(source);
  return found;
}

function textOf(node: ts.Node): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isTemplateExpression(node))
    return node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('');
  if (ts.isConditionalExpression(node)) {
    const [yes, no] = [textOf(node.whenTrue), textOf(node.whenFalse)];
    return yes !== undefined && no !== undefined ? `${yes}\n${no}` : undefined;
  }
  if (ts.isParenthesizedExpression(node)) return textOf(node.expression);
  if (!ts.isBinaryExpression(node) || node.operatorToken.kind !== ts.SyntaxKind.PlusToken) return undefined;
  const [left, right] = [textOf(node.left), textOf(node.right)];
  return left !== undefined && right !== undefined ? left + right : undefined;
}

const texts = readdirSync(join(ROOT, 'lib'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) => textsIn(join(ROOT, 'lib', file)));

/** The first cells of the tables whose head is `message`. */
const messages = page
  .split('\n\n')
  .filter((table) => table.startsWith('| message'))
  .flatMap((table) => table.trim().split('\n').slice(2))
  .map((row) => /^\| (`+) ?(.+?) ?\1 +\|/.exec(row)?.[2] ?? row);

const within = (message: string, text: string): boolean => {
  let at = 0;
  return message.split('…').every((part) => {
    const found = text.indexOf(part, at);
    at = found + part.length;
    return found >= 0;
  });
};

describe('docs/operate/troubleshooting.md', () => {
  it('lists messages that the module has', () => {
    expect(messages.length).toBeGreaterThan(40);
    expect(messages.filter((message) => message.length < 10)).toEqual([]);
    expect(messages.filter((message) => !texts.some(({ text }) => within(message, text)))).toEqual([]);
  });

  it('lists every error that stops a start, and those of a set-up that shows later', () => {
    const setUp = texts.filter(({ isSetupError }) => isSetupError).map(({ text }) => text);
    expect(setUp.length).toBeGreaterThan(10);
    expect(setUp.filter((text) => !messages.some((message) => within(message, text)))).toEqual([]);
  });

  it.each(Object.keys(CODES) as (keyof typeof CODES)[])('says where to look for each problem: %s', (code) => {
    const { type, status } = new IdempotencyException(
      new IdempotencyError(code, 'detail'),
    ).getResponse() as Problem;
    const name = type.replace(/^urn:problem-type:nestjs-idempotency:/, '');
    expect(page).toMatch(new RegExp(`^\\| \`${name}\` +\\| ${status} `, 'm'));
  });
});
