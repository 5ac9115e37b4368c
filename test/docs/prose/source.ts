import ts from 'typescript';
import { avoidedIn } from './vocabulary';

/** What is wrong with the comments and texts of a source file, as `line: problem`. */
export function problemsInSource(code: string): string[] {
  const source = ts.createSourceFile('source.ts', code, ts.ScriptTarget.Latest, true);
  const texts = new Map<number, string>();
  const visit = (node: ts.Node): void => {
    const comments = [
      ts.getLeadingCommentRanges(code, node.pos),
      ts.getTrailingCommentRanges(code, node.end),
    ];
    for (const { pos, end } of comments.flatMap((ranges) => ranges ?? []))
      texts.set(pos, code.slice(pos, end));
    if (ts.isStringLiteralLike(node) || ts.isTemplateLiteralToken(node)) texts.set(node.pos, node.text);
    ts.forEachChild(node, visit);
  };
  visit(source);
  visit(source.endOfFileToken);
  return [...texts].flatMap(([pos, text]) => {
    const line = source.getLineAndCharacterOfPosition(pos).line + 1;
    return avoidedIn(text.replaceAll(/\s+(\*\s+)?/g, ' ')).map((problem) => `${line}: ${problem}`);
  });
}
