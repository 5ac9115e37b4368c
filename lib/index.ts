export { IdempotencyModule } from './idempotency.module';
export type { IdempotencyModuleAsyncOptions, IdempotencyOptionsFactory } from './idempotency.module';
export { Idempotent, IdempotencyClaim } from './http/idempotent.decorator';
export { IdempotencyException, type Problem } from './http/problems';
export { REPLAY_HEADER } from './http/replay';
export { httpScope, type HttpCaller } from './http/http-scope';
export type { ScopeSelectors, ScopeUser } from './http/scope-text';
export { IdempotencyService } from './core/idempotency.service';
export type { ExecuteOptions, ScopeOption } from './core/idempotency.service';
export type { Resolution } from './core/resolution';
export {
  IdempotencyError,
  IdempotencySetupError,
  StoreUnavailableError,
  UnreadableRecordError,
  isIdempotencyError,
  type IdempotencyErrorCode,
} from './core/errors';
export { LeaseLostError } from './core/lease';
export type { IdempotencyContext } from './core/context';
export type {
  Claim,
  CompletedRecord,
  HeaderList,
  IdempotencyRecord,
  InProgressRecord,
  Outcome,
  RecordId,
  ResponseOutcome,
  Tier,
  TombstoneOutcome,
  TombstoneReason,
} from './core/record';
export { IdempotencyHealth, type HealthReport, type TierHealth } from './observability/health';
export type {
  Duration,
  Durability,
  EncryptionKey,
  EncryptionOptions,
  HeaderFilter,
  CallerName,
  ScopeAnswer,
  IdempotencyModuleOptions,
  IdempotencyOptions,
  PolicyOptions,
  PostgresOptions,
  RedisOptions,
} from './options/idempotency.options';
export { InvalidOptionsError } from './options/check';
export { IdempotencyCache } from './store/postgres/idempotency-cache.entity';
export { CreateIdempotencyCache1764000000015 } from './store/postgres/migration';
