import { createSecretKey, randomBytes } from 'node:crypto';
import { Digest, type DigestOptions } from '../../../../lib/core/digest';
import { IdempotencySetupError, StoreUnavailableError } from '../../../../lib/core/errors';
import { ExpiredRecordCleanup } from '../../../../lib/store/postgres/cleanup';
import { TableIdentity } from '../../../../lib/store/postgres/schema/table-identity';
import { startPostgres, type RunningPostgres } from '../../../../servers';
import { IS_RECORD } from '../../../support/stored';
import {
  claimed,
  claimRequest,
  migrate,
  sql,
  type Instance,
  type MigrationFile,
} from '../../../support/postgres-store';
import { freshDatabases } from '../../../support/fresh-databases';

const FILES = ['015_idempotency_cache.sql', '015_idempotency_cache_partitioned.sql'] as const;
const MARKS = `SELECT encode(id, 'hex') AS id, key, xmin::text, token FROM idempotency_cache WHERE scope LIKE '%mark of a namespace%'`;
const secret = createSecretKey(randomBytes(32));
const other = createSecretKey(randomBytes(32));

describe('The identity of a table', () => {
  const databases = freshDatabases({
    instance: { timeout: 2_000 },
    onEnd: () => databases.server.kill('SIGCONT'),
  });
  let server: RunningPostgres;
  let url: string;
  beforeEach(() => ({ server, url } = databases));
  const open = (at = url): Promise<Instance> => databases.open({}, at);
  const identityOf = ({ connection, names }: Instance, options: DigestOptions = {}): TableIdentity =>
    new TableIdentity(connection, names.table, new Digest(options));
  const confirmed = async (options: DigestOptions = {}, at = url): Promise<string> => {
    const identity = identityOf(await open(at), options);
    expect(identity.tag).toBeUndefined();
    await identity.confirm();
    return identity.tag!;
  };

  it.each<MigrationFile>([...FILES])(
    'is one mark for each namespace, made by the first start: %s',
    async (file) => {
      url = await server.createDatabase();
      await migrate(url, file);
      const tags = [
        await confirmed(),
        await confirmed(),
        await confirmed({ namespace: 'a' }),
        await confirmed({ namespace: 'a' }),
      ];
      expect(tags[0]).toMatch(/^[0-9a-f]{16}$/);
      expect([tags[1], tags[3]]).toEqual([tags[0], tags[2]]);
      expect(tags[2]).not.toBe(tags[0]);
      const marks = await sql<{ key: string }>(url, MARKS);
      expect(marks.map(({ key }) => key).sort()).toEqual(['', 'a']);
    },
  );

  it('is read, not written, by every later start', async () => {
    await confirmed({ secret });
    const before = await sql(url, MARKS);
    await sql(server.url, 'ALTER DATABASE ' + name(url) + ' SET default_transaction_read_only = on');
    expect(await confirmed({ secret })).toMatch(/^[0-9a-f]{16}$/);
    await sql(server.url, 'ALTER DATABASE ' + name(url) + ' RESET default_transaction_read_only');
    expect(await sql(url, MARKS)).toEqual(before);
  });

  it('draws no number from the sequence of fences', async () => {
    await confirmed();
    const [{ called }] = (await sql<{ called: boolean }>(
      url,
      'SELECT is_called AS called FROM idempotency_cache_fence_seq',
    )) as [{ called: boolean }];
    expect(called).toBe(false);
  });

  it('is left alone by the cleanup', async () => {
    await confirmed();
    const { connection, names, store } = await open();
    claimed(await store.claim(claimRequest('key')));
    await sql(
      url,
      `UPDATE idempotency_cache SET expires_at = now() - interval '1 h', lease_until = now() - interval '1 h' WHERE ${IS_RECORD}`,
    );
    const cleanup = new ExpiredRecordCleanup(connection, names, { interval: 1_000, batchSize: 10 });
    expect(await cleanup.runOnce()).toBe(1);
    expect(await sql(url, MARKS)).toHaveLength(1);
  });

  it('is another one in a copy of the database, and where the table was emptied or made anew', async () => {
    const original = await confirmed();
    await databases.closeAll();
    const copy = await server.createDatabase(undefined, new URL(url).pathname.slice(1));
    const tags = [original, await confirmed({}, copy)];
    await sql(url, 'TRUNCATE idempotency_cache');
    tags.push(await confirmed());
    const [mark] = await sql(url, 'SELECT id, token, fingerprint FROM idempotency_cache');
    await sql(url, 'CREATE TABLE copied AS TABLE idempotency_cache; DROP TABLE idempotency_cache');
    await migrate(url);
    await sql(url, 'INSERT INTO idempotency_cache TABLE copied'); // as a dump is restored
    expect((await sql(url, 'SELECT id, token, fingerprint FROM idempotency_cache'))[0]).toEqual(mark);
    tags.push(await confirmed());
    expect(new Set(tags).size).toBe(tags.length);
  });

  describe('tells two servers whose databases and tables have the same numbers', () => {
    const withTwin = async (work: (twinUrl: string) => Promise<void>): Promise<void> => {
      const servers = [await startPostgres(), await startPostgres()] as const;
      try {
        const [first, twin] = servers.map((each) => each.url) as [string, string];
        url = first;
        await migrate(first);
        await migrate(twin);
        await confirmed();
        const NUMBERS = `SELECT 'idempotency_cache'::regclass::oid::int AS "table", oid::int AS database FROM pg_database WHERE datname = current_database()`;
        expect(await sql(twin, NUMBERS)).toEqual(await sql(first, NUMBERS));
        await work(twin);
        await databases.closeAll();
      } finally {
        await Promise.all(servers.map((each) => each.stop()));
      }
    };
    const restoreMark = async (twin: string): Promise<void> => {
      const [row] = await sql<{ mark: string }>(
        url,
        'SELECT row_to_json(idempotency_cache)::text AS mark FROM idempotency_cache',
      );
      await sql(
        twin,
        'INSERT INTO idempotency_cache SELECT * FROM json_populate_record(NULL::idempotency_cache, $1::json)',
        [row!.mark],
      );
    };

    it('by the system identifier', () =>
      withTwin(async (twin) => {
        const tag = await confirmed();
        await restoreMark(twin);
        expect(await confirmed({}, twin)).not.toBe(tag);
      }));

    it('by who wrote the mark, where the system identifier is kept from us', () =>
      withTwin(async (twin) => {
        const asPlainRole = async (at: string): Promise<string> => {
          await sql(at, 'REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC');
          await sql(
            at,
            'CREATE ROLE app LOGIN; GRANT ALL ON idempotency_cache TO app; GRANT ALL ON SEQUENCE idempotency_cache_fence_seq TO app',
          );
          return at.replace('postgres@', 'app@');
        };
        const [mine, theirs] = [await asPlainRole(url), await asPlainRole(twin)];
        expect((await sql<{ me: string }>(mine, 'SELECT current_user AS me'))[0]?.me).toBe('app');
        const tag = await confirmed({}, mine);
        expect(await confirmed({}, mine)).toBe(tag);
        await restoreMark(twin);
        expect(await confirmed({}, theirs)).not.toBe(tag);
      }));
  });

  it.each<MigrationFile>([...FILES])(
    'takes one secret of many that start at once, and refuses the others: %s',
    async (file) => {
      for (let round = 0; round < 5; round++) {
        const at = await server.createDatabase();
        await migrate(at, file);
        const opened = await Promise.all(Array.from({ length: 6 }, () => open(at)));
        const results = await Promise.allSettled(
          opened.map((instance, index) =>
            identityOf(instance, { secret: index % 2 ? secret : other }).confirm(),
          ),
        );
        expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(IdempotencySetupError);
        expect(await sql(at, MARKS)).toHaveLength(1);
        await databases.closeAll();
      }
    },
  );

  it('is asked once for many requests that meet, and again by the next where it was not told', async () => {
    const instance = await open();
    const identity = identityOf(instance);
    server.kill('SIGSTOP');
    const asked = await Promise.allSettled(Array.from({ length: 20 }, () => identity.confirmForRequest()));
    for (const each of asked)
      expect(each).toMatchObject({
        status: 'rejected',
        reason: expect.any(StoreUnavailableError) as unknown,
      });
    expect(identity.tag).toBeUndefined();
    server.kill('SIGCONT');
    await identity.confirmForRequest();
    expect(identity.tag).toBeDefined();
  });
});

function name(url: string): string {
  return `"${new URL(url).pathname.slice(1)}"`;
}
