import type { ExecutionContext } from '@nestjs/common';
import type { AuditHook } from '../core/audit';
import type { Durability, Isolation } from '../core/policy';
import type { IoredisClient, PgPool } from './clients';
import type { Duration } from './duration';
import type { LegacyLookup, LegacyOptions } from './legacy.options';
import type { OwnStore } from './own-store';
import type { TracingOptions } from './tracing.options';

/** What names a caller or a part of one. `1`, `'1'` and `1n` are three. A number beyond 2^53 is refused: JSON rounds it. */
export type CallerName = string | number | bigint;

/** What the `scope` option may answer: a name, or a list of them, such as tenant and user. */
export type ScopeAnswer = CallerName | readonly CallerName[];

/** A header's name in lower case and its value; true keeps the header in replays. */
export type HeaderFilter = (name: string, value: string | readonly string[]) => boolean;

/** How the transactions of a route are treated. */
export interface TransactionOptions {
  /** Isolation level of the transaction. @default that of the DataSource */
  isolation?: Isolation;
  /**
   * How long the handler may take, from the start of its transaction. Then the transaction is rolled back and the answer
   * is 503 (`transaction_timeout`). An open transaction holds a connection, and keeps Postgres from removing old rows.
   * @default '30s'
   */
  timeout?: Duration;
  /**
   * Transactions of this route that may run at once in one process. Further ones queue, and get 503 (`overloaded`) past
   * `waitTimeout` or `maxQueuedClaims`. All routes together have the pool's size less one.
   * @default the pool's size less one
   */
  maxConcurrent?: number;
}

/** The options that hold for any protected work, an HTTP request or a job. */
export interface PolicyOptions {
  /**
   * While the first request still runs, a duplicate waits for its response (`wait`) or gets 409 at once (`reject`).
   * @default 'wait'
   */
  inFlight?: 'wait' | 'reject';
  /**
   * How long a duplicate waits before it gets 409 with `Retry-After`.
   * @default '10s'
   */
  waitTimeout?: Duration;
  /**
   * How long a claim outlives a crashed owner. It is renewed every third of this while the handler runs.
   * @default '30s'
   */
  lease?: Duration;
  /**
   * After an owner crashed, the next request runs the handler again (`retry`), or gets 409 until the outcome is
   * settled with `IdempotencyService.resolve` (`reject`). A handler that failed releases its key under both, and may run
   * again.
   * @default 'retry'
   */
  onOrphan?: 'retry' | 'reject';
  /**
   * While the arbiter cannot be reached, a new key gets 503 (`reject`), or its handler runs unprotected and is
   * counted (`execute`). A record that Redis as the arbiter holds but that cannot be read is not an outage: 503.
   * @default 'reject'
   */
  onOutage?: 'reject' | 'execute';
  /**
   * Whether a claim is flushed to disk before the handler runs. With `fast`, a crash of Postgres can forget the
   * claims of its last moments.
   * @default 'durable'
   */
  durability?: Durability;
  /**
   * Claim, effects and outcome are committed together, in a transaction of the application's own DataSource: the
   * handler's effects there happen once under every failure, together with the response that every retry gets. All that
   * asks the DataSource for a connection within the handler joins the transaction. It rules out `lease`, `onOrphan`,
   * `durability: 'fast'` and `onOutage: 'execute'`, and needs Postgres. docs/guide/transactions.md says when to use it.
   * @default false
   */
  transaction?: boolean | TransactionOptions;
  /**
   * Longest accepted key, in characters.
   * @default 255
   */
  maxKeyLength?: number;
  /**
   * Largest response that is recorded, in bytes: its body and the names and values of its recorded headers. A
   * larger one is sent, and a retry gets 409 (`outcome_not_stored`).
   * @default 1048576 (1 MiB)
   */
  maxBodySize?: number;
  /**
   * Requests of one key that may wait in one process for the first to finish. Further ones get 503 (`overloaded`) with
   * `Retry-After`.
   * @default 1000
   */
  maxWaiters?: number;
}

/**
 * Options of one route. Each is taken from the method's `@Idempotent()`, else the class's, else the module's,
 * else its default: they are merged one by one, and an explicit `undefined` counts as absent.
 */
export interface IdempotencyOptions extends PolicyOptions {
  /**
   * Request headers that may carry the key. If several are sent they must agree.
   * @default ['Idempotency-Key', 'X-Idempotency-Key']
   */
  header?: string | readonly string[];
  /**
   * Whether a header may carry the key without quotes, as most clients send it: `abc` is the same key as `"abc"`.
   * With `false`, the header has to be one structured-field string (RFC 9651), as
   * draft-ietf-httpapi-idempotency-key-header-07 asks; anything else is refused with 400.
   * @default true
   */
  bareKeys?: boolean;
  /**
   * Takes the key from elsewhere, for example a webhook's event id; undefined means that there is none. `fromBody()` and
   * `fromHeader()` make such functions.
   */
  key?: (context: ExecutionContext) => string | undefined | Promise<string | undefined>;
  /**
   * Whether a request without a key is refused with 400. Otherwise its handler runs unprotected.
   * @default false
   */
  required?: boolean;
  /**
   * Where the API's documentation says how its keys work, as an absolute http or https URL. Every problem that this
   * module answers with then has a `Link` to it (`rel="describedby"`), behind the links that the response has already,
   * and also where a filter of the application shapes the body.
   * @default none: no `Link`
   */
  documentation?: string;
  /**
   * To whom a key belongs: a name, or a list of them, such as `[tenant, user.id]`. It replaces the user and the
   * credentials, so name the user as well as the tenant. With undefined, callers share their keys; `byUser()` refuses that.
   * @default `request.user.id`, `.sub` or `.userId` when a guard or middleware has set a user, else a digest of all
   * credentials; a user without an id is refused (500), and the anonymous callers of a route share their keys
   */
  scope?: (context: ExecutionContext) => ScopeAnswer | undefined | Promise<ScopeAnswer | undefined>;
  /**
   * Request headers that identify the caller where no guard names a user, beside those that always count
   * (`Authorization`, `*-Token`, `*-Key`, …). A star stands for any text, as in `'X-Acme-*'`.
   * @default none
   */
  credentialHeaders?: readonly string[];
  /**
   * What must be equal in a retry. The answer is hashed. `rawBody()`: the query and the bytes of the body.
   * @default method, path, query, and body in any order of its properties (as sent where the application keeps
   * `rawBody`, else as parsed)
   */
  fingerprint?: (context: ExecutionContext) => string | Promise<string>;
  /**
   * For a change from another system: looks up what that one has answered to a key that is unknown here. What it finds is
   * recorded and replayed, and the handler does not run (docs/guide/migrating.md). `false` switches it off for a route.
   * @default none
   */
  legacy?: LegacyLookup | LegacyOptions | false;
  /**
   * Which responses are recorded; the others release the key.
   * @default below 500, except 400, 401, 403, 408, 422, 423, 425 and 429
   */
  record?: (status: number) => boolean;
  /**
   * Which response headers a replay repeats: a list of names, or a predicate. The others stay as the retry's own
   * middleware set them. Never stored are headers that belong to one connection or one request: hop-by-hop headers,
   * `Date`, `Set-Cookie`, challenges and credentials (`WWW-Authenticate` and its kin), `Access-Control-*`, `RateLimit`,
   * `RateLimit-*`, `X-RateLimit-*`, request and trace ids, `Server-Timing`.
   * @default all others
   */
  replayHeaders?: readonly string[] | HeaderFilter;
}

export interface RedisOptions {
  /** Name of the `@nestjs-modules/ioredis` connection whose settings ours duplicates. @default the default connection */
  connection?: string;
  /**
   * A `Redis` or `Cluster` of ioredis in place of that connection. Only its settings are used: ours is a duplicate of it,
   * and closing it is left to the application. @default the connection that `connection` names
   */
  client?: IoredisClient;
  /** How long Redis keeps a finished response; Postgres answers after that. @default '24h' */
  ttl?: Duration;
  /** After how long a Redis command counts as failed. @default '250ms' */
  timeout?: Duration;
  /** Put before every Redis key. @default 'idempotency:' */
  keyPrefix?: string;
}

export interface PostgresOptions {
  /** Name of the TypeORM DataSource. @default the default DataSource */
  dataSource?: string;
  /**
   * A `Pool` of pg in place of that DataSource, for applications without TypeORM. Only its settings are used: ours is
   * another pool with the same ones, and ending it is left to the application. It rules out `transaction`.
   * @default the pool of the DataSource that `dataSource` names
   */
  pool?: PgPool;
  /** How long a record answers retries. @default '30d' */
  retention?: Duration;
  /** How often expired rows are deleted, on one instance at a time; `false`: never by this module. @default '1h' */
  cleanupInterval?: Duration | false;
  /** Rows that one cleanup statement deletes at most. @default 1000 */
  cleanupBatchSize?: number;
  /** How long Postgres may take for a statement before it counts as failed. A statement may wait as long for its turn
   * in this process, which is not an outage. @default '2s' */
  timeout?: Duration;
  /**
   * Connections of the module's own pool, which has the settings of the application's otherwise. It is apart from the
   * application's, so that handlers that hold every connection cannot starve heartbeats. One more is used while expired
   * rows are deleted and orphans looked for, and one while an operator looks through the records. @default 4
   */
  poolSize?: number;
  /**
   * Whether statements are prepared by name, once per connection, which halves what one costs. Through a pooler that
   * cannot (pgbouncer before 1.21 in transaction mode) the module finds that out, and sends them whole from
   * then on. @default true
   */
  preparedStatements?: boolean;
}

/** A key of 32 bytes, as a Buffer or as text in base64, base64url or hexadecimal. */
export type EncryptionKey = string | Uint8Array;

export interface EncryptionOptions {
  /**
   * The first one encrypts, each decrypts. Make one with `openssl rand -base64 32`. To change keys, add the new one at
   * the end on every instance, then put it first on every instance, and take the old one out once `postgres.retention`
   * has passed.
   */
  keys: readonly EncryptionKey[];
  /**
   * Whether responses that are stored in the clear, as from before encryption was switched on, are replayed. With
   * `false`, those who can write to a store but have no key cannot have a response of theirs replayed.
   * @default true
   */
  acceptPlain?: boolean;
}

export interface IdempotencyModuleOptions extends IdempotencyOptions {
  /** `false`: Postgres does everything. */
  redis?: RedisOptions | false;
  /** `false`: Redis is the arbiter. docs/guarantees/limits.md says which guarantees are lost. */
  postgres?: PostgresOptions | false;
  /**
   * A store of the application's own in place of Redis and Postgres: an `IdempotencyStore`, or the class or symbol that
   * provides one. It alone decides, so it has to pass the contract suite (docs/internals/own-store.md). `'memory'`: the memory of
   * this process, for development; a restart forgets it, and a second instance does not see it.
   * @default Redis and Postgres
   */
  store?: OwnStore;
  /**
   * Encrypts headers and bodies in both stores (AES-256-GCM), bound to their record. Status, scope, key and
   * fingerprint stay readable. @default responses are stored in the clear
   */
  encryption?: EncryptionOptions;
  /**
   * Requests that may wait in one process, of all keys together. Past it the key with the most waiters is turned away
   * first: 503 (`overloaded`) with `Retry-After`.
   * @default 10000
   */
  maxWaitersTotal?: number;
  /**
   * Bytes that the bodies of the requests which wait in one process may have together. Past it the key with the most of
   * them is turned away first: 503 (`overloaded`) with `Retry-After`.
   * @default 67108864 (64 MiB)
   */
  maxWaitingBytes?: number;
  /**
   * Claims of different keys that may queue in one process for the store. Further ones get 503 (`overloaded`) with
   * `Retry-After`, as do those that could not be served within the store's `timeout`.
   * @default 5000
   */
  maxQueuedClaims?: number;
  /**
   * Keeps the records of this application apart from those of other services that share its table or its Redis: with
   * different namespaces, equal keys never meet. All instances of a service have the same one. 1 to 64 characters.
   * @default none: all applications without one share their records
   */
  namespace?: string;
  /**
   * Whether `idempotency_requests_total` has the label `route`: method and pattern, such as `POST /leads/:id`. It has 200
   * values at most in one process; further routes share `other`. Each route has a series for each outcome. @default true
   */
  routeLabel?: boolean;
  /** What OpenTelemetry is told (docs/operate/signals.md); `false`: nothing. @default on, where `@opentelemetry/api` is installed */
  tracing?: TracingOptions | false;
  /**
   * Makes record ids, fingerprints and digests of credentials keyed hashes (HMAC-SHA-256), so that passwords and short
   * inputs cannot be guessed from a copy of the stores. At least 32 bytes, as text or as a Buffer; the same on all instances, and apart
   * from `encryption.keys`. The first start leaves a mark of it, and a start with another one, or none, is refused: see
   * docs/operate/privacy.md. @default none: plain SHA-256
   */
  secret?: string | Uint8Array;
  /**
   * Called for each change that an operator makes with `IdempotencyAdmin`, once it is made: who, what, when and why. A
   * purge is told before it begins as well. Each change is logged. If it throws, or has not ended after 10 s, that is logged, and the change stays. @default none
   */
  audit?: AuditHook;
}
