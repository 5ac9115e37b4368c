import { Column, DataSource, Entity, PrimaryGeneratedColumn, type DataSourceOptions } from 'typeorm';

/** Made before the subjects start, which share it: none of them pays for it. */
export const CREATE_PLACED_ORDER = `CREATE TABLE placed_order (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer text NOT NULL,
  note text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
)`;

/** The row that a handler with an effect writes. */
@Entity('placed_order')
export class PlacedOrder {
  @PrimaryGeneratedColumn({ type: 'bigint' })
  readonly id!: string;

  @Column('text')
  readonly customer!: string;

  @Column('text')
  readonly note!: string;
}

/** The DataSource of every subject's application, bare and rivals included: one pool size, one library. */
export function dataSourceOptions(url: string): Extract<DataSourceOptions, { type: 'postgres' }> {
  // A server that is busy never lets a connection idle for as long as a subject waits for its turn.
  const extra = { idleTimeoutMillis: 0 };
  return { type: 'postgres', url, entities: [PlacedOrder], poolSize: 10, extra };
}

/** For applications without `@nestjs/typeorm`. */
export function openDataSource(url: string): Promise<DataSource> {
  return new DataSource(dataSourceOptions(url)).initialize();
}

/** As most handlers do it, through a repository: a transaction of three statements, none of them prepared. */
export async function writeRow(
  dataSource: DataSource,
  { user_id, filling = '' }: { readonly user_id?: string; readonly filling?: string },
): Promise<void> {
  await dataSource.getRepository(PlacedOrder).save({ customer: user_id, note: filling.slice(0, 100) });
}
