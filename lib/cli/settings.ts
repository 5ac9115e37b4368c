import type { Command } from 'commander';
import { Option } from 'commander';
import type { IdempotencyModuleOptions } from '../options/idempotency.options';
import { resolveModuleOptions, type ModuleSettings } from '../options/resolve';
import { UsageError } from './exit';
import type { RedisPlace } from './redis-client';

/** What every verb takes. */
export interface CommonOptions {
  readonly databaseUrl?: string;
  readonly redisUrl?: string;
  /** False with `--no-redis`. */
  readonly redis: boolean;
  readonly redisCluster?: boolean;
  readonly redisSentinel?: string;
  readonly keyPrefix?: string;
  readonly schema?: string;
  readonly table: string;
  readonly namespace?: string;
  readonly retention?: string;
  readonly json?: boolean;
}

/** Where a verb works, checked. */
export interface Place {
  readonly databaseUrl: string;
  /** Undefined: the application uses no Redis. */
  readonly redis: RedisPlace | undefined;
  readonly schema: string | undefined;
  readonly table: string;
  readonly settings: ModuleSettings;
}

export function addCommonOptions(command: Command): Command {
  const option = (flags: string, text: string, variable: string): Option =>
    new Option(flags, text).env(variable);
  return command
    .addOption(option('--database-url <url>', 'Postgres', 'DATABASE_URL'))
    .addOption(
      option(
        '--redis-url <url>',
        'Redis; or nodes of a cluster, or Sentinels, separated by commas',
        'REDIS_URL',
      ),
    )
    .option('--no-redis', 'the application uses no Redis (`redis: false`)')
    .option('--redis-cluster', 'the URLs are nodes of a cluster')
    .addOption(
      option(
        '--redis-sentinel <name>',
        'the URLs are Sentinels, which know the primary by this name',
        'IDEMPOTENCY_REDIS_SENTINEL',
      ),
    )
    .addOption(option('--key-prefix <text>', 'as `redis.keyPrefix`', 'IDEMPOTENCY_KEY_PREFIX'))
    .addOption(option('--schema <name>', 'schema of the table', 'IDEMPOTENCY_SCHEMA'))
    .addOption(
      option('--table <name>', 'name of the table', 'IDEMPOTENCY_TABLE').default('idempotency_cache'),
    )
    .addOption(option('--namespace <name>', 'as the option `namespace`', 'IDEMPOTENCY_NAMESPACE'))
    .addOption(option('--retention <duration>', 'as `postgres.retention`', 'IDEMPOTENCY_RETENTION'))
    .option('--json', 'print JSON');
}

/** Secrets come from the environment alone: arguments can be seen by every user of the machine. */
export function placeOf(options: CommonOptions, environment: NodeJS.ProcessEnv): Place {
  const { databaseUrl, redis, schema, table } = options;
  if (!databaseUrl) throw new UsageError('No database is given. Set DATABASE_URL, or pass --database-url.');
  assertUrl('DATABASE_URL', databaseUrl);
  const keys = environment.IDEMPOTENCY_ENCRYPTION_KEYS?.split(/[\s,]+/).filter((key) => key !== '');
  const given = {
    ...(options.namespace === undefined ? {} : { namespace: options.namespace }),
    ...(environment.IDEMPOTENCY_SECRET ? { secret: environment.IDEMPOTENCY_SECRET } : {}),
    ...(keys?.length ? { encryption: { keys } } : {}),
    redis: redis && (options.keyPrefix === undefined ? {} : { keyPrefix: options.keyPrefix }),
    postgres: {
      timeout: '10s',
      cleanupInterval: false,
      ...(options.retention === undefined ? {} : { retention: options.retention }),
    },
  } as IdempotencyModuleOptions;
  return {
    databaseUrl,
    redis: redis ? redisPlaceOf(options, environment) : undefined,
    schema,
    table,
    settings: resolveModuleOptions(given),
  };
}

function redisPlaceOf(
  { redisUrl, redisCluster = false, redisSentinel }: CommonOptions,
  environment: NodeJS.ProcessEnv,
): RedisPlace {
  const [first, ...others] = (redisUrl ?? '').split(/[\s,]+/).filter((url) => url !== '');
  if (first === undefined)
    throw new UsageError(
      'No Redis is given. Set REDIS_URL, or pass --no-redis if the application runs with `redis: false`. ' +
        'Without it, responses that you delete would still be replayed from Redis.',
    );
  if (redisCluster && redisSentinel !== undefined)
    throw new UsageError('--redis-cluster and --redis-sentinel rule each other out: pass one of them.');
  if (others.length > 0 && !redisCluster && redisSentinel === undefined)
    throw new UsageError(
      'REDIS_URL has several URLs. Pass --redis-cluster if they are nodes of a cluster, or --redis-sentinel <name> if ' +
        'they are Sentinels.',
    );
  for (const url of [first, ...others]) assertUrl('REDIS_URL', url);
  return {
    urls: [first, ...others],
    isCluster: redisCluster,
    sentinel: redisSentinel,
    sentinelPassword: environment.IDEMPOTENCY_SENTINEL_PASSWORD,
  };
}

function assertUrl(name: string, url: string): void {
  if (!URL.canParse(url))
    throw new UsageError(`${name} is not a URL. It is not shown, as it may hold a password.`);
}
