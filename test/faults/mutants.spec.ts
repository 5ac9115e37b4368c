import { randomUUID } from 'node:crypto';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import type { Mutation } from './rig/instance';
import type { Sighting } from './rig/oracle';
import { Rig, type RigOptions } from './rig/rig';

/*
 * Positive controls: what this module is not, and what becomes of it. One more, a write to Redis without rank,
 * needs more requests than a scenario shows: the model finds it (`npm run test:model`).
 */
describe('the rig finds out', () => {
  let rig: Rig | undefined;
  afterEach(() => rig?.stop());

  const start = async (mutations: Mutation | readonly Mutation[], options: RigOptions = {}): Promise<Rig> => {
    rig = await Rig.start({ ...options, mutations: [mutations].flat() });
    return rig;
  };
  const broken = async (): Promise<string[]> => [
    ...new Set((await rig!.verdict()).violations.map(({ promise }) => promise)),
  ];

  it('a naive fallback (ask, run, then write both): duplicates run the handler more than once', async () => {
    await start({
      file: 'lib/store/tiered-claims.ts',
      from: 'result = await arbiter.claim(request);',
      to: `const found = await arbiter.find(request.id);
        result = found ? { claimed: false, record: found } : { claimed: true, claim: { ...request, fence: 1, attempt: 1 } };`,
    });
    const key = randomUUID();
    await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        rig!.send(rig!.instance(i % 3), key, { route: 'reject', takes: 100 }),
      ),
    );
    expect(await broken()).toContain('a handler runs once');
  });

  it('a completion without a fence: a frozen owner overwrites the one that took over', async () => {
    await start({
      file: 'lib/store/postgres/schema/statements.ts',
      from: "id = $1::bytea AND token = $2::uuid AND fence = $3::bigint AND state = 'in_progress'`",
      to: "id = $1::bytea AND ($2::uuid, $3::bigint) IS NOT NULL AND state = 'in_progress'`",
    });
    const key = randomUUID();
    const [owner, other] = [rig!.instance(0), rig!.instance(1)];
    const first = rig!.send(owner, key, { hold: true });
    await owner.handling(key);
    owner.freeze();
    const second = rig!.send(other, key, { hold: true });
    await other.handling(key);
    owner.finish(key);
    owner.thaw();
    await first;
    other.finish(key);
    await second;
    expect(await broken()).toContain('every answer is the same');
  });

  it('a claim that does not know its own token: a lost reply makes the key one of unknown outcome', async () => {
    await start({
      file: 'lib/store/postgres/postgres.store.ts',
      from: '    if (record.token === request.token.toLowerCase()) return this.resume(run, request, record);\n',
      to: '',
    });
    const owner = rig!.instance(0);
    await rig!.send(owner, randomUUID()); // a connection that has answered before is worth another try
    const key = randomUUID();
    const lost = owner.postgres.watch('claim', 'reply', 'reset');
    const seen = await rig!.send(owner, key, { route: 'reject' });
    await lost.reached;
    expect(seen.problem).toBe('outcome-unknown');
    expect(rig!.executions(key)).toEqual([]);
  });

  it('a lease by the clock of the application: another process takes a living owner\u2019s key', async () => {
    await start(
      {
        file: 'lib/store/postgres/schema/statements.ts',
        from: "SELECT $1::bytea, $2::uuid, $3::bytea, 'in_progress', 1, now() + ${milliseconds('$4')}, now(),",
        to: "SELECT $1::bytea, $2::uuid, $3::bytea, 'in_progress', 1, to_timestamp(${Date.now()} / 1000.0) + ${milliseconds('$4')}, now(),",
      },
      { clockSkew: [0, 0, -3_600_000] },
    );
    const key = randomUUID();
    const behind = rig!.instance(2);
    const first = rig!.send(behind, key, { takes: 500 });
    await behind.handling(key);
    await rig!.send(rig!.instance(1), key);
    await first;
    expect(await broken()).toContain('a handler runs once');
  });

  it.each([
    ['retry', 'every answer is the same'],
    ['reject', 'an answer is not taken back'],
  ] as const)(
    'a completion after the response (%s): a client has seen what no retry will get',
    async (route, promise) => {
      await start({
        file: 'lib/core/claimed-executions.ts',
        from: 'completion = await this.store.complete(claim, outcome, () => lease.heldUntil);',
        to: `void this.store.complete(claim, outcome, () => lease.heldUntil).catch(() => undefined);
        return { kind: 'executed', outcome, recorded: true };`,
      });
      const key = randomUUID();
      const owner = rig!.instance(0);
      const held = owner.postgres.watch('complete', 'request', 'hold');
      const first: Sighting = await rig!.send(owner, key, { route });
      expect(first.status).toBe(201);
      await held.reached;
      owner.kill();
      expect(await broken()).toContain(promise);
    },
  );

  it('a deletion that does not look for what an earlier try has done: it is called none, and the handler runs again', async () => {
    await start(
      {
        file: 'lib/store/postgres/forget.ts',
        from: 'if (tries === 1 || rows.length === claims.length) return',
        to: 'if (tries > 0) return',
      },
      { instances: ['postgres', 'postgres'] },
    );
    const owner = rig!.instance(0);
    const key = randomUUID();
    await rig!.send(owner, key, { route: 'reject' });
    const lost = owner.postgres.watch('forget', 'reply', 'reset');
    expect(await rig!.forget(owner, key, { route: 'reject', by: 'forget' })).toBe(false);
    await lost.reached;
    await rig!.send(rig!.instance(1), key, { route: 'reject' });
    expect(await broken()).toContain('a handler runs once');
  });

  describe('of transactions', () => {
    const ROUTE = { route: 'transaction' } as const;
    const OPEN = 'lib/transaction/open-transaction.ts';
    const BEGIN = 'lib/transaction/beginning.ts';
    const COMMIT = 'lib/transaction/commit.ts';

    it('effects outside of it: a process that is killed before its commit leaves one, and the retry another', async () => {
      await start({
        file: OPEN,
        from: 'return joined.hasSubscribers ? this.runAfterStart(joined, work) : work();',
        to: 'return outside(work);',
      });
      const key = randomUUID();
      const owner = rig!.instance(0);
      const killed = owner.postgres.watch('commit', 'request', 'reset', { act: () => owner.kill() });
      const lost = rig!.send(owner, key, ROUTE);
      await killed.reached;
      await lost;
      expect(await broken()).toContain('an effect happens once');
    });

    it('the commit before the outcome: a process that is killed between them leaves an effect, and the retry another', async () => {
      await start([
        {
          file: COMMIT,
          from: 'this.completion(begun, outcome), [COMMIT]]',
          to: '[COMMIT], this.completion(begun, outcome)]',
        },
        { file: COMMIT, from: 'const [completed, end] =', to: 'const [end, completed] =' },
        {
          file: 'lib/transaction/statements.ts',
          from: '`CASE WHEN ${START} = $1::numeric THEN ${value} END`',
          to: '`CASE WHEN $1::numeric > 0 THEN ${value} END`',
        },
      ]);
      const [key, whole] = [randomUUID(), randomUUID()];
      const owner = rig!.instance(0);
      expect(await rig!.send(owner, whole, ROUTE)).toMatchObject({ status: 201 });
      const killed = owner.postgres.watch('insert-completed', 'request', 'cut-before', {
        act: () => owner.kill(),
      });
      const lost = rig!.send(owner, key, ROUTE);
      await killed.reached;
      await lost;
      expect(await broken()).toContain('an effect happens once');
    });

    it('lock and look in one statement, and a key that is there taken for success: two answers, one without effect', async () => {
      await start(
        [
          {
            file: BEGIN,
            from: `      [TRY_LOCK, key, held],
      [read(this.places), byteaOf(id.hash), String(policy.timeout), String(policy.timeout + patience)],
    ];`,
            // Its window is made as wide as two seconds.
            to: `      [
        read(this.places).replace(
          'SELECT extract',
          'SELECT (pg_sleep(2)::text IS NOT NULL AND pg_try_advisory_xact_lock($4::bigint))::text, extract',
        ),
        byteaOf(id.hash),
        String(policy.timeout),
        String(policy.timeout + patience),
        key,
      ],
    ];`,
          },
          {
            file: BEGIN,
            from: 'const [start, role, backend, token, state, fence] = found?.rows[0] ?? [];',
            to: 'const [, start, role, backend, token, state, fence] = lock?.rows[0] ?? [];',
          },
          {
            file: COMMIT,
            from: "    if (state === '25P02') throw swallowedError(cause);\n",
            to: "    if (state === '23505') return { recorded: true };\n",
          },
        ],
        { options: { postgres: { timeout: '10s' } } },
      );
      const key = randomUUID();
      const [one, other] = [rig!.instance(0), rig!.instance(1)];
      const first = rig!.send(one, key, { ...ROUTE, hold: true });
      await one.handling(key);
      const second = rig!.send(other, key, ROUTE);
      await eventually(async () =>
        expect(
          await sql(rig!.databaseUrl, `SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'`),
        ).toHaveLength(1),
      );
      one.finish(key);
      expect([(await first).status, (await second).status]).toEqual([201, 201]);
      expect(await broken()).toEqual(
        expect.arrayContaining(['every answer is the same', 'a handler runs once']),
      );
    });

    it('a lost commit resolved without the lock: a client is told that nothing is left, and then it is there', async () => {
      await start({ file: COMMIT, from: 'if (!(await isLocked(claim.id))) {', to: 'if (isLocked) {' });
      const key = randomUUID();
      const owner = rig!.instance(0);
      const late = owner.postgres.watch('commit', 'request', 'hold');
      const seen = await rig!.send(owner, key, ROUTE);
      expect(seen.problem).toBe('store-unavailable');
      late.resume();
      expect(await broken()).toContain('what is told to be rolled back is not there');
    });
  });
});
