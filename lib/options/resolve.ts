import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import type { AuditHook } from '../core/audit';
import type { Policy } from '../core/policy';
import { syncOnly } from './sync-only';
import { validate, InvalidOptionsError } from './validate';
import { withEnvironment, type Environment } from './environment';
import { headerPattern } from './header-pattern';
import type {
  HeaderFilter,
  IdempotencyModuleOptions,
  IdempotencyOptions,
  PolicyOptions,
} from './idempotency.options';
import { asyncSchema } from './specification/asynchronous';
import type { encryptionSchema } from './specification/encryption';
import type { OwnStore } from './own-store';
import { encryptionOptions } from './specification/encryption';
import { legacySchema } from './specification/legacy';
import { boundOptions, metricOptions, moduleOptions, tracingOptions } from './specification/module';
import { defaultsOf, givenOf, shapeOf, type Settings } from './specification/option';
import { policyOptions, transactionOptions } from './specification/policy';
import { postgresOptions } from './specification/postgres';
import { redisOptions } from './specification/redis';
import { routeOptions } from './specification/route';

export interface RouteOptions {
  readonly policy: Policy;
  readonly headers: readonly string[];
  readonly bareKeys: boolean;
  readonly required: boolean;
  readonly documentation: string | undefined;
  readonly key: IdempotencyOptions['key'];
  readonly scope: IdempotencyOptions['scope'];
  /** Matches the headers that count as credentials beside those that always do. */
  readonly credentialHeaders: RegExp | undefined;
  readonly fingerprint: IdempotencyOptions['fingerprint'];
  readonly legacy: LegacySettings | undefined;
  readonly records: (status: number) => boolean;
  readonly keepsHeader: HeaderFilter;
}

/** How the system before this module is asked. */
export type LegacySettings = Exclude<z.output<typeof legacySchema>, false>;
export type RedisSettings = Settings<typeof redisOptions>;
export type PostgresSettings = Settings<typeof postgresOptions>;
export type LoadBounds = Settings<typeof boundOptions>;
/** Of the keys, the first one encrypts, each decrypts; none is in there twice. */
export type EncryptionSettings = Settings<typeof encryptionOptions> &
  Pick<z.output<typeof encryptionSchema>, 'keys'>;

export interface ModuleSettings {
  /** The module's own options as the outermost layer of every route's. */
  readonly defaults: IdempotencyOptions;
  /** Undefined: Redis and Postgres, as far as they are enabled. */
  readonly store: OwnStore | undefined;
  readonly redis: RedisSettings | false;
  readonly postgres: PostgresSettings | false;
  /** Undefined: outcomes are stored in the clear. */
  readonly encryption: EncryptionSettings | undefined;
  readonly bounds: LoadBounds;
  /** Told of each change that an operator makes. */
  readonly audit: AuditHook | undefined;
  readonly namespace: string | undefined;
  readonly metrics: Settings<typeof metricOptions>;
  /** False: no spans, and no attributes on those of others. */
  readonly tracing: Settings<typeof tracingOptions> | false;
  /** Undefined: ids, fingerprints and digests of credentials are not keyed. */
  readonly secret: KeyObject | undefined;
}

const NEEDS_POSTGRES =
  'option "transaction" needs Postgres, and it is disabled: remove `postgres: false`, or DISABLE_DB_IDEMPOTENCY_FALLBACK from the environment';

const STATUSES_NOT_RECORDED = new Set([400, 401, 403, 408, 422, 423, 425, 429]);

const routeSchema = z.strictObject(shapeOf(routeOptions));
export const moduleSchema = z.strictObject({ ...routeSchema.shape, ...shapeOf(moduleOptions) });

/** Scope and fingerprint have another meaning there, and are checked there. */
const serviceSchema = z.strictObject({
  ...shapeOf(policyOptions),
  scope: z.unknown().optional(),
  fingerprint: z.unknown().optional(),
  legacy: legacySchema.optional(),
});

const OF_MODULE = { schema: moduleSchema, place: 'IdempotencyModule.forRoot()' };
const OF_ASYNC = { schema: asyncSchema, place: 'IdempotencyModule.forRootAsync()' };
const OF_ROUTES = { schema: moduleSchema, place: 'HTTP routes and the module' };

const redisSettings = defaultsOf(redisOptions);
const postgresSettings = defaultsOf(postgresOptions);
const boundSettings = defaultsOf(boundOptions);
const metricSettings = defaultsOf(metricOptions);
const tracingSettings = defaultsOf(tracingOptions);
const encryptionSettings = defaultsOf(encryptionOptions);
const policySettings = defaultsOf(policyOptions);
const routeSettings = defaultsOf(routeOptions);

/**
 * Validates the module's options and fills in the defaults of its two tiers.
 * @param environment whose switches are applied
 * @throws InvalidOptionsError
 */
export function resolveModuleOptions(
  options: IdempotencyModuleOptions,
  environment: Environment = {},
): ModuleSettings {
  const valid = validate(moduleSchema, options, 'IdempotencyModule options', OF_ASYNC);
  const given = withEnvironment(valid, environment);
  assertOneStore(given);
  if (given.transaction) assertTransactional('IdempotencyModule options', [options]);
  const { store, redis, postgres, encryption, tracing, audit, namespace, secret } = given;
  return {
    defaults: givenOf(routeOptions, given),
    store,
    redis: store === undefined && redis !== false && redisSettings(redis),
    postgres: store === undefined && postgres !== false && postgresSettings(postgres),
    encryption: encryption && { ...encryptionSettings(encryption), keys: encryption.keys },
    bounds: boundSettings(given),
    metrics: metricSettings(given),
    tracing: tracing !== false && tracingSettings(tracing),
    audit,
    namespace,
    secret,
  };
}

const NEEDS_DATA_SOURCE =
  'option "transaction" needs a DataSource of TypeORM, whose transactions it joins, and `postgres.pool` is not one: remove one of the two';

/** An option that does nothing would be believed to do something. */
function assertOneStore({
  store,
  redis,
  postgres,
  encryption,
  transaction,
}: z.output<typeof moduleSchema>): void {
  const problems: string[] = [];
  if (store === undefined && redis === false && postgres === false)
    problems.push(
      'redis and postgres are both disabled, so nothing could be recorded: enable at least one of them',
    );
  if (store !== undefined && (redis || postgres))
    problems.push('store takes the place of redis and postgres: remove them, or remove store');
  if (store !== undefined && store !== 'memory' && encryption)
    problems.push('encryption is of Redis and Postgres alone: have your store encrypt, and remove it');
  if (redis && redis.client && redis.connection !== undefined)
    problems.push('redis.client takes the place of redis.connection: remove one of the two');
  if (postgres && postgres.pool && postgres.dataSource !== undefined)
    problems.push('postgres.pool takes the place of postgres.dataSource: remove one of the two');
  if (transaction && (store !== undefined || postgres === false)) problems.push(NEEDS_POSTGRES);
  if (transaction && postgres && postgres.pool) problems.push(NEEDS_DATA_SOURCE);
  if (problems.length > 0) throw new InvalidOptionsError('IdempotencyModule options', problems);
}

/**
 * Validates one layer of a route's options.
 * @throws InvalidOptionsError
 */
export function checkRouteOptions(where: string, options: IdempotencyOptions): void {
  if (validate(routeSchema, options, where, OF_MODULE).transaction) assertTransactional(where, [options]);
}

/**
 * The options of one route: of each, the first layer that sets it wins, then its default.
 * @param where names the decorated place in error messages
 * @throws InvalidOptionsError
 */
export function resolveRouteOptions(where: string, ...layers: readonly IdempotencyOptions[]): RouteOptions {
  const given = validate(routeSchema, merge(layers), where);
  if (given.transaction) assertTransactional(where, layers);
  const { header, credentialHeaders, legacy, record, replayHeaders, ...options } = routeSettings(given);
  return {
    ...options,
    policy: policySettings(given),
    headers: typeof header === 'string' ? [header] : header,
    credentialHeaders: credentialHeaders && headerPattern(credentialHeaders),
    legacy: legacy === false ? undefined : legacy,
    records: record
      ? syncOnly(where, 'record', record)
      : (status) => status < 500 && !STATUSES_NOT_RECORDED.has(status),
    keepsHeader:
      typeof replayHeaders === 'function'
        ? syncOnly(where, 'replayHeaders', replayHeaders)
        : keepsListed(replayHeaders),
  };
}

/**
 * The policy of work that is not an HTTP request.
 * @param options all that `execute()` was given
 * @throws InvalidOptionsError
 */
export function resolvePolicy(where: string, options: PolicyOptions, defaults: IdempotencyOptions): Policy {
  validate(serviceSchema, options, where, OF_ROUTES);
  const own = read(options, Object.keys(policyOptions));
  const given = validate(routeSchema, merge([own, defaults]), where);
  if (given.transaction) assertTransactional(where, [own, defaults]);
  return policySettings(given);
}

/** @throws InvalidOptionsError */
export function resolveLegacy(where: string, legacy: unknown): LegacySettings | undefined {
  const schema = z.object({ legacy: legacySchema.optional() });
  const { legacy: given } = validate(schema, { legacy }, where);
  return given === false ? undefined : given;
}

function keepsListed(names: readonly string[] | undefined): HeaderFilter {
  if (!names) return () => true;
  const kept = new Set(names.map((each) => each.toLowerCase()));
  return (header) => kept.has(header);
}

/** What `transaction` rules out: leases, and running on without a commit. */
const CONTRADICTIONS: readonly (readonly [
  option: keyof PolicyOptions,
  contradicts: (value: unknown) => boolean,
  why: string,
])[] = [
  ['lease', () => true, 'it claims nothing before its commit, so there is no lease'],
  ['onOrphan', () => true, 'a crash rolls it back, so there is no orphan'],
  ['durability', (value) => value === 'fast', 'it has one commit, which is flushed'],
  ['onOutage', (value) => value === 'execute', 'without Postgres it cannot run'],
];

/**
 * Each layer may set options for the routes that are not in the transaction mode, so what counts is what stands beside
 * the nearest `transaction`, or nearer.
 * @throws InvalidOptionsError
 */
function assertTransactional(where: string, layers: readonly IdempotencyOptions[]): void {
  const nearest = layers.findIndex(({ transaction }) => transaction !== undefined);
  const found = CONTRADICTIONS.filter(([option, contradicts]) =>
    layers.slice(0, nearest + 1).some(({ [option]: value }) => value !== undefined && contradicts(value)),
  );
  if (found.length === 0) return;
  throw new InvalidOptionsError(
    where,
    found.map(
      ([option, , why]) => `option "${option}" contradicts "transaction": ${why}. Remove one of the two`,
    ),
  );
}

/** @throws InvalidOptionsError */
export function assertPostgres(where: string, { transaction }: Policy, { postgres }: ModuleSettings): void {
  if (!transaction) return;
  if (!postgres) throw new InvalidOptionsError(where, [NEEDS_POSTGRES]);
  if (postgres.pool) throw new InvalidOptionsError(where, [NEEDS_DATA_SOURCE]);
}

/** Per option, so that an absent or undefined one never hides the layer behind it. */
export function merge(layers: readonly IdempotencyOptions[]): IdempotencyOptions {
  const merged: Record<string, unknown> = {};
  for (const layer of layers) {
    for (const [option, value] of Object.entries(read(layer, ROUTE_OPTIONS))) {
      merged[option] = option === 'transaction' ? within(merged[option], value) : (merged[option] ?? value);
    }
  }
  return merged;
}

/** A nearer `true` switches the mode on, and leaves to the layers behind it how. */
function within(near: unknown, far: unknown): unknown {
  if (near === undefined) return far;
  if (typeof far !== 'object' || far === null) return near;
  if (near === true) return far;
  if (typeof near !== 'object' || near === null) return near;
  return { ...far, ...read(near, Object.keys(transactionOptions)) };
}

const ROUTE_OPTIONS = Object.keys(routeOptions);

/** What is set of these options. They may be getters of a class, which are not among an instance's own properties. */
function read(given: object, options: readonly string[]): Record<string, unknown> {
  const values = options.map((option) => [option, Reflect.get(given, option) as unknown] as const);
  return Object.fromEntries(values.filter(([, value]) => value !== undefined));
}
