import type { Command } from 'commander';
import { Option } from 'commander';
import type { IdempotencyModuleOptions } from '../options/idempotency.options';
import { resolveModuleOptions, type ModuleSettings } from '../options/resolve';
import { UsageError } from './exit';
import { withHost, type RedisPlace } from './redis-client';

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
    fromEnvironment(new Option(flags, text), variable);
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

/** A variable that is empty is one that is not set, as files for Compose have them. */
export function fromEnvironment(option: Option, variable: string): Option {
  return process.env[variable] === '' ? option : option.env(variable);
}

/** Secrets come from the environment alone: arguments can be seen by every user of the machine. */
export function placeOf(options: CommonOptions, environment: NodeJS.ProcessEnv): Place {
  const { databaseUrl, redis, schema, table, redisSentinel } = options;
  if (!databaseUrl) throw new UsageError('No database is given. Set DATABASE_URL, or pass --database-url.');
  assertUrl('DATABASE_URL', withHost(databaseUrl), {
    form: 'postgres://user:password@host:5432/database',
    holds: () => /^(?:[\w+]+:\/\/|socket:)/.test(databaseUrl),
  });
  for (const [flag, value] of Object.entries({ schema, table, 'redis-sentinel': redisSentinel }))
    if (value === '') throw new UsageError(`--${flag} is empty. Give it a value, or leave it out.`);
  const keys = environment.IDEMPOTENCY_ENCRYPTION_KEYS?.split(/[\s,]+/).filter((key) => key !== '');
  const given = {
    ...(options.namespace === undefined ? {} : { namespace: options.namespace }),
    ...secretIn(environment),
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

/** A secret that the application gives as a Buffer may be no text. */
function secretIn({
  IDEMPOTENCY_SECRET: text,
  IDEMPOTENCY_SECRET_BASE64: encoded,
}: NodeJS.ProcessEnv): Pick<IdempotencyModuleOptions, 'secret'> {
  if (text && encoded)
    throw new UsageError('IDEMPOTENCY_SECRET and IDEMPOTENCY_SECRET_BASE64 are both set: set one of them.');
  if (!encoded) return text ? { secret: text } : {};
  const bytes = Buffer.from(encoded, 'base64');
  if (bytes.toString('base64') !== encoded.trim())
    throw new UsageError('IDEMPOTENCY_SECRET_BASE64 is not base64 (`base64 -w 0` makes it of a file).');
  return { secret: bytes };
}

function redisPlaceOf(
  { redisUrl, redisCluster = false, redisSentinel }: CommonOptions,
  environment: NodeJS.ProcessEnv,
): RedisPlace {
  // Host and port are enough for ioredis as well.
  const [first, ...others] = (redisUrl ?? '')
    .split(/[\s,]+/)
    .filter((url) => url !== '')
    .map((url) => (/^[\w.-]+:\d+$/.test(url) ? `redis://${url}` : url))
    .map((url) => (url.startsWith('/') ? `unix://${url}` : url));
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
  const one = !redisCluster && redisSentinel === undefined;
  for (const url of [first, ...others])
    assertUrl('REDIS_URL', one ? withHost(url) : url, {
      form: `redis://user:password@host:6379/0, with rediss:// for TLS${one ? ', or unix:///run/redis.sock' : ''}`,
      holds: ({ protocol, pathname, searchParams }) =>
        isDecodable(url) &&
        /^\d*$/.test(searchParams.get('db') ?? '') &&
        (/^rediss?:$/.test(protocol) ? /^\/?\d*$/.test(pathname) : one && url.startsWith('unix://')),
    });
  return {
    urls: [first, ...others],
    isCluster: redisCluster,
    sentinel: redisSentinel,
    sentinelPassword: environment.IDEMPOTENCY_SENTINEL_PASSWORD,
  };
}

interface UrlForm {
  readonly form: string;
  readonly holds: (url: URL) => boolean;
}

/** A driver ends the process, or asks another server, where a URL is of another form. */
function assertUrl(name: string, text: string, { form, holds }: UrlForm): void {
  if (URL.canParse(text) && holds(new URL(text))) return;
  throw new UsageError(
    `${name} is not a URL of the form ${form}. It is not shown, as it may hold a password. In a password, write % as ` +
      '%25, @ as %40 and / as %2F.',
  );
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}
