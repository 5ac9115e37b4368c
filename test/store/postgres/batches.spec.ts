import fc from 'fast-check';
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { StoreUnavailableError } from '../../../lib/core/errors';
import { recordId, type Claim, type Outcome } from '../../../lib/core/record';
import { Batches } from '../../../lib/store/postgres/batches';
import { type RunningPostgres } from '../../../servers';
import { until } from '../../support/eventually';
import {
  claimed,
  claimRequest,
  response,
  sql,
  whileFrozen,
  type Instance,
} from '../../support/postgres-store';
import { runs } from '../../support/arbitraries';
import { freshDatabases } from '../../support/fresh-databases';

describe('batches of claims, completions and releases', () => {
  const databases = freshDatabases({ instance: { timeout: 20_000 } });
  const instance = databases.open;
  let server: RunningPostgres;
  let url: string;
  beforeEach(() => ({ server, url } = databases));

  const keys = (count: number): string[] => Array.from({ length: count }, (_, n) => `key-${n}`);
  const claimAll = async ({ store }: Instance, names: readonly string[]): Promise<Claim[]> =>
    (await Promise.all(names.map((key) => store.claim(claimRequest(key))))).map(claimed);
  const rows = (): Promise<Record<string, unknown>[]> => sql(url, 'SELECT key FROM idempotency_cache');

  /** What Postgres has counted for this database, once all instances are closed: a backend tells when it ends. */
  async function counted<Row>(what: string): Promise<Row[]> {
    await databases.closeAll();
    const others = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`;
    await until(async () => (await sql(url, others)).length === 0);
    return sql<Row>(url, `SELECT ${what} FROM pg_stat_database WHERE datname = current_database()`);
  }

  it('make 500 claims, their completions and as many releases, each once, in few statements', async () => {
    const opened = await instance();
    const claims = await claimAll(opened, keys(1_000));
    expect(new Set(claims.map(({ fence }) => fence)).size).toBe(1_000);
    expect(await rows()).toHaveLength(1_000);
    const completions = claims.slice(0, 500).map((claim) => opened.store.complete(claim, response('done')));
    for (const result of await Promise.all(completions)) expect(result).toEqual({ recorded: true });
    const releases = claims.slice(500).map((claim) => opened.store.release(claim));
    expect(await Promise.all(releases)).toEqual(releases.map(() => true));
    expect(await rows()).toHaveLength(500);
    const [{ commits } = { commits: NaN }] = await counted<{ commits: number }>(
      'xact_commit::int AS commits',
    );
    expect(commits).toBeLessThan(100); // with those of the start and of this test; 2,000 one by one
  });

  it('let one of 200 claims of one key from several instances win', async () => {
    const opened = await Promise.all([instance(), instance(), instance(), instance()]);
    const results = await Promise.all(
      Array.from({ length: 200 }, (_, n) => opened[n % 4]!.store.claim(claimRequest('key'))),
    );
    expect(results.filter((result) => result.claimed)).toHaveLength(1);
  });

  it('never deadlock, whatever the order in which two instances ask for the same keys', async () => {
    const [one, other] = [await instance(), await instance()];
    for (let round = 0; round < 10; round++) {
      const forwards = keys(250).map((key) => `${round} ${key}`);
      const ask = ({ store }: Instance, names: readonly string[]) =>
        Promise.all(names.map((key) => store.claim(claimRequest(key))));
      const [left, right] = await Promise.all([ask(one, forwards), ask(other, [...forwards].reverse())]);
      const winners = [...left, ...right].filter((result) => result.claimed).map(claimed);
      expect(winners).toHaveLength(250);
      const settle = [
        one.store.renew(winners, 30_000),
        ...winners.map((claim) => one.store.complete(claim, response('done'))),
        ...[...winners].reverse().map((claim) => other.store.complete(claim, response('done'))),
      ];
      await Promise.all(settle);
    }
    expect(await counted('deadlocks::int')).toEqual([{ deadlocks: 0 }]);
  });

  it('fail the one claim that Postgres refuses, and no other', async () => {
    const { store } = await instance();
    const results = await Promise.allSettled(
      keys(20).map((key, n) => store.claim(claimRequest(key, n === 13 ? { token: 'no uuid' } : {}))),
    );
    const failed = results.flatMap((result, n) => (result.status === 'rejected' ? [n] : []));
    expect(failed).toEqual([13]);
    expect(await rows()).toHaveLength(19);
  });

  it('wait for no row that another transaction has locked: it alone waits', async () => {
    const opened = await instance({ poolSize: 8 }); // each that waits holds a connection
    const claims = await claimAll(opened, keys(40));
    const locked = ['key-0', 'key-7', 'key-20', 'key-27']; // the first of each kind goes alone
    const other = new Client({ connectionString: url });
    await other.connect();
    await other.query('BEGIN');
    await other.query(`SELECT FROM idempotency_cache WHERE key = ANY ($1) FOR UPDATE`, [locked]);
    const settled: string[] = [];
    const work = claims.map(async (claim, n) => {
      const done = n < 20 ? opened.store.complete(claim, response('done')) : opened.store.release(claim);
      expect(await done).toEqual(n < 20 ? { recorded: true } : true);
      settled.push(claim.id.key);
    });
    await until(() => settled.length === 36);
    for (const key of locked) expect(settled).not.toContain(key);
    await other.query('COMMIT');
    await other.end();
    await Promise.all(work);
  });

  it('keep the outcomes of their items apart, byte for byte, small, empty, large and without a body', async () => {
    const opened = await instance();
    const claims = await claimAll(opened, keys(12));
    const outcome = (n: number): Outcome => {
      if (n % 4 === 3) return { kind: 'tombstone', status: 200 + n, reason: 'too_large' };
      const sizes = [0, 300, 20_000];
      const body = Buffer.alloc(sizes[n % 4]!, n + 1);
      return { kind: 'response', status: 200 + n, headers: [['X-Number', `${n}`]], body };
    };
    await Promise.all(claims.map((claim, n) => opened.store.complete(claim, outcome(n))));
    // Read by a batch of claims, which leaves the large ones to statements of their own.
    const found = await Promise.all(keys(12).map((key) => opened.store.claim(claimRequest(key))));
    for (const [n, result] of found.entries())
      expect(result).toMatchObject({ claimed: false, record: { state: 'completed', outcome: outcome(n) } });
  });

  it('read what is asked for in one turn by one statement, and large bodies alone', async () => {
    const opened = await instance();
    const claims = await claimAll(opened, keys(6));
    const sizes = [0, 300, 20_000, 8_192];
    const body = (n: number): Buffer => Buffer.alloc(sizes[n]!, n + 1);
    await Promise.all(
      sizes.map((_, n) =>
        opened.store.complete(claims[n]!, { kind: 'response', status: 201, headers: [], body: body(n) }),
      ),
    );
    await sql(
      url,
      `UPDATE idempotency_cache SET lease_until = now() - interval '1 s', expires_at = now() WHERE key = 'key-5'`,
    );
    const sent = jest.spyOn(opened.connection, 'send');
    const asked = [...claims.map(({ id }) => id), claims[1]!.id, recordId('scope', 'absent')];
    const found = await Promise.all(asked.map((id) => opened.store.find(id)));
    const bodies = found.map(
      (each) => each?.state === 'completed' && (each.outcome as { body?: Buffer }).body,
    );
    expect(bodies).toEqual([body(0), body(1), body(2), body(3), false, false, body(1), false]);
    expect(found[5]).toBeUndefined();
    expect(found[4]).toMatchObject({ state: 'in_progress', token: claims[4]!.token });
    const texts = sent.mock.calls.map(([, { values }]) => String(values[0]).split(',').length);
    expect(texts).toEqual([8, 1, 1]); // then the large body, and the key that is absent
  });

  it('keep scopes, keys and headers of any characters as they are, whatever a list of them has to escape', async () => {
    const { store } = await instance();
    const special = fc.string({
      unit: fc.constantFrom('"', '\\', ',', '{', '}', ' ', '\n', '\t', "'", 'NULL', 'é', '💶', '%', 'a'),
    });
    const texts = fc.array(special, { minLength: 2, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(texts, async (list) => {
        const ids = list.map((text) => recordId(`scope ${text}`, `${text} ${randomUUID()}`));
        const claims = (await Promise.all(ids.map((id) => store.claim(claimRequest('', { id }))))).map(
          claimed,
        );
        const outcome = (text: string): Outcome => {
          return { kind: 'response', status: 200, headers: [['X', text]], body: Buffer.from(text) };
        };
        await Promise.all(claims.map((claim, n) => store.complete(claim, outcome(list[n]!))));
        const stored = await sql<{ scope: string; key: string; headers: unknown }>(
          url,
          'SELECT scope, key, headers FROM idempotency_cache',
        );
        for (const [n, { scope, key }] of ids.entries())
          expect(stored).toContainEqual({ scope, key, headers: [['X', list[n]]] });
        await sql(url, 'TRUNCATE idempotency_cache');
      }),
      runs(20),
    );
  });

  it('bring no large body, so that no reply to a batch is huge', async () => {
    const opened = await instance();
    const [small, large] = await claimAll(opened, ['small', 'large']);
    await opened.store.complete(small!, response('x'.repeat(8_192)));
    await opened.store.complete(large!, response('x'.repeat(8_193)));
    const batches = new Batches(opened.connection, opened.names.table, { retention: 86_400_000 });
    const answers = ['first', 'small', 'large'].map((key) => {
      const { id, token, lease } = claimRequest(key);
      const item = { id: id.hash, token, fingerprint: id.hash, lease, scope: '', key };
      return new Promise((resolve, reject) => batches.claim(item, 'durable', resolve, reject));
    });
    const [, ofSmall, ofLarge] = await Promise.all(answers);
    expect(ofSmall).toMatchObject({ claimed: null, state: 'completed' });
    expect(ofLarge).toBeUndefined();
  });

  it('do not make a durable claim in a commit that is not', async () => {
    await sql(
      url,
      `CREATE TABLE seen (key text, setting text);
       CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         INSERT INTO seen VALUES (NEW.key, current_setting('synchronous_commit')); RETURN NULL; END $$;
       CREATE TRIGGER see AFTER INSERT ON idempotency_cache FOR EACH ROW EXECUTE FUNCTION see()`,
    );
    const { store } = await instance();
    await Promise.all(
      keys(40).map((key, n) => store.claim(claimRequest(key, { durability: n % 2 ? 'fast' : 'durable' }))),
    );
    for (const { key, setting } of await sql<{ key: string; setting: string }>(url, 'SELECT * FROM seen'))
      expect([key, setting]).toEqual([key, Number(key.slice(4)) % 2 ? 'off' : 'on']);
    expect(await sql(url, 'SELECT FROM seen')).toHaveLength(40);
  });

  it('hold no item beyond its deadline while Postgres is frozen, and say which were sent', async () => {
    const { store } = await instance({ timeout: 1_000, poolSize: 1 });
    await store.find(claimRequest('warm').id);
    const errors = await whileFrozen(server, url, async () =>
      Promise.all(keys(10).map((key) => store.claim(claimRequest(key)).catch((error: unknown) => error))),
    );
    for (const error of errors) expect(error).toBeInstanceOf(StoreUnavailableError);
    expect(errors.map((error) => (error as StoreUnavailableError).sent)).toEqual([
      true,
      ...Array.from({ length: 9 }, () => false),
    ]);
  });

  it('end with the connection, also those in the queue', async () => {
    const { store, connection } = await instance();
    const other = new Client({ connectionString: url });
    await other.connect();
    await other.query('BEGIN; LOCK TABLE idempotency_cache');
    const settled = Promise.allSettled(keys(10).map((key) => store.claim(claimRequest(key))));
    await connection.close();
    for (const result of await settled) expect(result.status).toBe('rejected');
    await other.end();
  });
});
