import fc from 'fast-check';
import type { DataSource, EntityManager } from 'typeorm';
import { startPostgres, type RunningPostgres } from '../../servers';
import { runs } from '../support/arbitraries';
import { openDatabase, Row, VERSIONS, type Database } from './harness';

/** What a handler does: it writes rows, alone or in a transaction within the transaction, one after another or at once. */
type Work =
  | { readonly kind: 'row' }
  | { readonly kind: 'both'; readonly parallel: boolean; readonly parts: readonly Work[] }
  | {
      readonly kind: 'nested';
      readonly style: (typeof STYLES)[number];
      readonly fails: boolean;
      readonly parts: Work;
    };

const STYLES = ['dataSource', 'manager', 'root manager', 'query runner', 'connected query runner'] as const;

/** @param depth how deep it may go */
function work(depth: number): fc.Arbitrary<Work> {
  const row = fc.constant<Work>({ kind: 'row' });
  return depth === 0 ? row : fc.oneof(row, siblings(depth - 1), nested(depth - 1), nested(depth - 1));
}

const siblings = (depth: number): fc.Arbitrary<Work> =>
  fc.record({
    kind: fc.constant('both' as const),
    parallel: fc.boolean(),
    parts: fc.array(work(depth), { minLength: 2, maxLength: 4 }),
  });

const nested = (depth: number): fc.Arbitrary<Work> =>
  fc.record({
    kind: fc.constant('nested' as const),
    style: fc.constantFrom(...STYLES),
    fails: fc.boolean(),
    parts: work(depth),
  });

/** The rows that are there if all is done one after another. */
function rowsOf(work: Work, path: string): string[] {
  switch (work.kind) {
    case 'row':
      return [path];
    case 'both':
      return work.parts.flatMap((part, index) => rowsOf(part, `${path}${index}`));
    case 'nested':
      return work.fails ? [] : rowsOf(work.parts, `${path}n`);
  }
}

const FAILS = new Error('fails');

function unlessIntended(error: unknown): void {
  if (error !== FAILS) throw error;
}

class Doing {
  constructor(
    private readonly dataSource: DataSource,
    private readonly root: EntityManager,
  ) {}

  /** @param manager that of the nearest transaction; rows are written through it, and by an injected repository */
  async do(work: Work, path: string, manager: EntityManager): Promise<void> {
    switch (work.kind) {
      case 'row':
        await (path.length % 2 ? manager.getRepository(Row) : this.dataSource.getRepository(Row)).save({
          name: path,
        });
        return;
      case 'both':
        if (work.parallel) {
          await Promise.all(work.parts.map((part, index) => this.do(part, `${path}${index}`, manager)));
        } else {
          for (const [index, part] of work.parts.entries()) await this.do(part, `${path}${index}`, manager);
        }
        return;
      case 'nested':
        await this.nested(work, path, manager).catch(unlessIntended);
    }
  }

  private async nested(
    { style, fails, parts }: Extract<Work, { kind: 'nested' }>,
    path: string,
    manager: EntityManager,
  ): Promise<void> {
    const within = async (inner: EntityManager): Promise<void> => {
      await this.do(parts, `${path}n`, inner);
      if (fails) throw FAILS;
    };
    if (style === 'dataSource') return this.dataSource.transaction(within);
    if (style === 'manager') return manager.transaction(within);
    if (style === 'root manager') return this.root.transaction(within);
    const runner = this.dataSource.createQueryRunner();
    if (style === 'connected query runner') await runner.connect();
    await runner.startTransaction();
    try {
      await within(runner.manager);
      await runner.commitTransaction();
    } catch (error) {
      await runner.rollbackTransaction();
      throw error;
    } finally {
      await runner.release();
    }
  }
}

describe.each(VERSIONS)('siblings and transactions within a transaction over %s', (version) => {
  let server: RunningPostgres;
  let database: Database;
  beforeAll(async () => {
    server = await startPostgres();
    database = await openDatabase(server.url, version, { poolSize: 2 });
  });
  afterAll(async () => {
    await database.close();
    await server.stop();
  });

  it('leave the rows that they leave one after another, whatever the tree', async () => {
    await fc.assert(
      fc.asyncProperty(siblings(5), async (tree) => {
        await database.dataSource.query('DELETE FROM "row"');
        await database.transact(({ manager }) =>
          new Doing(database.dataSource, manager).do(tree, 'r', manager),
        );
        expect(await database.rows()).toEqual(rowsOf(tree, 'r').sort());
      }),
      runs(60),
    );
  });
});
