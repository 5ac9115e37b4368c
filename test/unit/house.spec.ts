import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const LIB = join(__dirname, '../../lib');

/** What each folder of `lib` may import, besides itself: the path of a request, and what lies under it. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  '.': ['http', 'core', 'store', 'store/redis', 'store/postgres', 'observability', 'options'],
  http: ['core', 'observability', 'options'],
  store: ['core', 'store/redis', 'store/postgres', 'observability', 'options'],
  'store/redis': ['core', 'store/batching', 'observability', 'options'],
  'store/postgres': ['core', 'store/batching', 'observability', 'options'],
  'store/batching': ['core'],
  core: ['observability', 'options'],
  observability: [],
  options: [],
};

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
      targets
        .filter((target) => dirname(target) !== dirname(file))
        .filter((target) => !MAY_IMPORT[dirname(file)]?.includes(dirname(target)))
        .map((target) => `${file} -> ${target}`),
    );
    expect(upwards).toEqual([]);
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
        /(?<!function |\.)\b(recordId|requestFingerprint|fingerprintOf|new IdempotencyService)\((?!'health')[^;]*;/g,
      );
      return [...calls].filter(([call]) => !/digest/i.test(call)).map(([call]) => `${file}: ${call}`);
    });
    expect(without).toEqual([]);
  });

  it('has files that can be read in one go', () => {
    const long = [...imports.keys()].filter(
      (file) => readFileSync(join(LIB, file), 'utf8').split('\n').length > 320,
    );
    expect(long.map((file) => relative(LIB, join(LIB, file)))).toEqual([]);
  });
});
