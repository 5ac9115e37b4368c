import { Logger } from '@nestjs/common';
import { setTimeout as delay } from 'node:timers/promises';
import { claimed, claimRequest, response, sql, type Instance } from '../../../support/postgres-store';
import { freshDatabases } from '../../../support/fresh-databases';

/** Those of the module, in the session that they are looked for in. */
const PREPARED = `
  SELECT name, (generic_plans + custom_plans)::int AS runs FROM pg_prepared_statements
  WHERE name LIKE 'idempotency%' AND statement LIKE $1`;
const CLAIM = '%INSERT INTO%in_progress%';

interface Prepared {
  readonly name: string;
  readonly runs: number;
}

describe('prepared statements', () => {
  const databases = freshDatabases({ instance: { poolSize: 1 } });
  let url: string;
  let instance: Instance;
  beforeEach(() => ({ url } = databases));

  const asked = <Row>(text: string, values: readonly unknown[] = []): Promise<Row[]> =>
    instance.connection.operation('look')<Row>(text, values);

  async function claims(first: number, last: number): Promise<void> {
    for (let n = first; n <= last; n++) claimed(await instance.store.claim(claimRequest(`key-${n}`)));
  }

  it('are parsed once per connection', async () => {
    instance = await databases.open();
    await claims(1, 10);
    expect(await asked<Prepared>(PREPARED, [CLAIM])).toMatchObject([{ runs: 10 }]);
  });

  it('can be switched off', async () => {
    instance = await databases.open({ preparedStatements: false });
    await claims(1, 3);
    expect(await asked<Prepared>(PREPARED, ['%'])).toEqual([]);
  });

  it('are planned anew every second, so that no plan for a small table stays while it grows', async () => {
    instance = await databases.open();
    await claims(1, 5);
    await sql(url, 'ANALYZE idempotency_cache');
    await claims(6, 20);
    const [statement] = await asked<Prepared>(PREPARED, [CLAIM]);
    const plan = async (): Promise<string> => {
      const values = `'\\x00', '${'0'.repeat(32)}', '\\x00', 1, 1, '', ''`;
      const rows = await asked<{ 'QUERY PLAN': string }>(`EXPLAIN EXECUTE ${statement!.name} (${values})`);
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    };
    expect(await plan()).toContain('Seq Scan on idempotency_cache'); // it is of five rows
    await sql(
      url,
      `INSERT INTO idempotency_cache (token, id, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
       SELECT gen_random_uuid(), sha256(n::text::bytea), sha256(''), 'in_progress', 1, now(), now(), now(), '', ''
       FROM generate_series(1, 20000) AS n`,
    );
    await delay(1_000); // a plan's age is all that is asked
    await claims(21, 21);
    expect(await plan()).toContain('Index Scan using idempotency_cache_pkey');
  });

  it('are given up, once and for all, where a session loses them, as behind a pooler', async () => {
    const log = jest.spyOn(Logger.prototype, 'log').mockImplementation();
    instance = await databases.open();
    await claims(1, 1);
    await asked('DEALLOCATE ALL');
    await claims(2, 3);
    expect(await asked<Prepared>(PREPARED, ['%'])).toEqual([]);
    expect(log.mock.calls.flat().filter((line) => String(line).includes('pooler'))).toHaveLength(1);
  });

  it('are given up where another client of the pooler has prepared the same in the session', async () => {
    jest.spyOn(Logger.prototype, 'log').mockImplementation();
    instance = await databases.open();
    await claims(1, 1);
    const [{ name }] = (await asked<Prepared>(PREPARED, [CLAIM])) as [Prepared];
    const other = await databases.open();
    await other.connection.operation('prepare')(`PREPARE ${name} AS SELECT 1`, []);
    expect(await other.store.claim(claimRequest('key-2'))).toMatchObject({ claimed: true });
  });

  it('survive a change of the table’s columns', async () => {
    instance = await databases.open();
    await claims(1, 7);
    const claim = claimed(await instance.store.claim(claimRequest('before')));
    await instance.store.complete(claim, response('done'));
    await sql(url, 'ALTER TABLE idempotency_cache ALTER COLUMN attempt TYPE bigint');
    expect(await instance.store.claim(claimRequest('before'))).toMatchObject({ claimed: false });
    await claims(8, 9);
  });

  it('fail alone with what the database does not support, as with any other refusal', async () => {
    instance = await databases.open();
    await sql(
      url,
      `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF NEW.key = 'key-7' THEN RAISE feature_not_supported USING MESSAGE = 'no sevens'; END IF;
         RETURN NEW;
       END $$;
       CREATE TRIGGER refuse BEFORE INSERT ON idempotency_cache FOR EACH ROW EXECUTE FUNCTION refuse()`,
    );
    const keys = Array.from({ length: 20 }, (_, n) => `key-${n}`);
    const results = await Promise.allSettled(keys.map((key) => instance.store.claim(claimRequest(key))));
    const refused = results.flatMap((result) =>
      result.status === 'rejected' ? [String(result.reason)] : [],
    );
    expect(refused).toEqual(['error: no sevens']);
  });
});
