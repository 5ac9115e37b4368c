import { hash } from 'node:crypto';
import type { Digest } from '../../../core/digest';
import { IdempotencySetupError, StoreUnavailableError } from '../../../core/errors';
import {
  assertOwnRecords,
  assertSameSecret,
  forRequests,
  type UnmarkedRecord,
} from '../../../core/secret-mark';
import type { PostgresConnection, Run } from '../connection/postgres.connection';
import { IS_RECORD, NAMESPACE_MARK } from './marks';
import { commits, literal } from './sql';

interface StandingMark {
  /** Hexadecimal. */
  readonly secret: string;
  /** A UUID that was drawn for this mark, so that an emptied table is another one. */
  readonly token: string;
  /** The transaction that wrote the row: another one in a table that was restored from a dump. */
  readonly writer: string;
  readonly database: string;
  readonly table: string;
}

const markOf = (table: string): string => `
  SELECT encode(fingerprint, 'hex') AS secret, token, xmin::text AS writer,
    (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS database,
    $2::text::regclass::oid::text AS "table"
  FROM ${table} WHERE id = $1::bytea`;

/** It never expires, so the cleanup leaves it, and it reads as a finished request without a response. */
const leaveMark = (table: string): string => `
  INSERT INTO ${table} (id, fingerprint, token, fence, attempt, state, status, tombstone, created_at, completed_at,
    expires_at, scope, key)
  SELECT $1::bytea, $2::bytea, gen_random_uuid(), 1, 1, 'completed', 200, 'unstorable', now(), now(),
    timestamptz '9999-12-31 00:00:00Z', $3::text, $4::text
  WHERE ${commits('durable')}
  ON CONFLICT (id) DO NOTHING`;

/** More than enough to find one of this application's among those of others. */
const SAMPLE = 1_000;

/** Marks come first, as they never expire. */
const latestRows = (table: string): string => `
  SELECT encode(id, 'hex') AS id, scope, key FROM ${table}
  WHERE expires_at > now() AND (${IS_RECORD} OR scope = ${literal(NAMESPACE_MARK)})
  ORDER BY expires_at DESC LIMIT ${SAMPLE}`;

/** Some services keep it from their customers. */
const systemIdentifier = 'SELECT system_identifier::text AS system FROM pg_control_system()';

export interface TableIdentityOptions {
  /** Whether a namespace that has no mark gets one. Tools leave none: their namespace may be misspelt. */
  readonly leavesMark: boolean;
}

/** Parameters: none. */
const namespaces = (table: string): string => `
  SELECT key AS name FROM ${table} WHERE scope = ${literal(NAMESPACE_MARK)} ORDER BY key LIMIT 20`;

/**
 * Which table this is, and that its records are made with this application's secret. Both are asked once: at start, or
 * as soon as Postgres can be asked, and until then nothing is claimed or found.
 */
export class TableIdentity {
  private known: string | undefined;
  private asking: Promise<void> | undefined;

  constructor(
    private readonly connection: PostgresConnection,
    private readonly table: string,
    private readonly digest: Digest,
    private readonly options: TableIdentityOptions = { leavesMark: true },
  ) {}

  /**
   * Tells this table from any other, a copy in another server or database included; a physical standby that takes over
   * is the same one. Undefined as long as the table was not reached.
   */
  get tag(): string | undefined {
    return this.known;
  }

  /**
   * @throws IdempotencySetupError if the records are made with another secret
   * @throws StoreUnavailableError
   */
  confirm(): Promise<void> {
    return (this.asking ??= this.ask().finally(() => (this.asking = undefined)));
  }

  /**
   * {@link confirm} on behalf of a request.
   * @throws StoreUnavailableError
   * @throws UnreadableRecordError if the records are made with another secret
   */
  async confirmForRequest(): Promise<void> {
    await this.confirm().catch((error: unknown) => {
      throw forRequests('postgres', error);
    });
  }

  private async ask(): Promise<void> {
    const run = this.connection.operation('check');
    const mark = (await this.standing(run)) ?? (await this.leave(run));
    assertSameSecret(mark.secret, this.digest, `the table ${this.table}`);
    const system = await this.system(run);
    const { database, table, token, writer } = mark;
    this.known = hash('sha256', JSON.stringify([system ?? writer, database, table, token]), 'hex').slice(
      0,
      16,
    );
  }

  private async standing(run: Run): Promise<StandingMark | undefined> {
    const [mark] = await run<StandingMark>(markOf(this.table), [this.id, this.table]);
    return mark;
  }

  /** Of two that leave one at once, one does, and both read that one. */
  private async leave(run: Run): Promise<StandingMark> {
    const { digest, table } = this;
    if (!this.options.leavesMark) throw await this.unknownNamespace(run);
    const rows = await run<UnmarkedRecord>(latestRows(table), []);
    const records = rows.filter(({ scope }) => scope !== NAMESPACE_MARK);
    const shared = records.length < rows.length;
    assertOwnRecords(records, digest, { place: `the table ${table}`, shared });
    await run(leaveMark(table), [
      this.id,
      `\\x${digest.markOfSecret}`,
      NAMESPACE_MARK,
      digest.namespace ?? '',
    ]);
    const mark = await this.standing(run);
    if (mark) return mark;
    throw new StoreUnavailableError(
      'postgres',
      'check',
      `the mark in the table ${table} was deleted meanwhile`,
    );
  }

  private async unknownNamespace(run: Run): Promise<IdempotencySetupError> {
    const known = await run<{ name: string }>(namespaces(this.table), []);
    const list = known.map(({ name }) => (name === '' ? 'no namespace' : JSON.stringify(name))).join(', ');
    const { namespace } = this.digest;
    const asked =
      namespace === undefined ? 'without a namespace' : `with the namespace ${JSON.stringify(namespace)}`;
    return new IdempotencySetupError(
      `no application ${asked} has used the table ${this.table} yet. ` +
        (list ? `Known are: ${list}. Name the namespace of the application.` : 'Start the application once.'),
    );
  }

  /** Undefined where it is not told; the table's rows then have to do. */
  private async system(run: Run): Promise<string | undefined> {
    try {
      const [row] = await run<{ system: string }>(systemIdentifier, []);
      return row?.system;
    } catch (error) {
      if (error instanceof StoreUnavailableError) throw error;
      return undefined;
    }
  }

  private get id(): string {
    return `\\x${this.digest.markId}`;
  }
}
