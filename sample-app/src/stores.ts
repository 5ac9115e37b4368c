import { RedisUnavailableError, startPostgres, startRedis, type RunningServer } from '../../servers';
import type { Stores } from './app.module';

export interface OpenStores extends Stores {
  /** One line for each store: where it is and which process to kill. */
  readonly description: readonly string[];
  /** Those that the sample has started; undefined where the environment names one. */
  readonly postgres: RunningServer | undefined;
  readonly redis: RunningServer | undefined;
  stop(): Promise<void>;
}

/** The stores named by DATABASE_URL and REDIS_URL; real ones of our own where they are not set. */
export async function openStores(): Promise<OpenStores> {
  const DATABASE_URL = nonEmpty(process.env.DATABASE_URL);
  const REDIS_URL = nonEmpty(process.env.REDIS_URL);
  const started: RunningServer[] = [];
  const description: string[] = [];

  const [postgres, redis] = await Promise.all([
    DATABASE_URL ? undefined : startPostgres(),
    REDIS_URL ? undefined : startRedis().catch(withoutRedis),
  ]);
  if (postgres) started.push(postgres);
  description.push(
    postgres
      ? `Postgres  ${postgres.url}  (pid ${postgres.pid})`
      : `Postgres  ${withoutPassword(DATABASE_URL)}`,
  );
  if (redis) started.push(redis);
  description.push(
    redis
      ? `Redis     ${redis.url}  (pid ${redis.pid})`
      : REDIS_URL
        ? `Redis     ${withoutPassword(REDIS_URL)}`
        : 'Redis     none: Postgres does everything',
  );
  return {
    databaseUrl: DATABASE_URL ?? postgres?.url ?? '',
    redisUrl: REDIS_URL ?? redis?.url,
    postgres,
    redis,
    description,
    stop: async () => {
      await Promise.all(started.map((server) => server.stop()));
    },
  };
}

/** An empty variable is how many shells and compose files say that it is not set. */
function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

function withoutRedis(error: unknown): undefined {
  if (!(error instanceof RedisUnavailableError)) throw error;
  console.warn(error.message);
}

function withoutPassword(url: string | undefined): string {
  if (!url || !URL.canParse(url)) return '(set by the environment)';
  const parsed = new URL(url);
  if (parsed.password) parsed.password = '***';
  for (const name of ['password', 'sslpassword'])
    if (parsed.searchParams.has(name)) parsed.searchParams.set(name, '***');
  return parsed.href;
}
