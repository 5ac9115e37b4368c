import { z } from 'zod';
import type { AuditHook } from '../../core/audit';
import { ioredisClient, optionsAround, pgPool } from '../clients';
import { boolean, callback, integer, namespaceName } from '../schemas';
import { ownStoreSchema } from '../own-store';
import { secretSchema } from '../secret';
import { encryptionOptions, encryptionSchema } from './encryption';
import { optionsAt, shapeOf } from './option';
import { postgresOptions } from './postgres';
import { redisOptions } from './redis';

const option = optionsAt('module');
const disabled = z.literal(false);

/** How much of this process its requests may take while they wait. */
export const boundOptions = {
  maxWaitersTotal: option({
    schema: integer(0, 1_000_000),
    default: 10_000,
    text: 'requests of all keys that may wait in one process; past it, the key with the most of them gets 503 first',
  }),
  maxWaitingBytes: option({
    schema: integer(0, 64 * 1024 * 1024 * 1024),
    default: 67_108_864,
    unit: 'bytes',
    text: 'that the bodies of waiting requests may have in one process; past it, the key with the most of them gets 503 first',
  }),
  maxQueuedClaims: option({
    schema: integer(1, 1_000_000),
    default: 5_000,
    text: 'first requests that may queue in one process for the store; further ones, and those that cannot be served in time, get 503',
  }),
};

export const metricOptions = {
  routeLabel: option({
    schema: boolean,
    default: true,
    text: 'whether `idempotency_requests_total` has the label `route`, of 200 values at most; see [Metrics](../operate/metrics.md)',
  }),
};

export const tracingOptions = {
  key: option({
    schema: boolean,
    default: false,
    text: 'whether spans have the key in the clear, as `idempotency.key`',
  }),
};

/** What `forRoot()` alone takes, beside the options of routes. */
export const moduleOptions = {
  redis: option({
    schema: optionsAround(
      ioredisClient,
      'within options: write `redis: { client }`',
      z.union([disabled, z.strictObject(shapeOf(redisOptions))], { error: 'false, or an object of options' }),
    ),
    otherwise: 'used',
    text: '`false`: Postgres does everything',
    options: redisOptions,
  }),
  postgres: option({
    schema: optionsAround(
      pgPool,
      'within options: write `postgres: { pool }`',
      z.union([disabled, z.strictObject(shapeOf(postgresOptions))], {
        error: 'false, or an object of options',
      }),
    ),
    otherwise: 'used',
    text: '`false`: Redis decides; see [Limits](../guarantees/limits.md)',
    options: postgresOptions,
  }),
  store: option({
    schema: ownStoreSchema,
    otherwise: 'Redis and Postgres',
    text: "your own store in place of both: an instance, or the class or symbol that provides it; see [Your own store](../internals/own-store.md). `'memory'`: the memory of this process, for development",
  }),
  encryption: option({
    schema: encryptionSchema,
    otherwise: 'stored in the clear',
    text: 'encrypts stored headers and bodies; see [Encryption](../operate/encryption.md)',
    options: encryptionOptions,
  }),
  ...boundOptions,
  namespace: option({
    schema: namespaceName,
    text: 'keeps this service apart from others that share its table or its Redis; the same on all its instances',
  }),
  ...metricOptions,
  tracing: option({
    schema: z.union([disabled, z.strictObject(shapeOf(tracingOptions))], {
      error: 'false, or an object of options',
    }),
    otherwise: 'on, where `@opentelemetry/api` is installed',
    text: '`false`: no spans, and no attributes on those of others; see [Traces and events](../operate/signals.md)',
    options: tracingOptions,
  }),
  secret: option({
    schema: secretSchema,
    text: 'makes ids, fingerprints and digests of credentials keyed hashes (HMAC), so that they cannot be guessed from a copy of the stores: at least 32 bytes, the same on all instances; see [Privacy](../operate/privacy.md)',
  }),
  audit: option({
    schema: callback<AuditHook>(),
    text: 'a function that is called for each change that an operator makes with `IdempotencyAdmin`: who, what, when, why; see [Look, settle, erase](../operate/operating.md)',
  }),
};
