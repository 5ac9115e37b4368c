/** What OpenTelemetry is told. */
export interface TracingOptions {
  /** Whether spans have the key, as the client sent it (`idempotency.key`). @default false: only the hash of its record */
  key?: boolean;
}
