import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import type { Policy } from '../core/policy';
import { syncOnly } from './sync-only';
import { validate, InvalidOptionsError } from './validate';
import { encryptionSchema, encryptionSettings, type EncryptionSettings } from './encryption';
import { headerPattern } from './header-pattern';
import type {
  HeaderFilter,
  IdempotencyModuleOptions,
  IdempotencyOptions,
  PolicyOptions,
} from './idempotency.options';
import { callback, duration, integer, LONGEST_TIMER, oneOf } from './schemas';
import { secretSchema } from './secret';

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
  readonly records: (status: number) => boolean;
  readonly keepsHeader: HeaderFilter;
}

export interface RedisSettings {
  readonly connection: string | undefined;
  readonly ttl: number;
  readonly timeout: number;
  readonly keyPrefix: string;
}

export interface PostgresSettings {
  readonly dataSource: string | undefined;
  readonly retention: number;
  readonly cleanupInterval: number | false;
  readonly cleanupBatchSize: number;
  readonly timeout: number;
  readonly poolSize: number;
  readonly preparedStatements: boolean;
}

/** How much of this process its requests may take while they wait. */
export interface LoadBounds {
  readonly maxWaitersTotal: number;
  readonly maxWaitingBytes: number;
  readonly maxQueuedClaims: number;
}

export interface ModuleSettings {
  /** The module's own options as the outermost layer of every route's. */
  readonly defaults: IdempotencyOptions;
  readonly redis: RedisSettings | false;
  readonly postgres: PostgresSettings | false;
  /** Undefined: outcomes are stored in the clear. */
  readonly encryption: EncryptionSettings | undefined;
  readonly bounds: LoadBounds;
  readonly namespace: string | undefined;
  /** Undefined: ids, fingerprints and digests of credentials are not keyed. */
  readonly secret: KeyObject | undefined;
}

const STATUSES_NOT_RECORDED = new Set([400, 401, 403, 408, 422, 423, 425, 429]);

const NAMESPACE = 'a text of 1 to 64 characters without control characters, such as the name of the service';
const boolean = z.boolean({ error: 'true or false' });
const text = z.string({ error: 'a string' });
const name = z.string({ error: 'a non-empty string' }).min(1, { error: 'a non-empty string' });
const headerName = z
  .string({ error: 'a header name' })
  .regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, { error: 'a header name, such as Idempotency-Key' });

/** A star is a legal character of a header name. Alone it would match those that change with each request. */
const credentialHeader = headerName.regex(/[^*]/, { error: 'a header name, not * alone' });
const namespace = z.string({ error: NAMESPACE }).regex(/^[^\p{C}]{1,64}$/u, { error: NAMESPACE });

/** Normalized, so that no space, quote or angle bracket of it can end the `Link` that carries it. */
const httpUrl = z.url({
  protocol: /^https?$/,
  normalize: true,
  error: 'an absolute http or https URL, such as https://api.example.com/docs/idempotency',
});

const policyShape = {
  inFlight: oneOf('wait', 'reject').optional(),
  waitTimeout: duration(0, LONGEST_TIMER).optional(),
  lease: duration(50, LONGEST_TIMER).optional(),
  onOrphan: oneOf('retry', 'reject').optional(),
  onOutage: oneOf('reject', 'execute').optional(),
  durability: oneOf('durable', 'fast').optional(),
  maxKeyLength: integer(1, 1024).optional(),
  maxBodySize: integer(0, 256 * 1024 * 1024).optional(),
  maxWaiters: integer(0, 1_000_000).optional(),
};

const routeShape = {
  ...policyShape,
  header: z
    .union([headerName, z.array(headerName).min(1, { error: 'a header name or a list of them' })], {
      error: 'a header name or a list of them',
    })
    .optional(),
  bareKeys: boolean.optional(),
  key: callback<NonNullable<IdempotencyOptions['key']>>().optional(),
  required: boolean.optional(),
  documentation: httpUrl.optional(),
  scope: callback<NonNullable<IdempotencyOptions['scope']>>().optional(),
  credentialHeaders: z
    .array(credentialHeader, { error: 'a list of header names, in which * stands for any text' })
    .optional(),
  fingerprint: callback<NonNullable<IdempotencyOptions['fingerprint']>>().optional(),
  record: callback<NonNullable<IdempotencyOptions['record']>>().optional(),
  replayHeaders: z
    .union([z.array(headerName), callback<HeaderFilter>()], { error: 'a list of header names or a function' })
    .optional(),
};

const redisShape = {
  connection: name.optional(),
  ttl: duration(1_000).optional(),
  timeout: duration(10, LONGEST_TIMER).optional(),
  keyPrefix: text.optional(),
};

const postgresShape = {
  dataSource: name.optional(),
  retention: duration(1_000).optional(),
  cleanupInterval: z
    .union([z.literal(false), duration(100, LONGEST_TIMER)], {
      error: 'false, or a duration from 100 ms to 24 days',
    })
    .optional(),
  cleanupBatchSize: integer(1, 100_000).optional(),
  timeout: duration(10, LONGEST_TIMER).optional(),
  poolSize: integer(2, 100).optional(),
  preparedStatements: z.boolean().optional(),
};

const disabled = z.literal(false);
const policySchema = z.strictObject(policyShape);
export const routeSchema = z.strictObject(routeShape);
export const moduleSchema = z.strictObject({
  ...routeShape,
  redis: z.union([disabled, z.strictObject(redisShape)]).optional(),
  postgres: z.union([disabled, z.strictObject(postgresShape)]).optional(),
  encryption: encryptionSchema.optional(),
  maxWaitersTotal: integer(0, 1_000_000).optional(),
  maxWaitingBytes: integer(0, 64 * 1024 * 1024 * 1024).optional(),
  maxQueuedClaims: integer(1, 1_000_000).optional(),
  namespace: namespace.optional(),
  secret: secretSchema.optional(),
});

/**
 * Validates the module's options and fills in the defaults of its two tiers.
 * @throws InvalidOptionsError
 */
export function resolveModuleOptions(options: IdempotencyModuleOptions = {}): ModuleSettings {
  const {
    redis,
    postgres,
    encryption,
    maxWaitersTotal,
    maxWaitingBytes,
    maxQueuedClaims,
    namespace,
    secret,
    ...defaults
  } = validate(moduleSchema, options, 'IdempotencyModule options');
  const settings: ModuleSettings = {
    defaults,
    redis: redis !== false && {
      connection: redis?.connection,
      ttl: redis?.ttl ?? 86_400_000,
      timeout: redis?.timeout ?? 250,
      keyPrefix: redis?.keyPrefix ?? 'idempotency:',
    },
    postgres: postgres !== false && {
      dataSource: postgres?.dataSource,
      retention: postgres?.retention ?? 2_592_000_000,
      cleanupInterval: postgres?.cleanupInterval ?? 3_600_000,
      cleanupBatchSize: postgres?.cleanupBatchSize ?? 1_000,
      timeout: postgres?.timeout ?? 2_000,
      poolSize: postgres?.poolSize ?? 4,
      preparedStatements: postgres?.preparedStatements ?? true,
    },
    encryption: encryptionSettings(encryption),
    bounds: {
      maxWaitersTotal: maxWaitersTotal ?? 10_000,
      maxWaitingBytes: maxWaitingBytes ?? 67_108_864,
      maxQueuedClaims: maxQueuedClaims ?? 5_000,
    },
    namespace,
    secret,
  };
  if (!settings.redis && !settings.postgres) {
    throw new InvalidOptionsError('IdempotencyModule options', [
      'redis and postgres are both disabled, so nothing could be recorded: enable at least one of them',
    ]);
  }
  return settings;
}

/**
 * Validates one layer of a route's options.
 * @throws InvalidOptionsError
 */
export function checkRouteOptions(where: string, options: IdempotencyOptions): void {
  validate(routeSchema, options, where);
}

/**
 * The options of one route: of each, the first layer that sets it wins, then its default.
 * @param where names the decorated place in error messages
 * @throws InvalidOptionsError
 */
export function resolveRouteOptions(where: string, ...layers: readonly IdempotencyOptions[]): RouteOptions {
  const options = validate(routeSchema, merge(layers), where);
  const { header = ['Idempotency-Key', 'X-Idempotency-Key'], replayHeaders } = options;
  return {
    policy: policyOf(options),
    headers: typeof header === 'string' ? [header] : header,
    bareKeys: options.bareKeys ?? true,
    required: options.required ?? false,
    documentation: options.documentation,
    key: options.key,
    scope: options.scope,
    credentialHeaders: options.credentialHeaders && headerPattern(options.credentialHeaders),
    fingerprint: options.fingerprint,
    records: options.record
      ? syncOnly('record', options.record)
      : (status) => status < 500 && !STATUSES_NOT_RECORDED.has(status),
    keepsHeader:
      typeof replayHeaders === 'function'
        ? syncOnly('replayHeaders', replayHeaders)
        : keepsListed(replayHeaders),
  };
}

/**
 * The policy of work that is no HTTP request.
 * @throws InvalidOptionsError
 */
export function resolvePolicy(where: string, options: PolicyOptions, defaults: IdempotencyOptions): Policy {
  const own = validate(policySchema, options, where);
  return policyOf(validate(routeSchema, merge([own, defaults]), where));
}

function policyOf(options: z.output<typeof policySchema>): Policy {
  return {
    inFlight: options.inFlight ?? 'wait',
    waitTimeout: options.waitTimeout ?? 10_000,
    lease: options.lease ?? 30_000,
    onOrphan: options.onOrphan ?? 'retry',
    onOutage: options.onOutage ?? 'reject',
    durability: options.durability ?? 'durable',
    maxKeyLength: options.maxKeyLength ?? 255,
    maxBodySize: options.maxBodySize ?? 1_048_576,
    maxWaiters: options.maxWaiters ?? 1_000,
  };
}

function keepsListed(names: readonly string[] | undefined): HeaderFilter {
  if (!names) return () => true;
  const kept = new Set(names.map((each) => each.toLowerCase()));
  return (header) => kept.has(header);
}

/** Per option, so that an absent or undefined one never hides the layer behind it. */
function merge(layers: readonly IdempotencyOptions[]): IdempotencyOptions {
  const merged: Record<string, unknown> = {};
  for (const layer of layers) {
    for (const [option, value] of Object.entries(layer)) {
      if (value !== undefined) merged[option] ??= value as unknown;
    }
  }
  return merged;
}
