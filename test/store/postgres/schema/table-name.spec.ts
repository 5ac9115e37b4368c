import { DefaultNamingStrategy, type DataSource } from 'typeorm';
import { configuredPlace, identifier, remedy } from '../../../../lib/store/postgres/schema/table-name';

const placeOf = (options: object, namingStrategy = new DefaultNamingStrategy()): unknown =>
  configuredPlace({ options, namingStrategy } as unknown as DataSource);

describe('the name of the table', () => {
  it('follows the schema, the prefix and the naming strategy of the DataSource', () => {
    expect(placeOf({})).toEqual({ schema: undefined, tableName: 'idempotency_cache' });
    expect(placeOf({ schema: 'app', entityPrefix: 'x_' })).toEqual({
      schema: 'app',
      tableName: 'x_idempotency_cache',
    });
    const upper = new DefaultNamingStrategy();
    upper.tableName = (_, given) => given!.toUpperCase();
    expect(placeOf({}, upper)).toMatchObject({ tableName: 'IDEMPOTENCY_CACHE' });
  });

  it.each([
    ['plain_1', 'plain_1'],
    ['Upper', '"Upper"'],
    ['a"b', '"a""b"'],
    ['1a', '"1a"'],
    ['a; DROP TABLE b', '"a; DROP TABLE b"'],
  ])('%s is quoted only where it must be: %s', (name, quoted) => {
    expect(identifier(name)).toBe(quoted);
  });

  it.each<[string, { schema?: string; tableName: string }, RegExp]>([
    [
      'of the default name',
      { tableName: 'idempotency_cache' },
      /^Run `psql "\$DATABASE_URL" < node_modules\/\S+\.sql`, or add/,
    ],
    [
      'of another name',
      { tableName: 'x_idempotency_cache' },
      /^Run `sed 's\/idempotency_cache\/x_idempotency_cache\/g' \S+ \| psql/,
    ],
    [
      'in a schema',
      { schema: 'app', tableName: 'idempotency_cache' },
      /^Run `PGOPTIONS='-csearch_path=app' psql/,
    ],
    ['in a schema to be quoted', { schema: 'App', tableName: 'idempotency_cache' }, /-csearch_path="App"'/],
    ['of a name that no shell should be given', { tableName: "a'b" }, /^To make it, add/],
    [
      'in a schema that no shell should be given',
      { schema: "a'; rm", tableName: 'idempotency_cache' },
      /^To make it, add/,
    ],
  ])('%s comes with the way to make it', (_, place, expected) => {
    expect(remedy(place)).toMatch(expected);
  });
});
