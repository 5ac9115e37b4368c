import { Digest } from '../../../lib/core/digest';
import { recordId } from '../../../lib/core/record';
import type { RecordSelection, SelectedRecord } from '../../../lib/core/record-directory';
import { ExpiredRecordCleanup } from '../../../lib/store/postgres/cleanup';
import { PostgresDirectory } from '../../../lib/store/postgres/directory';
import { TableIdentity } from '../../../lib/store/postgres/schema/table-identity';
import {
  claimed,
  claimRequest,
  expire,
  lapse,
  migrate,
  response,
  sql,
  type Instance,
  type MigrationFile,
} from '../../support/postgres-store';
import { freshDatabases } from '../../support/fresh-databases';

describe.each<MigrationFile>(['015_idempotency_cache.sql', '015_idempotency_cache_partitioned.sql'])(
  'PostgresDirectory on %s',
  (file) => {
    const databases = freshDatabases({ migrated: false });
    let instance: Instance;
    let directory: PostgresDirectory;
    beforeEach(async () => {
      await migrate(databases.url, file);
      instance = await databases.open();
      directory = directoryOf();
    });

    const directoryOf = (digest = new Digest()): PostgresDirectory =>
      new PostgresDirectory(instance.connection, instance.names.table, digest);
    const claim = async (key: string, scope = 'POST /orders user.id:s:alice', digest = new Digest()) =>
      claimed(await instance.store.claim(claimRequest(key, { id: recordId(scope, key, digest) })));
    const complete = async (key: string, scope?: string, digest?: Digest) => {
      const made = await claim(key, scope, digest);
      await instance.store.complete(made, response(`of ${key}`));
      return made;
    };
    const keysOf = async (selection: RecordSelection): Promise<string[]> =>
      (await directory.list(selection, 100)).records.map(({ key }) => key).sort();

    it('gives each record once, in pages of any size', async () => {
      const keys = Array.from({ length: 25 }, (_, i) => `key ${i}`);
      await Promise.all(keys.map((key) => complete(key)));
      // Equal times, so that the hash decides.
      await sql(databases.url, `UPDATE idempotency_cache SET expires_at = now() + interval '1 day'`);
      const found: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await directory.list({}, 7, cursor);
        found.push(...page.records.map(({ key }) => key));
        ({ cursor } = page);
      } while (cursor);
      expect(found.sort()).toEqual(keys.sort());
      await expect(directory.list({}, 7, 'made up')).rejects.toThrow('cursor');
    });

    it('tells the four states apart', async () => {
      await claim('running');
      await claim('lost');
      await lapse(databases.url, 'lost');
      await complete('done');
      await instance.store.complete(await claim('large'), {
        kind: 'tombstone',
        status: 201,
        reason: 'too_large',
      });
      await complete('expired');
      await expire(databases.url, 'expired');
      expect(await keysOf({ state: 'in_flight' })).toEqual(['running']);
      expect(await keysOf({ state: 'orphaned' })).toEqual(['lost']);
      expect(await keysOf({ state: 'completed' })).toEqual(['done']);
      expect(await keysOf({ state: 'unstorable' })).toEqual(['large']);
      expect(await keysOf({})).toEqual(['done', 'large', 'lost', 'running']);
      const [done] = (await directory.list({ key: 'done' }, 1)).records;
      expect(done).toMatchObject({
        route: 'POST /orders',
        principal: 'user.id:s:alice',
        status: 201,
        state: 'completed',
      });
      expect(done?.bytes).toBeGreaterThan('of done'.length);
      expect(Date.now() - (done?.createdAt.getTime() ?? 0)).toBeLessThan(60_000);
    });

    it('finds by caller, route, key, scope and age exactly', async () => {
      await complete('1', 'POST /orders user.id:s:u7');
      await complete('2', 'POST /orders/7 user.id:s:u77');
      await complete('3', 'PUT /orders scope:l:2,s:user.id%3As%3Au7,s:u7');
      await complete('4', 'execute');
      expect(await keysOf({ principals: ['user.id:s:u7', 'scope:s:u7'] })).toEqual(['1']);
      expect(await keysOf({ principals: ['scope:l:2,s:user.id%3As%3Au7,s:u7'] })).toEqual(['3']);
      expect(await keysOf({ route: '^[A-Z-]+ /orders(?: |$)' })).toEqual(['1', '3']);
      expect(await keysOf({ scope: 'execute' })).toEqual(['4']);
      expect(await keysOf({ key: '2' })).toEqual(['2']);
      expect(await keysOf({ olderThan: 60_000 })).toEqual([]);
      await sql(
        databases.url,
        `UPDATE idempotency_cache SET created_at = now() - interval '2 min' WHERE key = '3'`,
      );
      expect(await keysOf({ olderThan: 60_000 })).toEqual(['3']);
    });

    it('leaves out the records of other namespaces and secrets, and what is no record', async () => {
      await complete('mine');
      await complete('theirs', undefined, new Digest({ namespace: 'billing' }));
      await instance.store.forget(await complete('forgotten'));
      await new ExpiredRecordCleanup(instance.connection, instance.names, {
        interval: 1,
        batchSize: 10,
      }).runOnce();
      expect(await keysOf({})).toEqual(['mine']);
      const theirs = directoryOf(new Digest({ namespace: 'billing' }));
      expect((await theirs.list({}, 10)).records.map(({ key }) => key)).toEqual(['theirs']);
      expect(await walked(theirs, {})).toEqual(['theirs']);
    });

    it('counts the records of its namespace alone, and those of all where that is asked for', async () => {
      const billing = new Digest({ namespace: 'billing' });
      for (const digest of [new Digest(), billing])
        await new TableIdentity(instance.connection, instance.names.table, digest).confirm();
      await complete('mine');
      await claim('running');
      await complete('theirs', 'POST /bills', billing);
      await claim('lost', 'POST /bills', billing);
      await sql(
        databases.url,
        `UPDATE idempotency_cache SET lease_until = now() - interval '90 s' WHERE key = 'lost'`,
      );
      const mine = await directory.stats();
      expect(mine.byState).toEqual({ in_flight: 1, orphaned: 0, completed: 1, unstorable: 0 });
      expect(mine).toMatchObject({ rows: 2, oldestOrphan: undefined, estimated: false });
      expect(mine.byRoute).toEqual([{ route: 'POST /orders', rows: 1 }]);
      const theirs = await directoryOf(billing).stats();
      expect(theirs.byState).toEqual({ in_flight: 0, orphaned: 1, completed: 1, unstorable: 0 });
      expect(theirs.oldestOrphan).toBeGreaterThanOrEqual(90);
      expect(theirs.byRoute).toEqual([{ route: 'POST /bills', rows: 1 }]);
      const all = await directory.stats({ wholeTable: true });
      expect(all.byState).toEqual({ in_flight: 1, orphaned: 1, completed: 2, unstorable: 0 });
      expect(all.rows).toBe(4);
      expect(all.byRoute).toHaveLength(2);
    });

    it('walks through all that were there, expired ones included, and says which are in flight', async () => {
      await complete('done');
      await claim('running');
      await claim('lost');
      await lapse(databases.url, 'lost');
      await complete('expired');
      await expire(databases.url, 'expired');
      await complete('other', 'PUT /orders user.id:s:alice');
      const selection = { route: '^POST /orders(?: |$)' };
      expect(await walked(directory, selection)).toEqual(['done', 'expired', 'lost', 'running']);
      expect(await walked(directory, selection, ({ inFlight }) => inFlight)).toEqual(['running']);
      expect(
        await walked(
          directory,
          selection,
          ({ claim: { id, token, fence } }) => id.key === 'done' && token.length === 36 && fence > 0,
        ),
      ).toEqual(['done']);
    });

    it('counts by state and route, with the orphan, the cleanup and the expired row that are oldest', async () => {
      expect(await directory.stats()).toMatchObject({
        rows: 0,
        oldestOrphan: undefined,
        lastCleanup: undefined,
        oldestExpired: undefined,
      });
      await complete('1');
      await complete('2', 'POST /orders/71');
      await complete('3', 'POST /orders/9b2f0a1c-0000-4000-8000-000000000000/notes scope:s:a');
      await complete('4', 'execute');
      await claim('lost');
      await sql(
        databases.url,
        `UPDATE idempotency_cache SET lease_until = now() - interval '90 s' WHERE key = 'lost'`,
      );
      await complete('expired');
      await expire(databases.url, 'expired');
      const stats = await directory.stats();
      expect(stats.byState).toEqual({ in_flight: 0, orphaned: 1, completed: 4, unstorable: 0 });
      expect(stats.byRoute.map(({ route }) => route).sort()).toEqual([
        'POST /orders',
        'POST /orders/:id',
        'POST /orders/:id/notes',
        'no HTTP route',
      ]);
      expect(stats.rows).toBe(5);
      expect(stats.bytes).toBeGreaterThan(8_192);
      expect(stats.estimated).toBe(false);
      expect(stats.oldestOrphan).toBeGreaterThanOrEqual(90);
      expect(stats.oldestExpired).toBeGreaterThanOrEqual(1);
      await new ExpiredRecordCleanup(instance.connection, instance.names, {
        interval: 1,
        batchSize: 10,
      }).runOnce();
      const after = await directory.stats();
      expect(after.oldestExpired).toBeUndefined();
      expect(after.lastCleanup).toBeLessThan(60);
    });
  },
);

describe('a walk through a table that one statement does not read', () => {
  const databases = freshDatabases();

  it('gives a request that ends meanwhile and moves to a block that was read before', async () => {
    const { store, connection, names } = await databases.open();
    // Pages of three small rows: a response of 7.3 kB has room on none, and in the first blocks, which are empty.
    await sql(
      databases.url,
      `ALTER TABLE idempotency_cache SET (fillfactor = 10, autovacuum_enabled = off), ALTER body SET STORAGE PLAIN`,
    );
    await sql(
      databases.url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, created_at, completed_at, expires_at, status, headers, body, scope, key)
       SELECT sha256(i::text::bytea), gen_random_uuid(), sha256('f'), 'completed', 1, now(), now(), now() + interval '1 day', 201, '[]', '', 'filler', 'key'
       FROM generate_series(1, 9002) AS i`,
    );
    const block = async (key: string): Promise<number> => {
      const [row] = await sql<{ ctid: string }>(
        databases.url,
        'SELECT ctid FROM idempotency_cache WHERE key = $1',
        [key],
      );
      return Number(/^\((\d+),/.exec(row?.ctid ?? '')?.[1]);
    };
    const id = (key: string) => ({ id: recordId('jobs', key, new Digest()) });
    const slow = claimed(await store.claim(claimRequest('slow', id('slow'))));
    await store.claim(claimRequest('endless', id('endless')));
    expect(await block('slow')).toBeGreaterThan(2_048);
    await sql(databases.url, `DELETE FROM idempotency_cache WHERE ctid < '(10,0)'`);
    await sql(databases.url, 'ALTER TABLE idempotency_cache RESET (fillfactor)');
    await sql(databases.url, 'VACUUM (INDEX_CLEANUP ON) idempotency_cache');

    const given: string[] = [];
    const walk = new PostgresDirectory(connection, names.table, new Digest()).walk({ scope: 'jobs' });
    for await (const { records, progress } of walk) {
      if (progress < 1) {
        expect(records).toEqual([]);
        await store.complete(slow, response('x'.repeat(7_300)));
        expect(await block('slow')).toBeLessThan(10);
        // A request that comes now is none of those that are meant.
        await store.claim(claimRequest('new', id('new')));
      }
      given.push(...records.map(({ claim, inFlight }) => `${claim.id.key} ${inFlight}`));
    }
    expect(given.sort()).toEqual(['endless true', 'slow false']);
  });
});

async function walked(
  directory: PostgresDirectory,
  selection: RecordSelection,
  filter: (record: SelectedRecord) => boolean = () => true,
): Promise<string[]> {
  const keys: string[] = [];
  let read = 0;
  for await (const { records, progress } of directory.walk(selection)) {
    keys.push(...records.filter(filter).map(({ claim }) => claim.id.key));
    expect(progress).toBeGreaterThanOrEqual(read);
    read = progress;
  }
  expect(read).toBe(1);
  return keys.sort();
}
