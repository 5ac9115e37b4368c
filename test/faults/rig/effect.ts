import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { sql } from '../../support/database';

/** What handlers leave in the application's database. No constraint: a doubled effect has to be seen. */
export const CREATE_EFFECT = `CREATE TABLE effect (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scope text NOT NULL,
  key text NOT NULL,
  nonce text NOT NULL
)`;

/** One row for each execution that got as far, with the nonce that the response of this execution carries. */
@Entity('effect')
export class Effect {
  @PrimaryGeneratedColumn({ type: 'bigint' })
  readonly id!: string;

  @Column('text')
  readonly scope!: string;

  @Column('text')
  readonly key!: string;

  @Column('text')
  readonly nonce!: string;
}

/** Those that are committed, read behind the application's back. */
export function readEffects(url: string): Promise<Omit<Effect, 'id'>[]> {
  return sql(url, 'SELECT scope, key, nonce FROM effect ORDER BY id');
}
