import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import ts from 'typescript';

const ROOT = join(__dirname, '../..');

/** What snippets use without showing where it comes from. */
const NAMES = join(__dirname, 'snippet-names.ts');

const ES_MODULE = '{"type":"module"}';

export interface Snippet {
  /** The page and the line of its code, such as `README.md:12`. */
  readonly place: string;
  readonly code: string;
}

/** The TypeScript of a document. What is shown of a file that is in the repository is compiled there. */
export function snippetsIn(document: string): Snippet[] {
  const text = readFileSync(join(ROOT, document), 'utf8');
  return [...text.matchAll(/(<!-- test\/\S+ -->\n\n)?^```ts\n(.*?)^```$/gms)]
    .filter(([, isFile]) => isFile === undefined)
    .map(({ index, 2: code = '' }) => ({
      place: `${document}:${text.slice(0, index).split('\n').length + 1}`,
      code,
    }));
}

/** Those of README, SECURITY and all pages of `docs` that are written by hand. */
export function allSnippets(): Snippet[] {
  const pages = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md') && !file.startsWith('reference/api/'))
    .map((page) => `docs/${page}`);
  return ['README.md', 'SECURITY.md', ...pages].flatMap(snippetsIn);
}

/** A snippet that names its file in its first line can be imported by others of its document. */
const fileOf = ({ place, code }: Snippet): string => {
  const [document = '', line = ''] = place.split(':');
  const folder = join(__dirname, 'snippets', basename(document, '.md'));
  return join(folder, /^\/\/ (\S+\.ts)\n/.exec(code)?.[1] ?? `line-${line}.ts`);
};

const parse = (name: string, code: string): ts.SourceFile =>
  ts.createSourceFile(name, code, ts.ScriptTarget.Latest, true);

/** The names of {@link NAMES}, and whether each is a type alone. */
const known = new Map<string, boolean>();
for (const statement of parse(NAMES, readFileSync(NAMES, 'utf8')).statements) {
  if (
    ts.isExportDeclaration(statement) &&
    statement.exportClause &&
    ts.isNamedExports(statement.exportClause)
  )
    for (const each of statement.exportClause.elements)
      known.set(each.name.text, statement.isTypeOnly || each.isTypeOnly);
  else if (ts.isVariableStatement(statement))
    for (const each of statement.declarationList.declarations) known.set(each.name.getText(), false);
  else if (ts.isClassDeclaration(statement) || ts.isFunctionDeclaration(statement))
    known.set(statement.name?.text ?? '', false);
  else if (ts.isInterfaceDeclaration(statement)) known.set(statement.name.text, true);
}

/** Makes a module of a snippet: members of a class, and statements that use `this`, get a class around them. */
function moduleOf({ code }: Snippet): string {
  const [, imports = '', rest = ''] = /^((?:\/\/.*\n|import [^;]+;\n|\n)*)(.*)$/s.exec(code) ?? [];
  const isMember = /^(@\w+\(|\w+\(@)/.test(rest) && !/^(export )?(abstract )?class /m.test(rest);
  const usesThis = /\bthis\./.test(rest) && !/\bclass /.test(rest);
  const body = isMember
    ? `export class Snippet extends Members {\n${rest}}\n`
    : usesThis
      ? `export class Snippet extends Members {\nasync run(): Promise<void> {\n${rest}}\n}\n`
      : rest;
  return `${imports}${importsFor(imports + body)}${body}\nexport {};\n`;
}

/** Imports what a text names and does not declare. */
function importsFor(text: string): string {
  const used = new Set<string>();
  const declared = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) {
      const { parent } = node;
      const isDeclared =
        (ts.isImportSpecifier(parent) ||
          ts.isClassDeclaration(parent) ||
          ts.isInterfaceDeclaration(parent) ||
          ts.isFunctionDeclaration(parent) ||
          ts.isVariableDeclaration(parent)) &&
        parent.name === node;
      (isDeclared ? declared : used).add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(parse('snippet.ts', text));
  const names = [...used].filter((name) => known.has(name) && !declared.has(name));
  const specifiers = names.map((name) => (known.get(name) ? `type ${name}` : name));
  return names.length === 0
    ? ''
    : `import { ${specifiers.join(', ')} } from '${NAMES.replace(/\.ts$/, '.js')}';\n`;
}

/**
 * Compiles all snippets at once, as ES modules under the rules of a new Nest application, and says what is wrong.
 * @param types where the module's entry points are: `lib`, or `dist` for the declarations that are packed
 */
export function problemsOf(
  snippets: readonly Snippet[],
  types: 'lib' | 'dist' = 'lib',
): Map<Snippet, string[]> {
  const sources = new Map(snippets.map((each) => [fileOf(each), moduleOf(each)]));
  // As the scaffold of Nest 12 has it: an import of another file then needs the extension of that file.
  const scaffold = new Map(
    [...sources.keys()].map((file) => [join(dirname(file), 'package.json'), ES_MODULE]),
  );
  const entry = (name: string): string => join(ROOT, types, `${name}${types === 'lib' ? '.ts' : '.d.ts'}`);
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    strict: true,
    isolatedModules: true,
    noFallthroughCasesInSwitch: true,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
    esModuleInterop: true,
    skipLibCheck: true,
    noEmit: true,
    types: ['node', 'jest'],
    paths: {
      'nestjs-idempotency': [entry('index')],
      'nestjs-idempotency/board': [entry('board/index')],
      'nestjs-idempotency/testing': [entry('testing/index')],
      'nestjs-idempotency/typeorm': [entry('typeorm')],
    },
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile, directoryExists } = host;
  host.directoryExists = (folder) =>
    folder.startsWith(join(__dirname, 'snippets')) || (directoryExists?.(folder) ?? true);
  host.fileExists = (file) => sources.has(file) || scaffold.has(file) || fileExists(file);
  host.readFile = (file) => sources.get(file) ?? scaffold.get(file) ?? readFile(file);
  host.getSourceFile = (file, target, ...rest) => {
    const source = sources.get(file);
    return source === undefined
      ? getSourceFile(file, target, ...rest)
      : ts.createSourceFile(file, source, target);
  };
  const program = ts.createProgram({ rootNames: [...sources.keys()], options, host });
  return new Map(
    snippets.map((snippet) => {
      const file = program.getSourceFile(fileOf(snippet));
      const found = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
      return [snippet, found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))];
    }),
  );
}
