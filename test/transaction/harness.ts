import type * as TypeOrm from 'typeorm';
import type { DataSource, DataSourceOptions, EntityManager, QueryRunner } from 'typeorm';
import { Ambient, type AmbientTransaction } from '../../lib/transaction/ambient';

/** The versions of TypeORM that the peer range allows. */
export const VERSIONS = ['typeorm', 'typeorm-legacy'] as const;

export const typeOrm = (version: (typeof VERSIONS)[number]): typeof TypeOrm =>
  jest.requireActual<typeof TypeOrm>(version);

/** The rows of a test: a name, once. */
export class Row {
  name!: string;
}

export interface Database {
  /** The same rows as entities that save themselves. */
  readonly ActiveRow: new () => TypeOrm.BaseEntity & Row;
  readonly dataSource: DataSource;
  readonly ambient: Ambient;
  /** The rows that are committed. */
  rows(): Promise<string[]>;
  /** Runs work in a transaction as the module does it: the module begins and ends it on the connection itself. */
  transact<T>(work: (transaction: AmbientTransaction) => Promise<T>, end?: 'COMMIT' | 'ROLLBACK'): Promise<T>;
  close(): Promise<void>;
}

export async function openDatabase(
  url: string,
  version: (typeof VERSIONS)[number] = 'typeorm',
  options: Partial<Extract<DataSourceOptions, { type: 'postgres' }>> = {},
): Promise<Database> {
  const { BaseEntity, DataSource, EntitySchema } = typeOrm(version);
  class ActiveRow extends BaseEntity implements Row {
    name!: string;
  }
  const columns = { name: { type: 'text', primary: true } } as const;
  const schema = new EntitySchema<Row>({ name: 'Row', target: Row, columns });
  const active = new EntitySchema<Row>({
    name: 'ActiveRow',
    target: ActiveRow,
    tableName: 'row',
    synchronize: false,
    columns,
  });
  const dataSource = await new DataSource({
    type: 'postgres',
    url,
    entities: [schema, active],
    synchronize: true,
    ...options,
  }).initialize();
  let ambient: Ambient | undefined;
  const database: Database = {
    ActiveRow,
    dataSource,
    get ambient() {
      return (ambient ??= new Ambient(dataSource)); // a library may have to change the DataSource first
    },
    transact: (work, end) => transactions(database.ambient).transact(work, end),
    rows: async () => {
      const found: { name: string }[] = await dataSource.query('SELECT name FROM "row"');
      return found.map(({ name }) => name).sort();
    },
    close: async () => {
      if (dataSource.isInitialized) await dataSource.destroy();
    },
  };
  return database;
}

export function transactions(ambient: Ambient): Pick<Database, 'transact'> {
  const transact: Database['transact'] = async (work, end = 'COMMIT') => {
    const runner = ambient.queryRunner();
    try {
      const client = (await runner.connect()) as { query(text: string): Promise<unknown> };
      await client.query('BEGIN');
      let entered!: AmbientTransaction;
      try {
        const result = await ambient.enter(runner, (transaction) => {
          entered = transaction;
          return work(transaction);
        });
        entered.end();
        await entered.settled();
        await client.query(end);
        return result;
      } catch (error) {
        entered.end();
        await client.query('ROLLBACK');
        throw error;
      }
    } finally {
      await runner.release();
    }
  };
  return { transact };
}

export type { EntityManager, QueryRunner };
