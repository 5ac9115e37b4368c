import type { Client } from 'pg';
import { Digest } from '../core/digest';
import { StoreUnavailableError } from '../core/errors';
import { noMetrics } from '../observability/metric-providers';
import { outcomeCipherOf } from '../outcome/outcome-cipher';
import type { ApplicationPool } from '../store/postgres/connection/pool';
import { PostgresConnection } from '../store/postgres/connection/postgres.connection';
import { PostgresDirectory } from '../store/postgres/directory';
import { PostgresStore } from '../store/postgres/postgres.store';
import { assertMigrated } from '../store/postgres/schema/setup';
import { TableIdentity } from '../store/postgres/schema/table-identity';
import { tableNames, type TableNames } from '../store/postgres/schema/table-name';
import { RedisConnection } from '../store/redis/connection/redis.connection';
import { TableKeySpace } from '../store/redis/key-space';
import { RedisStore } from '../store/redis/redis.store';
import { TieredStoreService } from '../store/tiered-store.service';
import { missingKeyIds } from './encryption-keys';
import { postgresClient, postgresPool } from './postgres-client';
import { redisClient, type RedisPlace } from './redis-client';
import type { Place } from './settings';

const POOL_SIZE = 2;

/** Both stores, as the application would open them, without the application. */
export interface OpenStores {
  readonly store: TieredStoreService;
  readonly directory: PostgresDirectory;
  readonly digest: Digest;
  readonly connection: PostgresConnection;
  readonly names: TableNames;
  /**
   * Whether the application whose table this is has left its mark in Redis; true where no Redis is used.
   * @throws StoreUnavailableError if Redis cannot be asked
   */
  isRedisMarked(): Promise<boolean>;
  /**
   * Ids of keys that the application's latest responses are encrypted with, and that are not here.
   * @throws StoreUnavailableError
   */
  missingKeyIds(): Promise<string[]>;
  close(): Promise<void>;
}

/**
 * @throws IdempotencySetupError if the table is missing, or its records are of another secret or namespace
 * @throws StoreUnavailableError if Postgres cannot be asked
 */
export async function openStores(place: Place): Promise<OpenStores> {
  const { settings } = place;
  const digest = new Digest(settings);
  const cipher = outcomeCipherOf(settings.encryption);
  const names = namesOf(place);
  const connection = openConnection(place);
  const identity = new TableIdentity(connection, names.table, digest, { leavesMark: false });
  let redis: RedisConnection | undefined;
  let space: TableKeySpace | undefined;
  const close = async (): Promise<void> => {
    await Promise.all([connection.close(), redis?.close()]);
  };
  try {
    await assertMigrated(connection, names);
    await identity.confirm();
    const { retention } = settings.postgres || { retention: 0 };
    const directory = new PostgresDirectory(connection, names.table, digest);
    const postgresStore = new PostgresStore(connection, names, { retention, cipher, identity, directory });
    const store = new TieredStoreService(
      settings,
      {
        open: async () => {
          if (!settings.redis || !place.redis) return undefined;
          const { keyPrefix, ttl } = settings.redis;
          redis = await openRedis(place.redis);
          const options = { connection: redis, keyPrefix, digest, leavesMark: false };
          space = new TableKeySpace(options, () => identity.tag);
          return new RedisStore({ connection: redis, keyPrefix, space, ttl, cipher });
        },
        close: async () => redis?.close(),
      },
      {
        open: () => Promise.resolve(postgresStore),
        close: () => connection.close(),
        silentAtStart: false,
        tableTag: undefined,
      },
      noMetrics,
    );
    await store.open();
    return {
      store,
      directory,
      digest,
      connection,
      names,
      missingKeyIds: () =>
        missingKeyIds((...query) => connection.operation('look')(...query), names.table, directory, settings),
      isRedisMarked: async () => (await space?.isMarked()) ?? true,
      close: () => store.close(2_000),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

export function namesOf({ schema, table }: Pick<Place, 'schema' | 'table'>): TableNames {
  return tableNames({ schema, tableName: table });
}

export function openConnection({ databaseUrl, settings }: Place): PostgresConnection {
  // The module duplicates a pool; this one never connects.
  const pool = postgresPool({ connectionString: databaseUrl, application_name: 'nestjs-idempotency' });
  const { timeout } = settings.postgres || { timeout: 10_000 };
  return new PostgresConnection(pool as unknown as ApplicationPool, { timeout, poolSize: POOL_SIZE });
}

/**
 * Works on a separate connection, for statements about the schema and the server's settings.
 * @throws StoreUnavailableError if there is none
 */
export async function connected<T>(
  { databaseUrl }: Pick<Place, 'databaseUrl'>,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const client = postgresClient({ connectionString: databaseUrl, connectionTimeoutMillis: 10_000 });
  client.on('error', () => undefined); // the query that is under way is told
  try {
    await client.connect();
  } catch (error) {
    throw new StoreUnavailableError('postgres', 'connect', error, false);
  }
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function openRedis(place: RedisPlace): Promise<RedisConnection> {
  const connection = new RedisConnection(redisClient(place), { timeout: 2_000 });
  await connection.open();
  return connection;
}
