import type { Client } from 'pg';
import { isIdempotencySetupError } from '../../core/errors';
import { PostgresDirectory } from '../../store/postgres/directory';
import { assertMigrated } from '../../store/postgres/schema/setup';
import { TableIdentity } from '../../store/postgres/schema/table-identity';
import { Digest } from '../../core/digest';
import { seconds } from '../../admin/readable';
import { missingKeyIds, type EncryptedRow } from '../encryption-keys';
import type { Place } from '../settings';
import { connected, namesOf, openConnection } from '../stores';
import { findingOf, findings, type Finding } from './finding';

const OLDEST_VERSION = 14;
/** Milliseconds. */
const CLOCKS_DIFFER = 5_000;
/** Seconds: the cleanup runs once an hour by default. */
const UNCLEANED = 86_400;

interface ServerRow {
  readonly version: number;
  readonly standby: boolean;
  readonly read_only: boolean;
  readonly fsync: boolean;
  readonly full_pages: boolean;
  readonly asynchronous: boolean;
  readonly now: number;
  readonly pid: number;
}

const SERVER = `
  SELECT current_setting('server_version_num')::integer / 10000 AS version, pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') = 'on' AS read_only, current_setting('fsync') = 'on' AS fsync,
    current_setting('full_page_writes') = 'on' AS full_pages,
    current_setting('synchronous_commit') = 'off' AS asynchronous,
    extract(epoch FROM clock_timestamp())::float8 * 1000 AS now, pg_backend_pid() AS pid`;

export async function checkServer(place: Place): Promise<Finding[]> {
  return connected(place, async (client) => {
    const askedAt = Date.now();
    const { rows } = await client.query<ServerRow>(SERVER);
    const [server] = rows;
    if (!server) return [];
    const { version, standby, read_only, fsync, full_pages, asynchronous, now, pid } = server;
    const skew = now - (askedAt + Date.now()) / 2;
    return [
      ...findings(
        'server',
        version < OLDEST_VERSION && [
          'error',
          `it is Postgres ${version}`,
          `Use Postgres ${OLDEST_VERSION} or newer.`,
        ],
        standby && [
          'error',
          'it is a standby, which accepts no claims',
          'Point DATABASE_URL at the primary.',
        ],
        !standby &&
          read_only && [
            'error',
            'transactions are read-only by default, so no key can be claimed',
            'Set default_transaction_read_only = off for the role or the database.',
          ],
      ),
      ...findings(
        'durability',
        !fsync && ['error', 'fsync is off: a crash loses claims, and handlers run twice', 'Set fsync = on.'],
        !full_pages && [
          'error',
          'full_page_writes is off: a crash can corrupt the table',
          'Set full_page_writes = on.',
        ],
        asynchronous && [
          'warning',
          'synchronous_commit is off; claims and outcomes are flushed anyway',
          'Set synchronous_commit = on, unless other tables need it off.',
        ],
      ),
      ...findings(
        'clock',
        Math.abs(skew) > CLOCKS_DIFFER && [
          'warning',
          `the clock of this machine and that of Postgres differ by ${seconds(Math.abs(skew) / 1000)}. Leases go by Postgres' alone`,
          'Synchronize both clocks (NTP), so that times in logs and signatures of webhooks agree.',
        ],
      ),
      ...(await checkPooler(place, client, pid)),
    ];
  });
}

/** A pooler has another process id than the session behind it. In transaction mode, another session may serve the next statement. */
async function checkPooler(place: Place, client: Client, pid: number): Promise<Finding[]> {
  const { processID } = client as Client & { readonly processID?: number };
  if (processID === pid) return findings('pooler');
  const loses = await losesStatements(place, client);
  return findings(
    'pooler',
    loses && [
      'warning',
      'Postgres is reached through a pooler in transaction mode that loses prepared statements',
      'Set max_prepared_statements = 100 (pgbouncer 1.21 or newer), or the option `postgres.preparedStatements: false`. ' +
        'The module finds it out as well, and sends statements whole from then on.',
    ],
  );
}

/** The session that has prepared a statement is held by another client when it is used again. */
async function losesStatements(place: Place, client: Client): Promise<boolean> {
  const statement = { name: 'nestjs_idempotency_doctor', text: 'SELECT 1' };
  await client.query(statement);
  return connected(place, async (other) => {
    await other.query('BEGIN');
    try {
      await client.query(statement);
      return false;
    } catch {
      return true;
    } finally {
      await other.query('ROLLBACK');
    }
  });
}

interface IndexRow {
  readonly expiry: boolean;
  readonly progress: boolean;
  readonly cleanup: boolean;
}

const INDEXES = `
  SELECT coalesce(bool_or(attname = 'expires_at' AND indpred IS NULL AND indisvalid), false) AS expiry,
    coalesce(bool_or(attname = 'expires_at' AND indpred IS NOT NULL AND indisvalid), false) AS progress,
    to_regprocedure($2) IS NOT NULL AS cleanup
  FROM pg_index LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
  WHERE indrelid = to_regclass($1)`;

/** Of the table and its partitions. */
const INVALID = `
  SELECT string_agg(indexrelid::regclass::text, ', ' ORDER BY indexrelid::regclass::text) AS names,
    bool_or(relkind = 'I' OR relispartition) AS partitioned
  FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
  WHERE NOT indisvalid
    AND indrelid IN (SELECT to_regclass($1) UNION SELECT relid FROM pg_partition_tree(to_regclass($1)))`;

/** The table, its records' secret and keys, and whether it is looked after. Ends where the table cannot be used. */
export async function checkTable(place: Place): Promise<Finding[]> {
  const connection = openConnection(place);
  const names = namesOf(place);
  const digest = new Digest(place.settings);
  const directory = new PostgresDirectory(connection, names.table, digest);
  const identity = new TableIdentity(connection, names.table, digest, { leavesMark: false });
  try {
    const table = await finding('table', () => assertMigrated(connection, names));
    if (table.level !== 'ok') return [table];
    const secret = await finding('namespace and secret', () => identity.confirm());
    return [
      table,
      ...(await connected(place, (client) => checkIndexes(place, client))),
      secret,
      ...(await connected(place, (client) => checkKeys(place, client, directory))),
      ...(await checkUpkeep(directory)),
    ];
  } finally {
    await connection.close();
  }
}

async function finding(check: string, work: () => Promise<unknown>): Promise<Finding> {
  try {
    await work();
    return { check, level: 'ok' };
  } catch (error) {
    if (isIdempotencySetupError(error)) return findingOf(check, error);
    throw error;
  }
}

async function checkIndexes(place: Place, client: Client): Promise<Finding[]> {
  const { table } = namesOf(place);
  const cleanup = table.replace(/"([^"]*)"$/, '"cleanup_$1"(integer)');
  const { rows } = await client.query<IndexRow>(INDEXES, [table, cleanup]);
  const [found] = rows;
  if (!found) return [];
  const invalid = await client.query<{ names: string | null; partitioned: boolean }>(INVALID, [table]);
  const [{ names, partitioned } = { names: null, partitioned: false }] = invalid.rows;
  const again = 'Run `nestjs-idempotency migrate` again.';
  return findings(
    'version of the table',
    !found.expiry && [
      'error',
      'the index on expires_at is missing, so each cleanup reads the whole table',
      again,
    ],
    !found.progress && [
      'error',
      'the index of claims in progress is missing, so each look for orphans reads the whole table',
      again,
    ],
    !found.cleanup && ['warning', 'the function that cleans up for schedulers is missing', again],
    names !== null && [
      'warning',
      `indexes are invalid, as their creation was interrupted: ${names}`,
      partitioned
        ? 'Run `nestjs-idempotency migrate --indexes`. If the index of the whole table stays invalid, run DROP INDEX on it ' +
          '(an index of a partitioned table cannot be dropped concurrently), then migrate again.'
        : 'Run `nestjs-idempotency migrate --indexes`. Run DROP INDEX CONCURRENTLY on those that stay invalid.',
    ],
  );
}

async function checkKeys(place: Place, client: Client, directory: PostgresDirectory): Promise<Finding[]> {
  const missing = await missingKeyIds(
    async (text, values) => (await client.query<EncryptedRow>(text, values)).rows,
    namesOf(place).table,
    directory,
    place.settings,
  );
  return findings(
    'encryption keys',
    missing.length > 0 && [
      'error',
      `responses are encrypted with keys that are not here: ${missing.join(', ')}. Their retries get no response`,
      'Put these keys into IDEMPOTENCY_ENCRYPTION_KEYS, and into `encryption.keys` of the application, behind the first one.',
    ],
  );
}

async function checkUpkeep(directory: PostgresDirectory): Promise<Finding[]> {
  const { byState, oldestOrphan, oldestExpired = 0 } = await directory.stats();
  return [
    ...findings(
      'cleanup',
      oldestExpired > UNCLEANED && [
        'warning',
        `an expired row has waited for ${seconds(oldestExpired)}: nothing cleans up`,
        'Leave `postgres.cleanupInterval` on, or schedule `nestjs-idempotency cleanup`.',
      ],
    ),
    ...findings(
      'orphans',
      byState.orphaned > 0 && [
        'warning',
        `${byState.orphaned} requests have an unknown outcome, the oldest for ${seconds(oldestOrphan ?? 0)}`,
        'See `nestjs-idempotency list --state orphaned`; with `onOrphan: reject`, settle each with `resolve` or `retry`.',
      ],
    ),
  ];
}
