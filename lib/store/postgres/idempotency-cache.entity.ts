import { Check, Column, Entity, Generated, Index, PrimaryColumn } from 'typeorm';

/**
 * A row of the table that `migrations/015_idempotency_cache.sql` makes. It registers the table with the
 * application's DataSource and holds its name and schema; the statements on it are the Postgres store's own.
 * It is kept in step with the migration, so that neither `synchronize` nor `migration:generate` finds a difference.
 */
@Entity('idempotency_cache', {
  comment:
    "Claims and outcomes of idempotent requests; a row that carries a request's token lets its handler run",
})
@Check('idempotency_cache_state_check', `state IN ('in_progress', 'completed')`)
@Check(
  'idempotency_cache_outcome_check',
  `CASE state WHEN 'completed' THEN status IS NOT NULL AND completed_at IS NOT NULL AND (tombstone IS NULL) = (body IS NOT NULL) AND (tombstone IS NULL) = (headers IS NOT NULL) ELSE num_nonnulls(status, completed_at, tombstone, headers, body) = 0 END`,
)
@Index('idempotency_cache_expires_at_idx', ['expiresAt'])
export class IdempotencyCache {
  @PrimaryColumn({
    type: 'bytea',
    primaryKeyConstraintName: 'idempotency_cache_pkey',
    comment: 'SHA-256 of scope and key',
  })
  id!: Buffer;

  @Column({
    type: 'bigint',
    comment: 'Rises with each claim, so that a late writer can be told from the present owner',
  })
  @Generated('increment')
  fence!: string;

  @Column({
    type: 'timestamptz',
    name: 'created_at',
    default: () => 'now()',
    comment: 'When the key was first claimed',
  })
  createdAt!: Date;

  @Column({
    type: 'timestamptz',
    name: 'lease_until',
    comment: 'Until when the claim is held without renewal',
  })
  leaseUntil!: Date;

  @Column({
    type: 'timestamptz',
    name: 'expires_at',
    comment: 'From when on the row counts as absent and may be deleted',
  })
  expiresAt!: Date;

  @Column({
    type: 'timestamptz',
    name: 'completed_at',
    nullable: true,
    comment: 'When the outcome was recorded',
  })
  completedAt!: Date | null;

  @Column({ type: 'uuid', comment: 'UUID of the claim; only its owner may complete, renew or release it' })
  token!: string;

  @Column({
    type: 'integer',
    default: 1,
    comment: '1, and one more each time a lapsed claim was taken over',
  })
  attempt!: number;

  @Column({ type: 'integer', nullable: true, comment: 'HTTP status of the response' })
  status!: number | null;

  @Column({ type: 'text', comment: 'in_progress or completed' })
  state!: 'in_progress' | 'completed';

  @Column({
    type: 'bytea',
    comment: 'SHA-256 of the request: another request under the same key is refused',
  })
  fingerprint!: Buffer;

  @Column({
    type: 'text',
    comment: 'What the key belongs to: method, path and principal, or the name of a job',
  })
  scope!: string;

  @Column({ type: 'text', comment: 'Idempotency key as the client sent it' })
  key!: string;

  @Column({
    type: 'text',
    nullable: true,
    comment: 'Why the response is not kept: too_large or unstorable',
  })
  tombstone!: 'too_large' | 'unstorable' | null;

  @Column({
    type: 'text',
    nullable: true,
    comment: 'Response headers as a JSON list of names and values, in the order they were sent',
  })
  headers!: string | null;

  @Column({ type: 'bytea', nullable: true, comment: 'Response body, byte for byte' })
  body!: Buffer | null;
}
