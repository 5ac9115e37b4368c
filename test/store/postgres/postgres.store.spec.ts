import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { type RunningPostgres } from '../../../servers';
import { recordId, type Claim } from '../../../lib/core/record';
import type { ClaimResult } from '../../../lib/core/store';
import { until } from '../../support/eventually';
import {
  claimed,
  claimRequest,
  expire,
  lapse,
  migrate,
  response,
  sha256,
  sql,
} from '../../support/postgres-store';
import { freshDatabases } from '../../support/fresh-databases';

describe('PostgresStore', () => {
  // A slow walwriter, so that what is not flushed by its own commit stays unflushed long enough to be seen.
  const databases = freshDatabases({
    server: { settings: { wal_writer_delay: '10s', bgwriter_delay: '10s' } },
  });
  const instance = databases.open;
  let server: RunningPostgres;
  let url: string;
  beforeEach(() => ({ server, url } = databases));

  const winners = (results: readonly ClaimResult[]): Claim[] =>
    results.flatMap((result) => (result.claimed ? [result.claim] : []));

  describe('under contention', () => {
    it('lets one of many claims of a key through, and shows it to all others', async () => {
      const all = await Promise.all([instance(), instance(), instance(), instance()]);
      for (let round = 0; round < 25; round++) {
        const key = `key-${round}`;
        const results = await Promise.all(
          Array.from({ length: 16 }, (_, n) => all[n % all.length]!.store.claim(claimRequest(key))),
        );
        expect(winners(results)).toHaveLength(1);
        const [winner] = winners(results);
        for (const result of results) {
          if (!result.claimed)
            expect(result.record).toMatchObject({ state: 'in_progress', token: winner!.token });
        }
      }
    });

    it('lets one of many take over an orphan', async () => {
      const all = await Promise.all([instance(), instance(), instance()]);
      for (let round = 0; round < 15; round++) {
        const key = `key-${round}`;
        const first = claimed(await all[0].store.claim(claimRequest(key)));
        await lapse(url, key);
        const results = await Promise.all(
          Array.from({ length: 12 }, (_, n) => all[n % all.length]!.store.claim(claimRequest(key))),
        );
        expect(winners(results)).toHaveLength(1);
        expect(winners(results)[0]).toMatchObject({ attempt: 2 });
        expect(winners(results)[0]!.fence).toBeGreaterThan(first.fence);
      }
    });

    it('lets one of many claim an expired key anew, while a cleanup deletes it', async () => {
      const all = await Promise.all([instance(), instance(), instance()]);
      for (let round = 0; round < 15; round++) {
        const key = `key-${round}`;
        const first = claimed(await all[0].store.claim(claimRequest(key)));
        await all[0].store.complete(first, response('old'));
        await expire(url, key);
        const [results] = await Promise.all([
          Promise.all(
            Array.from({ length: 12 }, (_, n) => all[n % all.length]!.store.claim(claimRequest(key))),
          ),
          sql(url, 'SELECT cleanup_idempotency_cache(10)'),
        ]);
        expect(winners(results)).toHaveLength(1);
        expect(winners(results)[0]).toMatchObject({ attempt: 1 });
        expect(winners(results)[0]!.fence).toBeGreaterThan(first.fence);
        expect(await all[0].store.find(first.id)).toMatchObject({ token: winners(results)[0]!.token });
      }
    });

    it('gives a claim to its owner or to its taker, never to both', async () => {
      const [owner, taker] = await Promise.all([instance(), instance()]);
      for (let round = 0; round < 30; round++) {
        const key = `key-${round}`;
        const claim = claimed(await owner.store.claim(claimRequest(key)));
        await lapse(url, key);
        const [completion, takeOver] = await Promise.all([
          owner.store.complete(claim, response('owner')),
          taker.store.claim(claimRequest(key)),
        ]);
        expect(completion.recorded).not.toBe(takeOver.claimed);
        if (!completion.recorded)
          expect(completion.record).toMatchObject({ state: 'in_progress', attempt: 2 });
      }
    });

    it('does not take a claim over whose owner renews it at that moment', async () => {
      const [owner, taker] = await Promise.all([instance(), instance()]);
      for (let round = 0; round < 30; round++) {
        const key = `key-${round}`;
        const claim = claimed(await owner.store.claim(claimRequest(key)));
        await lapse(url, key);
        const [held, takeOver] = await Promise.all([
          owner.store.renew([claim], 30_000),
          taker.store.claim(claimRequest(key)),
        ]);
        expect(held.has(claim.token)).not.toBe(takeOver.claimed);
      }
    });

    it('renews overlapping sets of claims without deadlocks', async () => {
      const all = await Promise.all([instance(), instance()]);
      const claims = await Promise.all(
        Array.from({ length: 60 }, async (_, n) =>
          claimed(await all[0].store.claim(claimRequest(`key-${n}`))),
        ),
      );
      const shuffled = (): Claim[] => [...claims].sort(() => Math.random() - 0.5);
      const before = await deadlocks();
      const held = await Promise.all(
        Array.from({ length: 40 }, (_, n) => all[n % 2]!.store.renew(shuffled(), 30_000)),
      );
      for (const tokens of held) expect(tokens.size).toBe(claims.length);
      expect(await deadlocks()).toBe(before);
    });

    async function deadlocks(): Promise<unknown> {
      const [row] = await sql(
        url,
        'SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()',
      );
      return row?.deadlocks;
    }

    it.each(['repeatable read', 'serializable'])(
      'works where the default isolation is %s',
      async (isolation) => {
        await sql(
          url,
          `ALTER DATABASE "${new URL(url).pathname.slice(1)}" SET default_transaction_isolation = '${isolation}'`,
        );
        const all = await Promise.all([instance(), instance()]);
        for (let round = 0; round < 15; round++) {
          const results = await Promise.all(
            Array.from({ length: 8 }, (_, n) => all[n % 2]!.store.claim(claimRequest(`key-${round}`))),
          );
          const [winner] = winners(results);
          expect(winners(results)).toHaveLength(1);
          expect(await all[0].store.complete(winner!, response('done'))).toEqual({ recorded: true });
        }
      },
    );
  });

  describe('when a reply was lost', () => {
    it('gives a claim to its own token again, with a lease that starts anew', async () => {
      const { store } = await instance();
      const request = claimRequest('key');
      const first = claimed(await store.claim(request));
      await lapse(url, 'key');
      expect(claimed(await store.claim({ ...request, takeOver: false }))).toEqual(first);
      const record = await store.find(request.id);
      expect(record).toMatchObject({ state: 'in_progress', attempt: 1 });
      expect(record?.state === 'in_progress' && record.leaseRemaining).toBeGreaterThan(20_000);
    });

    it('records an outcome once, and says so again', async () => {
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      expect(await store.complete(claim, response('one'))).toEqual({ recorded: true });
      expect(await store.complete(claim, response('two'))).toEqual({ recorded: true });
      expect(await store.find(claim.id)).toMatchObject({ outcome: response('one') });
    });

    it('releases a claim of unknown fence by its token', async () => {
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      expect(await store.release({ ...claim, token: randomUUID(), fence: 0 })).toBe(false);
      expect(await store.release({ ...claim, fence: 0 })).toBe(true);
      expect(await store.find(claim.id)).toBeUndefined();
    });

    it('tells an upper-case token from no other', async () => {
      const { store } = await instance();
      const token = randomUUID().toUpperCase();
      const claim = claimed(await store.claim(claimRequest('key', { token })));
      expect(claimed(await store.claim(claimRequest('key', { token })))).toEqual(claim);
      const own = { ...claim, token };
      expect(await store.renew([own], 30_000)).toEqual(new Set([token]));
      expect(await store.complete(own, response('done'))).toEqual({ recorded: true });
      expect(await store.complete(own, response('done'))).toEqual({ recorded: true });
    });
  });

  describe('when the table has lost a record', () => {
    it('records the outcome anyway, under its own fence', async () => {
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      await sql(url, 'TRUNCATE idempotency_cache');
      expect(await store.complete(claim, response('done'))).toEqual({ recorded: true });
      expect(await store.find(claim.id)).toMatchObject({
        ...claim,
        state: 'completed',
        outcome: response('done'),
      });
    });

    it('records it also where an expired record of another claim stands', async () => {
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      await expire(url, 'key');
      const other = claimed(await store.claim(claimRequest('key')));
      await store.complete(other, response('other'));
      await expire(url, 'key');
      expect(await store.complete(claim, response('done'))).toEqual({ recorded: true });
      expect(await store.find(claim.id)).toMatchObject({ outcome: response('done') });
    });

    it('answers with the claim that was made since', async () => {
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      await sql(url, 'TRUNCATE idempotency_cache');
      const other = claimed(await store.claim(claimRequest('key')));
      expect(await store.complete(claim, response('done'))).toMatchObject({
        recorded: false,
        record: { state: 'in_progress', token: other.token },
      });
    });

    it('lets the fence of a key rise even if the sequence was set back', async () => {
      const { store } = await instance();
      await sql(url, `SELECT setval('idempotency_cache_fence_seq', 1000)`);
      const first = claimed(await store.claim(claimRequest('key')));
      await sql(url, `SELECT setval('idempotency_cache_fence_seq', 1)`);
      await lapse(url, 'key');
      const second = claimed(await store.claim(claimRequest('key')));
      await expire(url, 'key');
      const third = claimed(await store.claim(claimRequest('key')));
      expect(second.fence).toBeGreaterThan(first.fence);
      expect(third.fence).toBeGreaterThan(second.fence);
    });
  });

  describe('keeps a response', () => {
    it('byte for byte, with the order and the repetitions of its headers', async () => {
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      const outcome = {
        kind: 'response',
        status: 207,
        headers: [
          ['X-B', 'two'],
          ['x-a', ['1', '2', '1']],
          ['X-B', 'again'],
          ['X-Odd', 'naïve "quoted" \\ \t \u0080 ÿ'],
        ],
        body: Buffer.from(Array.from({ length: 100_000 }, (_, n) => (n * 7919) % 256)),
      } as const;
      await store.complete(claim, outcome);
      expect(await store.find(claim.id)).toMatchObject({ state: 'completed', outcome });
    });

    it('whatever bytea_output says, and however the application has changed the type parsers of pg', async () => {
      const name = new URL(url).pathname.slice(1);
      await sql(url, `ALTER DATABASE "${name}" SET bytea_output = 'escape'`);
      const odd = { getTypeParser: () => () => 'parsed by the application' };
      const { store } = await instance({ dataSource: { extra: { types: odd } } });
      const claim = claimed(await store.claim(claimRequest('key')));
      expect(claim).toMatchObject({ fence: expect.any(Number) as number, attempt: 1 });
      await store.complete(claim, response('done'));
      expect(await store.find(claim.id)).toMatchObject({ outcome: response('done') });
    });

    it('and an empty one', async () => {
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      const outcome = { kind: 'response', status: 204, headers: [], body: Buffer.alloc(0) } as const;
      await store.complete(claim, outcome);
      expect(await store.find(claim.id)).toMatchObject({ outcome });
    });

    it('for its retention from the moment it was finished', async () => {
      const { store } = await instance({ retention: 3_600_000 });
      const claim = claimed(await store.claim(claimRequest('key')));
      await sql(url, `UPDATE idempotency_cache SET expires_at = expires_at - interval '50 min'`);
      await store.complete(claim, response('done'));
      const record = await store.find(claim.id);
      const expiresIn = record?.state === 'completed' ? record.expiresIn : 0;
      expect(expiresIn).toBeGreaterThan(3_590_000);
      expect(expiresIn).toBeLessThanOrEqual(3_600_000);
    });

    it('in a database that is not in UTF-8', async () => {
      await sql(server.url, `CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
      url = url.replace(/[^/]*$/, 'latin');
      await migrate(url);
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      const outcome = {
        kind: 'response',
        status: 200,
        headers: [['X-Name', 'caf\u00e9 \u0080']],
        body: Buffer.of(255),
      } as const;
      await store.complete(claim, outcome);
      expect(await store.find(claim.id)).toMatchObject({ outcome });
    });
  });

  it('takes keys and scopes that text in Postgres cannot hold', async () => {
    const { store } = await instance();
    const id = recordId('a\0b', '\ud800\0');
    const claim = claimed(await store.claim(claimRequest('', { id })));
    await store.complete(claim, response('done'));
    expect(await store.find(id)).toMatchObject({ id });
  });

  it('refuses a fingerprint that is no SHA-256 rather than cutting it off', async () => {
    const { store } = await instance();
    await expect(store.claim(claimRequest('key', { fingerprint: 'not hexadecimal' }))).rejects.toThrow(
      TypeError,
    );
    await expect(
      store.claim(claimRequest('key', { fingerprint: sha256('a').toUpperCase() })),
    ).rejects.toThrow(TypeError);
  });

  it('never lets a record in progress expire before its lease', async () => {
    const { store } = await instance({ retention: 1_000 });
    const claim = claimed(await store.claim(claimRequest('key', { lease: 3_600_000 })));
    expect(await store.renew([claim], 7_200_000)).toEqual(new Set([claim.token]));
    const [row] = await sql(
      url,
      'SELECT expires_at >= lease_until AS safe, lease_until > now() AS live FROM idempotency_cache',
    );
    expect(row).toEqual({ safe: true, live: true });
  });

  it('renews nothing without asking for anything', async () => {
    const { store, connection } = await instance();
    await connection.close();
    expect(await store.renew([], 1_000)).toEqual(new Set());
  });

  describe('a row that cannot be understood', () => {
    const damage: [string, string][] = [
      ['its state is "archived"', `state = 'archived'`],
      ['it has no status', 'status = NULL'],
      ['it has no body', 'body = NULL'],
      ['its tombstone is "burnt"', `tombstone = 'burnt'`],
      ['its headers are not a list of names and values', `headers = '[["X-A", 1]]'`],
      ['its headers are not a list of names and values', `headers = NULL`],
    ];
    it.each(damage)('is logged once and keeps its handler from running: %s', async (problem, change) => {
      const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      await store.complete(claim, response('done'));
      await sql(
        url,
        `ALTER TABLE idempotency_cache DROP CONSTRAINT idempotency_cache_state_check,
           DROP CONSTRAINT idempotency_cache_completed_check, DROP CONSTRAINT idempotency_cache_tombstone_check`,
      );
      await sql(url, `UPDATE idempotency_cache SET ${change}`);
      for (let time = 0; time < 3; time++) {
        expect(await store.claim(claimRequest('key'))).toMatchObject({
          claimed: false,
          record: { state: 'completed', outcome: { kind: 'tombstone', reason: 'unreadable' } },
        });
      }
      expect(error.mock.calls).toEqual([[expect.stringContaining(problem)]]);
    });

    it('is not taken over either, though it says that it is in progress', async () => {
      jest.spyOn(Logger.prototype, 'error').mockImplementation();
      const { store } = await instance();
      claimed(await store.claim(claimRequest('key')));
      await sql(url, 'ALTER TABLE idempotency_cache DROP CONSTRAINT idempotency_cache_in_progress_check');
      await sql(url, 'UPDATE idempotency_cache SET lease_until = NULL');
      expect(await store.claim(claimRequest('key'))).toMatchObject({ claimed: false });
    });
  });

  describe('what a claim costs', () => {
    interface Figures {
      wal: number;
      fence: number;
      /** Who has locked or changed the row last. */
      locker: string;
    }
    async function figures(): Promise<Figures> {
      const [row] = await sql<Figures>(
        url,
        `SELECT (pg_current_wal_insert_lsn() - '0/0')::float8 AS wal,
           (SELECT last_value::float8 FROM idempotency_cache_fence_seq) AS fence,
           (SELECT xmax::text FROM idempotency_cache) AS locker`,
      );
      return row!;
    }

    it('is no WAL, no row lock and no fence where a record stands already', async () => {
      const { store } = await instance();
      const claim = claimed(await store.claim(claimRequest('key')));
      await store.complete(claim, response('done'));
      await store.claim(claimRequest('key')); // sets the hint bits of the row
      await sql(url, 'VACUUM idempotency_cache');
      await store.claim(claimRequest('key'));
      // Another session of the server may log a snapshot now and then: one of several tries must be clean.
      await until(async () => {
        const before = await figures();
        for (let n = 0; n < 20; n++) await store.claim(claimRequest('key'));
        const after = await figures();
        expect(after.fence).toBe(before.fence);
        return after.wal === before.wal && after.locker === before.locker;
      });
    });

    /** Bytes; the server itself may log a little at any time, such as which transactions run. */
    const SMALLER_THAN_A_CLAIM = 200;

    async function unflushed(): Promise<number> {
      const [row] = await sql<{ bytes: number }>(
        url,
        'SELECT (pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn())::float8 AS bytes',
      );
      return row!.bytes;
    }

    it('is a flush of the WAL when durable, and none when fast', async () => {
      const { store } = await instance();
      const claims = 20;
      const left = async (durability: 'durable' | 'fast'): Promise<number> => {
        let count = 0;
        for (let n = 0; n < claims; n++) {
          await store.claim(claimRequest(`${durability}-${n}`, { durability }));
          if ((await unflushed()) > SMALLER_THAN_A_CLAIM) count++;
        }
        return count;
      };
      // Not all or none: the server itself writes and flushes now and then.
      expect(await left('durable')).toBeLessThan(claims / 4);
      expect(await left('fast')).toBeGreaterThan(claims / 2);
    });

    it('is a flush also where the server does without one by default, for claims and for completions', async () => {
      await sql(url, `ALTER DATABASE "${new URL(url).pathname.slice(1)}" SET synchronous_commit = off`);
      const { store } = await instance();
      for (let n = 0; n < 20; n++) {
        const claim = claimed(await store.claim(claimRequest(`key-${n}`)));
        expect(await unflushed()).toBeLessThan(SMALLER_THAN_A_CLAIM);
        await store.complete(claim, response('done'));
        expect(await unflushed()).toBeLessThan(SMALLER_THAN_A_CLAIM);
      }
    });

    it('leaves nothing in the session but its statement, prepared', async () => {
      const { store, connection } = await instance({ poolSize: 1 });
      const run = connection.operation('look');
      const settings = `SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY name`;
      const before = await run(settings, []);
      claimed(await store.claim(claimRequest('key', { durability: 'fast' })));
      expect(await run(settings, [])).toEqual(before);
      expect(await run(`SELECT current_setting('synchronous_commit') AS it`, [])).toEqual([{ it: 'on' }]);
      const prepared = 'SELECT name FROM pg_prepared_statements WHERE statement LIKE $1';
      expect(await run(prepared, ['%INSERT INTO%'])).toHaveLength(1);
    });
  });
});
