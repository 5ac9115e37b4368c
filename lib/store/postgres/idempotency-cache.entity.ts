import { Check, Column, Entity, Generated, Index, PrimaryColumn } from 'typeorm';

/**
 * The table `idempotency_cache`, exactly as `migrations/015_idempotency_cache.sql` makes it, so that neither
 * `synchronize` nor `migration:generate` finds anything to change. Its rows are written by the module alone; read
 * them as you like.
 */
@Entity({
  name: 'idempotency_cache',
  comment:
    'Claims and outcomes of idempotency keys; the arbiter of who may run a handler (nestjs-idempotency)',
})
@Check('idempotency_cache_hashes_check', `octet_length(id) = 32 AND octet_length(fingerprint) = 32`)
@Check('idempotency_cache_numbers_check', `fence > 0 AND attempt > 0 AND status BETWEEN 100 AND 999`)
@Check('idempotency_cache_state_check', `state IN ('in_progress', 'completed')`)
@Check('idempotency_cache_tombstone_check', `tombstone IN ('too_large', 'unstorable')`)
@Check('idempotency_cache_headers_check', `json_typeof(headers) = 'array'`)
@Check(
  'idempotency_cache_in_progress_check',
  `state <> 'in_progress' OR (lease_until IS NOT NULL AND expires_at >= lease_until ` +
    `AND num_nonnulls(completed_at, status, tombstone, headers, body) = 0)`,
)
@Check(
  'idempotency_cache_completed_check',
  `state <> 'completed' OR (lease_until IS NULL AND num_nulls(completed_at, status) = 0 ` +
    `AND num_nonnulls(headers, body) = CASE WHEN tombstone IS NULL THEN 2 ELSE 0 END)`,
)
export class IdempotencyCache {
  /** A bigint, which TypeORM gives as a string. */
  @Column({
    name: 'fence',
    type: 'bigint',
    comment: 'Rises strictly with each claim of a key, and tells a late writer from the present owner',
  })
  @Generated('increment')
  fence!: string;

  @Column({
    name: 'lease_until',
    type: 'timestamptz',
    nullable: true,
    comment: 'While in progress: when the claim lapses unless its owner renews it',
  })
  leaseUntil!: Date | null;

  @Column({ name: 'created_at', type: 'timestamptz', comment: 'When the key was first claimed' })
  createdAt!: Date;

  @Index('idempotency_cache_expires_at_idx')
  @Column({
    name: 'expires_at',
    type: 'timestamptz',
    comment: 'From then on the row counts as absent, and the cleanup deletes it',
  })
  expiresAt!: Date;

  @Column({
    name: 'completed_at',
    type: 'timestamptz',
    nullable: true,
    comment: 'When the outcome was recorded',
  })
  completedAt!: Date | null;

  @Column({
    name: 'attempt',
    type: 'integer',
    comment: '1, and one more each time a lapsed claim was taken over',
  })
  attempt!: number;

  @Column({ name: 'status', type: 'smallint', nullable: true, comment: 'HTTP status of the outcome' })
  status!: number | null;

  @Column({
    name: 'token',
    type: 'uuid',
    comment: 'UUID that the claimant chose; only its holder completes, renews or releases the claim',
  })
  token!: string;

  @PrimaryColumn({
    name: 'id',
    type: 'bytea',
    primaryKeyConstraintName: 'idempotency_cache_pkey',
    comment: 'SHA-256 of scope and key',
  })
  id!: Buffer;

  @Column({
    name: 'fingerprint',
    type: 'bytea',
    comment: 'SHA-256 of the request: tells a retry from another request under the same key',
  })
  fingerprint!: Buffer;

  @Column({ name: 'state', type: 'text', comment: 'in_progress or completed' })
  state!: 'in_progress' | 'completed';

  @Column({
    name: 'scope',
    type: 'text',
    comment: 'Method, path and principal, for operators; never searched by the module',
  })
  scope!: string;

  @Column({
    name: 'key',
    type: 'text',
    comment: 'The key as the client sent it, for operators; never searched by the module',
  })
  key!: string;

  @Column({
    name: 'tombstone',
    type: 'text',
    nullable: true,
    comment: 'Why a finished response is not kept: too_large or unstorable',
  })
  tombstone!: 'too_large' | 'unstorable' | null;

  @Column({
    name: 'headers',
    type: 'json',
    nullable: true,
    comment:
      'Response headers, [[name, value or list of values], ...], in the order first sent; ["A256GCM", key id] if encrypted',
  })
  headers!: [name: string, value: string | string[]][] | [algorithm: string, keyId: string] | null;

  @Column({
    name: 'body',
    type: 'bytea',
    nullable: true,
    comment: 'Response body, byte for byte; if encrypted, headers and body',
  })
  body!: Buffer | null;
}
