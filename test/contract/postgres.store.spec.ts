import { IdempotencyCache } from '../../lib/store/postgres/idempotency-cache.entity';
import { PostgresConnection } from '../../lib/store/postgres/postgres.connection';
import { PostgresStore } from '../../lib/store/postgres/postgres.store';
import { startPostgres, type RunningPostgres } from '../../servers';
import { migrated } from '../support/database';
import { storeContract } from './store.contract';

let postgres: RunningPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.stop());

storeContract('Postgres store', async ({ retention }) => {
  const dataSource = await migrated(await postgres.createDatabase());
  const { metadata } = dataSource.getRepository(IdempotencyCache);
  const connections = [1, 2].map(() => new PostgresConnection(dataSource, { timeout: 5_000, poolSize: 4 }));
  const [store, another] = connections.map(
    (connection) => new PostgresStore(connection, metadata, { retention }),
  );
  return {
    store: store!,
    another: another!,
    close: async () => {
      await Promise.all(connections.map((connection) => connection.close()));
      await dataSource.destroy();
    },
  };
});
