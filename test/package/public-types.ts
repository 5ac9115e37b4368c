import ts from 'typescript';

/** What an entry point's declarations say. */
export interface PublicTypes {
  /** Names of the exported classes that an application may construct by its types. */
  readonly constructible: readonly string[];
  /** Packages that the declarations import, in all files that are reached. */
  readonly packages: readonly string[];
}

/** Reads the declarations of an entry point as a compiler does. */
export function publicTypes(entry: string): PublicTypes {
  const options = { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext };
  const program = ts.createProgram([entry], { ...options, strict: true, noLib: true });
  const checker = program.getTypeChecker();
  const file = program.getSourceFile(entry);
  const symbol = file && checker.getSymbolAtLocation(file);
  if (!symbol) throw new Error(`${entry} exports nothing`);
  const constructible = checker.getExportsOfModule(symbol).flatMap((each) => {
    const target = each.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(each) : each;
    const declared = target.declarations?.find(ts.isClassDeclaration);
    return declared?.members.some(ts.isConstructorDeclaration) ? [each.name] : [];
  });
  return { constructible, packages: packagesOf(entry, program) };
}

function packagesOf(entry: string, program: ts.Program): string[] {
  const own = entry.slice(0, entry.lastIndexOf('/dist/') + '/dist/'.length);
  const files = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(own));
  const imported = files.flatMap(({ text }) => ts.preProcessFile(text).importedFiles);
  const names = imported.map(({ fileName }) => fileName).filter((name) => !/^(\.|node:)/.test(name));
  return [...new Set(names)].sort();
}
