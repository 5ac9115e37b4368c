import { Column, Entity, PrimaryColumn } from 'typeorm';

/**
 * The rows of the table, for reading: `TypeOrmModule.forFeature([IdempotencyCache])`, imported from
 * `nestjs-idempotency/typeorm`. They are written by the module
 * alone, which needs no registered entity. The table is made by the migration; `synchronize` leaves it alone, as the
 * application's naming strategy must not rename what the module's own statements name.
 */
@Entity({ name: 'idempotency_cache', synchronize: false })
export class IdempotencyCache {
  /** Rises strictly with each claim of a key. A bigint, which TypeORM gives as a string. */
  @Column({ name: 'fence', type: 'bigint' })
  fence!: string;

  /** While in progress: when the claim lapses unless its owner renews it. */
  @Column({ name: 'lease_until', type: 'timestamptz', nullable: true })
  leaseUntil!: Date | null;

  /** When the key was first claimed. */
  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  /** From then on the row counts as absent, and the cleanup deletes it. */
  @Column({ name: 'expires_at', type: 'timestamptz' })
  expiresAt!: Date;

  /** When the outcome was recorded. */
  @Column({ name: 'completed_at', type: 'timestamptz', nullable: true })
  completedAt!: Date | null;

  /** 1, and one more each time a lapsed claim was taken over. */
  @Column({ name: 'attempt', type: 'integer' })
  attempt!: number;

  /** HTTP status of the outcome. */
  @Column({ name: 'status', type: 'smallint', nullable: true })
  status!: number | null;

  /** UUID that the claimant chose. */
  @Column({ name: 'token', type: 'uuid' })
  token!: string;

  /** SHA-256 of namespace, scope and key; an HMAC where there is a secret. */
  @PrimaryColumn({ name: 'id', type: 'bytea' })
  id!: Buffer;

  /** SHA-256 of the request; an HMAC where there is a secret. */
  @Column({ name: 'fingerprint', type: 'bytea' })
  fingerprint!: Buffer;

  @Column({ name: 'state', type: 'text' })
  state!: 'in_progress' | 'completed';

  /** Method, path and principal. */
  @Column({ name: 'scope', type: 'text' })
  scope!: string;

  /** The key as the client sent it. */
  @Column({ name: 'key', type: 'text' })
  key!: string;

  /** Why a finished response is not kept. */
  @Column({ name: 'tombstone', type: 'text', nullable: true })
  tombstone!: 'too_large' | 'unstorable' | null;

  /** In the order first sent; `["A256GCM", key id]` if encrypted. */
  @Column({ name: 'headers', type: 'json', nullable: true })
  headers!: [name: string, value: string | string[]][] | [algorithm: string, keyId: string] | null;

  /** Byte for byte; if encrypted, headers and body. */
  @Column({ name: 'body', type: 'bytea', nullable: true })
  body!: Buffer | null;
}
