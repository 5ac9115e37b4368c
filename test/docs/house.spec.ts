import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const LIB = join(__dirname, '../../lib');

/**
 * What each folder of `lib` may import besides itself and the folders in it, from the bottom to the top. A folder within
 * one that is named here follows the rule of the nearest.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  core: [],
  options: ['core'],
  outcome: ['core', 'options'],
  observability: ['core'],
  legacy: ['core', 'outcome', 'options', 'observability'],
  'store/batching': ['core'],
  'store/redis/connection': ['core', 'observability', 'store/batching'],
  'store/redis': ['core', 'outcome', 'options', 'observability', 'store/batching'],
  'store/postgres/connection': ['core', 'options', 'store/batching'],
  'store/postgres/schema': ['core', 'options', 'store/postgres/connection'],
  'store/postgres': ['core', 'outcome', 'options', 'observability', 'store/batching'],
  transaction: ['core', 'outcome', 'options', 'observability', 'store'],
  store: ['core', 'outcome', 'options', 'observability'],
  'http/request': ['core', 'options', 'observability', 'legacy', 'http/platform.ts', 'http/closed.ts'],
  'http/response': ['core', 'outcome', 'options', 'observability', 'http/platform.ts', 'http/closed.ts'],
  'http/handler': ['core', 'outcome', 'options', 'observability', 'http/platform.ts', 'http/response'],
  'http/routes': ['core', 'options', 'http/platform.ts', 'http/handler', 'http/request', 'http/response'],
  http: ['core', 'outcome', 'options', 'observability', 'legacy'],
  admin: ['core', 'outcome', 'options', 'observability', 'store', 'http/request'],
  cli: ['core', 'outcome', 'options', 'observability', 'store', 'admin'],
  board: ['core', 'options', 'observability', 'outcome', 'admin', 'http/platform.ts', 'http/request'],
  testing: ['.', 'core', 'options', 'store', 'transaction', 'http/platform.ts', 'http/routes'],
  '.': ['core', 'outcome', 'options', 'observability', 'legacy', 'store', 'transaction', 'http', 'admin'],
};

/** @param place a folder, or one file */
const isIn = (path: string, place: string): boolean => path === place || path.startsWith(`${place}/`);

/** The rule for a folder: that of the nearest that has one. */
function ruleFor(folder: string): readonly [name: string, allowed: readonly string[]] {
  for (let at = folder; at !== '.'; at = dirname(at)) {
    const allowed = MAY_IMPORT[at];
    if (allowed) return [at, allowed];
  }
  return ['.', MAY_IMPORT['.']!];
}

function mayImport(file: string, target: string): boolean {
  const [own, allowed] = ruleFor(dirname(file));
  return [own, ...allowed].some((place) => (place === '.' ? dirname(target) === place : isIn(target, place)));
}

const imports = new Map<string, string[]>();
for (const file of readdirSync(LIB, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
)) {
  const source = readFileSync(join(LIB, file), 'utf8');
  const targets = [...source.matchAll(/from '(\.[^']+)'/g)].map(
    ([, path]) => join(dirname(file), path!) + '.ts',
  );
  imports.set(file, targets);
}

describe('the house', () => {
  it('is read as it lies there', () => {
    expect(imports.size).toBeGreaterThan(30);
    expect(imports.get('http/idempotency.interceptor.ts')).toContain('core/protocol.ts');
    for (const targets of imports.values())
      for (const target of targets) expect(imports.has(target)).toBe(true);
  });

  it('has imports that only point down', () => {
    const upwards = [...imports].flatMap(([file, targets]) =>
      targets.filter((target) => !mayImport(file, target)).map((target) => `${file} -> ${target}`),
    );
    expect(upwards).toEqual([]);
  });

  it('has a core that knows no store, no HTTP, no validation library and no metrics library', () => {
    const packages = [...imports.keys()]
      .filter((file) => isIn(dirname(file), 'core'))
      .flatMap((file) => [...readFileSync(join(LIB, file), 'utf8').matchAll(/from '([^.'][^']*)'/g)])
      .map(([, name]) => name!)
      .filter((name) => !name.startsWith('node:'));
    expect(packages).toEqual([]);
  });

  it('has no import cycle', () => {
    const cycles: string[] = [];
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      if (done.has(file)) return;
      done.add(file);
      for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    };
    for (const file of imports.keys()) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it('makes each id and fingerprint of a request with the digest of its application', () => {
    // A default is there for tests; an id that is made without the secret is a second execution.
    const without = [...imports.keys()].flatMap((file) => {
      if (file === 'core/digest.ts') return [];
      const source = readFileSync(join(LIB, file), 'utf8');
      const calls = source.matchAll(
        /(?<!function |\.)\b(recordId|requestFingerprint|fingerprintOf|new ProtocolService)\((?!'health')[^;]*;/g,
      );
      return [...calls].filter(([call]) => !/digest/i.test(call)).map(([call]) => `${file}: ${call}`);
    });
    expect(without).toEqual([]);
  });

  it('has files that can be read in one go', () => {
    const long = [...imports.keys()].filter(
      (file) => readFileSync(join(LIB, file), 'utf8').trimEnd().split('\n').length > 300,
    );
    expect(long.map((file) => relative(LIB, join(LIB, file)))).toEqual([]);
  });
});
