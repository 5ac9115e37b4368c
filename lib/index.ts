export { IdempotencyModule } from './idempotency.module';
export type { IdempotencyModuleAsyncOptions } from './options/async-options';
export type { IdempotencyOptionsFactory } from './options/specification/asynchronous';
export { Idempotent, IdempotencyClaim } from './http/routes/idempotent.decorator';
export { IdempotencyException, isIdempotencyException, type Problem } from './http/response/problems';
export { REPLAY_HEADER } from './http/response/replay';
export { fromBody, fromHeader } from './http/request/key-sources';
export { rawBody } from './http/request/fingerprint/raw-body';
export { byUser } from './http/request/caller/by-user';
export { httpScope, type HttpCaller } from './http/request/caller/http-scope';
export type { ScopeSelectors, ScopeUser } from './http/request/caller/scope-text';
export { IdempotencyService } from './idempotency.service';
export type { ExecuteOptions, ScopeOption } from './idempotency.service';
export type { Resolution } from './outcome/resolution';
export { IdempotencyAdmin } from './admin/idempotency-admin';
export type {
  AdminStats,
  ListOptions,
  PrincipalFilter,
  PurgeProgress,
  PurgeReport,
  RecordDetails,
  RecordFilter,
  RecordReference,
} from './admin/idempotency-admin';
export type { Explanation, RequestDescription } from './core/explanation';
export type { AuditEvent, AuditHook, Change } from './core/audit';
export type {
  RecordBatch,
  RecordDirectory,
  RecordPage,
  RecordSelection,
  RecordState,
  RecordSummary,
  SelectedRecord,
  StatsOptions,
  TableStats,
} from './core/record-directory';
export {
  IdempotencyError,
  IdempotencySetupError,
  StoreUnavailableError,
  TransactionEndedError,
  UnreadableRecordError,
  isIdempotencyError,
  isIdempotencySetupError,
  isStoreUnavailableError,
  isTransactionEndedError,
  isUnreadableRecordError,
  type IdempotencyErrorCode,
} from './core/errors';
export { LeaseLostError, isLeaseLostError } from './core/lease';
export type { IdempotencyContext } from './core/context';
export type { TransactionContext } from './transaction/context';
export type { Durability, Isolation } from './core/policy';
export type {
  ClaimRequest,
  ClaimResult,
  CompleteResult,
  ForgottenRecords,
  IdempotencyStore,
} from './core/store';
export type { OwnStore, StoreToken } from './options/own-store';
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
export {
  IdempotencyHealth,
  type HealthIndication,
  type HealthReport,
  type TierHealth,
} from './observability/health';
export type {
  ClaimMessage,
  IdempotencyChannels,
  OrphanMessage,
  RefusalMessage,
  ReplayMessage,
  RequestMessage,
  ShedMessage,
} from './observability/channels';
export type { IoredisClient, PgPool } from './options/clients';
export type { Duration } from './options/duration';
export type {
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
  TransactionOptions,
} from './options/idempotency.options';
export type { TracingOptions } from './options/tracing.options';
export type {
  LegacyAnswer,
  LegacyLookup,
  LegacyOptions,
  LegacyResponse,
  LegacyValue,
  LegacyValueLookup,
} from './options/legacy.options';
export { InvalidOptionsError, isInvalidOptionsError } from './options/validate';
export { CreateIdempotencyCache1764000000015 } from './store/postgres/schema/migration';
