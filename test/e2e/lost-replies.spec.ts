import { randomUUID } from 'node:crypto';
import { isIdempotencyError } from '../../lib';
import {
  recordId,
  type Claim,
  type IdempotencyRecord,
  type Outcome,
  type RecordId,
} from '../../lib/core/record';
import type { ClaimRequest } from '../../lib/core/store';
import { eventually } from '../support/eventually';
import { processesOnServers } from '../support/processes-on-servers';
import type { Process } from '../support/tiers';

describe('processes that lose a store, or a reply', () => {
  const running = processesOnServers();
  const start = running.open;
  let id: RecordId;
  beforeEach(() => {
    id = recordId('execute', randomUUID());
  });

  const request = (more: Partial<ClaimRequest> = {}): ClaimRequest => ({
    id,
    fingerprint: 'a'.repeat(64),
    token: randomUUID(),
    lease: 150,
    takeOver: true,
    bypassCache: false,
    durability: 'durable',
    ...more,
  });
  const claim = async (process: Process, more?: Partial<ClaimRequest>): Promise<Claim> => {
    // Fresh: the hint of a claim outlives its lease by the time that it took to write it.
    const result = await process.store.claim(request({ bypassCache: true, ...more }));
    if (!result.claimed) throw new Error('not claimed');
    return result.claim;
  };
  const lapsed = (process: Process): Promise<void> =>
    eventually(async () => {
      const record = await process.store.find(id);
      expect(record?.state === 'in_progress' && record.leaseRemaining <= 0).toBe(true);
    });
  const answer = (record: IdempotencyRecord | undefined): string | undefined =>
    record?.state === 'completed' && record.outcome.kind === 'response'
      ? record.outcome.body.toString()
      : undefined;
  const codeOf = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      (value) => value,
      (error: unknown) => (isIdempotencyError(error) ? error.code : error),
    );

  it('an outcome that has expired in Postgres is not replayed from Redis, however long that keeps others', async () => {
    const process = await start({ lease: 150, redis: { ttl: '1h' }, postgres: { retention: '2s' } });
    await process.store.complete(await claim(process), text('first'));
    expect(answer(await process.store.find(id))).toBe('first');
    await eventually(async () => expect(await process.store.find(id)).toBeUndefined());
    expect(await claim(process)).toMatchObject({ attempt: 1 });
  });

  it('an outcome that Redis refuses for a newer claim does not count as recorded', async () => {
    const [a, b] = [await start(), await start()];
    const old = await claim(a);
    await lapsed(a);
    // Fresh: Redis' hint may outlive the lease in Postgres by some milliseconds.
    await b.store.complete(await claim(b, { bypassCache: true }), text('B'));
    await eventually(async () => expect(await b.store.find(id)).toMatchObject({ tier: 'redis' }));
    a.postgres.off = true;
    await expect(a.store.complete(old, text('A'))).rejects.toThrow(/unavailable/);
    a.postgres.off = false;
    await eventually(() => expect(a.pending()).toBe(0));
    expect([answer(await a.store.find(id)), answer(await b.store.find(id))]).toEqual(['B', 'B']);
  });

  it('an outcome in Redis alone does not count as recorded once its lease may have lapsed', async () => {
    const a = await start();
    const mine = await claim(a);
    a.postgres.off = true;
    await expect(a.store.complete(mine, text('A'), () => performance.now())).rejects.toThrow(/unavailable/);
    expect(await a.store.find(id).catch(() => ({ state: 'unknown' }))).not.toMatchObject({
      state: 'completed',
    });
  });

  it('the process that holds an outcome in memory does not run the handler again once Postgres is back', async () => {
    const a = await start();
    let runs = 0;
    const work = (): number => {
      a.postgres.off = a.redis.off = true;
      return ++runs;
    };
    expect(await codeOf(a.service.execute(id.key, work, { lease: 150 }))).toBe('outcome_not_recorded');
    await eventually(async () => {
      const [row] = await running.dataSource.query<{ lapsed: boolean }[]>(
        `SELECT lease_until < now() AS lapsed FROM idempotency_cache WHERE id = '\\x${id.hash}'`,
      );
      expect(row?.lapsed).toBe(true);
    });
    a.postgres.off = a.redis.off = false;
    expect(await a.service.execute(id.key, work, { lease: 150 })).toBe(1);
    expect(runs).toBe(1);
  });

  it('a takeover whose reply was lost leaves the orphan an orphan: onOrphan reject runs nothing', async () => {
    const a = await start();
    const crashed = await start();
    let runs = 0;
    const policy = { onOrphan: 'reject' as const, lease: 150 };
    void crashed.service.execute(id.key, () => new Promise(() => (runs += 1)), policy).catch(() => undefined);
    await eventually(() => expect(runs).toBe(1));
    await running.close(crashed);
    await lapsed(a);
    a.postgres.loseReplyOf = 'claim';
    await expect(a.service.resolve(id.key, { value: 42 })).rejects.toThrow(/reply lost/);
    a.postgres.loseReplyOf = undefined;
    await eventually(() => expect(a.pending()).toBe(0));
    await lapsed(a);
    expect(await codeOf(a.service.execute(id.key, () => ++runs, policy))).toBe('outcome_unknown');
    expect(await a.service.resolve(id.key, { value: 42 })).toBe(true);
    expect(await a.service.execute(id.key, () => ++runs, policy)).toBe(42);
    expect(runs).toBe(1);
  });

  it('a claim whose reply was lost is given back, and the next request runs', async () => {
    const a = await start();
    a.postgres.loseReplyOf = 'claim';
    expect(await codeOf(a.service.execute(id.key, () => 'not run'))).toBe('store_unavailable');
    a.postgres.loseReplyOf = undefined;
    await eventually(() => expect(a.pending()).toBe(0));
    expect(await a.service.execute(id.key, () => 'run')).toBe('run');
  });

  it('a completion whose reply was lost is an outcome like any other', async () => {
    const a = await start();
    a.postgres.loseReplyOf = 'complete';
    expect(await a.service.execute(id.key, () => 'first')).toBe('first');
    a.postgres.loseReplyOf = undefined;
    await eventually(() => expect(a.pending()).toBe(0));
    expect(await (await start()).service.execute(id.key, () => 'second')).toBe('first');
  });

  it('claims that never left the process are not queued', async () => {
    const a = await start();
    a.postgres.off = true;
    for (let i = 0; i < 20; i++)
      expect(await codeOf(a.service.execute(`${id.key}-${i}`, () => 1))).toBe('store_unavailable');
    expect(a.pending()).toBe(0);
  });

  it('an outcome of a claim that was taken over meanwhile gives way to the winner’s, in Redis too', async () => {
    const [a, blind, reader] = [await start(), await start(), await start()];
    const old = await claim(a);
    a.postgres.off = true;
    expect(await a.store.complete(old, text('A'))).toEqual({ recorded: true }); // Redis alone has it
    blind.redis.off = true;
    await lapsed(blind);
    await blind.store.complete(await claim(blind), text('B'));
    a.postgres.off = false;
    await eventually(() => expect(a.pending()).toBe(0));
    await eventually(async () => expect(answer(await reader.store.find(id))).toBe('B'));
    expect(answer(await blind.store.find(id))).toBe('B');
  });

  it('a value that cannot be stored gives way to the winner’s as well', async () => {
    const [a, winner] = [await start(), await start()];
    const late = async (): Promise<unknown> => {
      a.postgres.off = true; // so that its lease lapses
      expect(await winner.service.execute(id.key, () => 'winner')).toBe('winner');
      a.postgres.off = false;
      return 1n;
    };
    expect(await a.service.execute(id.key, late, { lease: 150 })).toBe('winner');
  });

  it('an outcome that Redis alone has is not replayed once its key was taken over', async () => {
    const [a, blind, reader] = [await start(), await start(), await start()];
    const old = await claim(a);
    a.postgres.off = true;
    expect(await a.store.complete(old, text('A'))).toEqual({ recorded: true });
    blind.redis.off = true;
    await lapsed(blind);
    const winner = await claim(blind, { lease: 60_000 });
    const standing = { state: 'in_progress', token: winner.token };
    expect(await reader.store.claim(request())).toMatchObject({ claimed: false, record: standing });
    expect(await reader.store.find(id)).toMatchObject(standing);
    // A hint of the winner would bury the outcome before the winner itself has looked for it.
    expect(reader.calls['redis.put']).toBeUndefined();
  });

  it('an outcome that Redis alone has is replayed while Postgres cannot be asked', async () => {
    const [a, reader] = [await start(), await start()];
    const mine = await claim(a, { lease: 60_000 });
    a.postgres.off = reader.postgres.off = true;
    expect(await a.store.complete(mine, text('A'))).toEqual({ recorded: true });
    const result = await reader.store.claim(request());
    expect(result.claimed ? 'claimed' : answer(result.record)).toBe('A');
    expect(answer(await reader.store.find(id))).toBe('A');
  });

  it('of two outcomes that wait in one memory the later claim’s is kept', async () => {
    const [a, reader] = [await start(), await start()];
    const old = await claim(a);
    await lapsed(a);
    const winner = await claim(a);
    a.postgres.off = a.redis.off = true;
    await expect(a.store.complete(old, text('A'))).rejects.toThrow(/unavailable/);
    await expect(a.store.complete(winner, text('B'))).rejects.toThrow(/unavailable/);
    a.postgres.off = false;
    await eventually(() => expect(a.pending()).toBe(0));
    expect(answer(await reader.store.find(id))).toBe('B');
  });

  it('a claim whose reply comes after its lease runs no handler, and leaves an orphan an orphan', async () => {
    const [a, crashed] = [await start(), await start()];
    const options = { lease: 1_000, fingerprint: 'x' };
    void crashed.service.execute(id.key, () => new Promise(() => undefined), options).catch(() => undefined);
    await eventually(() => expect(crashed.calls['redis.put']).toBe(1));
    await running.close(crashed);
    await lapsed(a);
    a.postgres.slowBy = 1_050;
    const attempt = a.service.execute(id.key, (context) => context.attempt, options);
    await eventually(() => expect(a.calls['postgres.release']).toBe(1));
    a.postgres.slowBy = undefined;
    expect(await attempt).toBe(3);
  });

  it('a stale hint in Redis answers once, and then Postgres is asked', async () => {
    const [a, b] = [await start(), await start()];
    const mine = await claim(a, { lease: 60_000 });
    await eventually(async () =>
      expect(await b.store.claim(request())).toMatchObject({ record: { tier: 'redis' } }),
    );
    a.redis.off = true; // its release does not reach Redis
    expect(await a.store.release(mine)).toBe(true);
    expect(await b.service.execute(id.key, () => 'run', { fingerprint: 'x' })).toBe('run');
  });

  it('an outcome that Postgres refuses for want of a table or a right is kept until that is repaired', async () => {
    const a = await start();
    const mine = await claim(a);
    await running.dataSource.query('ALTER TABLE idempotency_cache RENAME TO elsewhere');
    expect(await a.store.complete(mine, text('A'))).toEqual({ recorded: true });
    expect(a.pending()).toBe(1);
    await running.dataSource.query('ALTER TABLE elsewhere RENAME TO idempotency_cache');
    await eventually(() => expect(a.pending()).toBe(0));
    const blind = await start();
    blind.redis.off = true;
    expect(answer(await blind.store.find(id))).toBe('A');
  });

  it('an orphan is not taken over before a slow Redis has said whether it holds the outcome', async () => {
    const [a, b] = [await start(), await start()];
    const mine = await claim(a);
    a.postgres.off = true;
    expect(await a.store.complete(mine, text('A'))).toEqual({ recorded: true }); // Redis alone has it
    b.redis.off = true;
    await lapsed(b);
    b.redis.off = false;
    b.redis.slowBy = 100; // far longer than a request waits before it asks Postgres
    const result = await b.store.claim(request());
    expect(result.claimed ? 'taken over' : answer(result.record)).toBe('A');
  });

  it('a key that was given back is free at once for a process that trusts Redis', async () => {
    const [a, b] = [await start(), await start()];
    const mine = await claim(a, { lease: 60_000 });
    await eventually(async () =>
      expect(await b.store.claim(request())).toMatchObject({ record: { tier: 'redis' } }),
    );
    expect(await a.store.release(mine)).toBe(true);
    expect((await b.store.claim(request())).claimed).toBe(true);
  });

  it('an error of the stores is never taken for an absent record', async () => {
    const a = await start();
    await claim(a);
    a.postgres.off = a.redis.off = true;
    await expect(a.store.find(id)).rejects.toThrow(/unavailable/);
    await expect(a.store.claim(request())).rejects.toThrow(/unavailable/);
    await expect(a.service.find(id.key)).rejects.toThrow(/unavailable/);
  });

  it('forget() is not undone by an outcome that still waits in memory', async () => {
    const a = await start();
    const mine = await claim(a);
    a.postgres.off = true;
    await a.store.complete(mine, text('A'));
    a.postgres.off = false;
    expect(await a.service.forget(id.key)).toBe(true);
    expect(a.pending()).toBe(0);
    expect(await a.store.find(id)).toBeUndefined();
  });
});

function text(body: string): Outcome {
  return { kind: 'response', status: 200, headers: [], body: Buffer.from(body) };
}
