import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { StoreUnavailableError } from '../../lib/core/errors';
import { recordId, type Claim, type Outcome, type RecordId } from '../../lib/core/record';
import type { ClaimRequest } from '../../lib/core/store';
import { eventually } from '../support/eventually';
import { processesOnServers } from '../support/processes-on-servers';
import type { Process } from '../support/tiers';

const OUTCOME: Outcome = { kind: 'response', status: 201, headers: [], body: Buffer.from('first') };
const LEASE = 30_000;

jest.mock('../../lib/store/cache-deadline', () => jest.requireActual<object>('../support/awaited-redis'));

describe('a claim over both tiers', () => {
  const running = processesOnServers();
  let processes: Process[] = [];

  beforeAll(() => {
    Logger.overrideLogger(false);
  });
  beforeEach(async () => {
    processes = await running.openAll(3);
  });
  afterEach(() => jest.restoreAllMocks());

  const newId = (): RecordId => recordId('POST /leads', randomUUID());
  const requestOf = (id: RecordId, more: Partial<ClaimRequest> = {}): ClaimRequest => ({
    id,
    fingerprint: 'a'.repeat(64),
    token: randomUUID(),
    lease: LEASE,
    takeOver: true,
    bypassCache: false,
    durability: 'durable',
    ...more,
  });
  const claimed = async (process: Process, id: RecordId, lease = LEASE): Promise<Claim> => {
    const result = await process.store.claim(requestOf(id, { lease }));
    if (!result.claimed) throw new Error(`Not claimed: ${JSON.stringify(result.record)}`);
    return result.claim;
  };
  /** By one process; Redis has its copies as well. */
  const recorded = async (process: Process, count: number): Promise<RecordId[]> => {
    const ids = Array.from({ length: count }, newId);
    for (const id of ids) await process.store.complete(await claimed(process, id), OUTCOME);
    await eventually(async () => {
      for (const id of ids) expect(await process.store.find(id)).toMatchObject({ tier: 'redis' });
    });
    return ids;
  };
  /** The tier that has answered, with the recorded outcome. */
  const replay = async (process: Process, id: RecordId): Promise<string> => {
    const result = await process.store.claim(requestOf(id));
    if (result.claimed || result.record.state !== 'completed') throw new Error('Not answered');
    expect(result.record.outcome).toEqual(OUTCOME);
    return result.record.tier;
  };
  const callsOf = async (work: () => Promise<unknown>): Promise<Record<string, number>> => {
    const before = processes.map(({ calls }) => ({ ...calls }));
    await work();
    const made: Record<string, number> = { 'redis.find': 0, 'postgres.claim': 0 };
    processes.forEach(({ calls }, i) => {
      for (const [name, count] of Object.entries(calls))
        made[name] = (made[name] ?? 0) + count - (before[i]?.[name] ?? 0);
    });
    return made;
  };
  /** Its outcome is in Redis alone, marked pending; the process that made it has ended. */
  const leftInRedis = async (id: RecordId, lease = LEASE): Promise<void> => {
    const owner = await running.open();
    const claim = await claimed(owner, id, lease);
    owner.postgres.off = true;
    const result = await owner.store.complete(claim, OUTCOME, () => performance.now() + lease);
    expect(result.recorded).toBe(true);
    await running.close(owner);
  };

  it('of a first request asks Redis nothing', async () => {
    const [one] = processes;
    const calls = await callsOf(async () => {
      for (let n = 0; n < 50; n++) await claimed(one!, newId());
    });
    expect(calls).toMatchObject({ 'redis.find': 0, 'postgres.claim': 50 });
  });

  it('of a retry that its own process has answered asks Redis alone', async () => {
    const [one] = processes;
    const [id] = await recorded(one!, 1);
    const calls = await callsOf(async () => expect(await replay(one!, id!)).toBe('redis'));
    expect(calls).toMatchObject({ 'redis.find': 1, 'postgres.claim': 0 });
  });

  it('of a retry in another process is answered by Redis, after Postgres has said that the key is known', async () => {
    const [one, other] = processes;
    const [id] = await recorded(one!, 1);
    const calls = await callsOf(async () => expect(await replay(other!, id!)).toBe('redis'));
    expect(calls).toMatchObject({ 'redis.find': 1, 'postgres.claim': 1 });
    // What Redis has needs no copy.
    expect(calls['redis.put'] ?? 0).toBe(0);
  });

  it('of a hot key comes to Postgres once for each process, however many retries there are', async () => {
    const [id] = await recorded(processes[0]!, 1);
    const calls = await callsOf(async () => {
      for (let round = 0; round < 100; round++)
        for (const process of processes) expect(await replay(process, id!)).toBe('redis');
    });
    expect(calls['postgres.claim']).toBe(2); // the process that ran its handler knows the key
  });

  it('of one of many keys that are all retried comes to Postgres a handful of times', async () => {
    const [one, other] = processes;
    const ids = await recorded(one!, 60);
    const calls = await callsOf(async () => {
      for (const id of ids) expect(await replay(other!, id)).toBe('redis');
    });
    expect(calls['postgres.claim']).toBe(5);
  });

  it('of a retry is answered by Postgres, and refills Redis, where Redis has lost its copy', async () => {
    const [one, other] = processes;
    const [id] = await recorded(one!, 1);
    await running.redis.restart();
    await eventually(async () => {
      await other!.store.find(newId());
      expect(await other!.store.health()).toMatchObject({ redis: 'up' });
    });
    expect(await replay(other!, id!)).toBe('postgres');
    await eventually(async () => expect(await replay(other!, id!)).toBe('redis'));
  });

  it('of a retry is answered by Redis while Postgres cannot be asked, which is tried once', async () => {
    const [one, other] = processes;
    const ids = await recorded(one!, 3);
    other!.postgres.off = true;
    const calls = await callsOf(async () => {
      for (const id of ids) expect(await replay(other!, id)).toBe('redis');
    });
    expect(calls).toMatchObject({ 'redis.find': 3, 'postgres.claim': 1 });
  });

  it('of a retry does not wait for a Postgres that has not answered another claim for a while', async () => {
    const [one, other] = processes;
    const [id] = await recorded(one!, 1);
    other!.postgres.slowBy = 3_000;
    const waits = other!.store.claim(requestOf(newId()));
    await delay(100); // longer than STALLED_AFTER: time is all that it takes
    const calls = await callsOf(async () => expect(await replay(other!, id!)).toBe('redis'));
    expect(calls).toMatchObject({ 'redis.find': 1, 'postgres.claim': 0 });
    await waits;
  });

  it('of a new key fails while Postgres is off, whichever is asked first', async () => {
    const [one] = processes;
    one!.postgres.off = true;
    for (let n = 0; n < 3; n++)
      await expect(one!.store.claim(requestOf(newId()))).rejects.toThrow(StoreUnavailableError);
  });

  it.each([
    ['lives', LEASE],
    ['has lapsed', 1_000],
  ])(
    'is answered with an outcome that Redis alone has, where the lease of the row %s, and brings it to Postgres',
    async (_, lease) => {
      const [one, other] = processes;
      const id = newId();
      await leftInRedis(id, lease);
      if (lease < LEASE)
        await eventually(async () => {
          const [row] = await running.dataSource.query<{ lapsed: boolean }[]>(
            `SELECT lease_until < now() AS lapsed FROM idempotency_cache WHERE id = '\\x${id.hash}'`,
          );
          expect(row?.lapsed).toBe(true);
        });
      const result = await one!.store.claim(requestOf(id, { takeOver: false, bypassCache: true }));
      expect(result).toMatchObject({ claimed: false, record: { state: 'completed', outcome: OUTCOME } });
      other!.redis.off = true;
      expect(await replay(other!, id)).toBe('postgres');
    },
  );

  it('goes by Postgres where what Redis has is of an earlier claim of the key, and Redis then has the later one', async () => {
    const [one, other] = processes;
    const [id] = await recorded(one!, 1);
    const later: Outcome = { ...OUTCOME, body: Buffer.from('later') };
    const alone = await running.open({ redis: false });
    const standing = await alone.store.find(id!);
    expect(await alone.store.forget(standing!)).toBe(true);
    await alone.store.complete(await claimed(alone, id!), later);

    const record = { state: 'completed', outcome: later };
    expect(await other!.store.claim(requestOf(id!))).toMatchObject({ claimed: false, record });
    await eventually(async () =>
      expect(await other!.store.find(id!)).toMatchObject({ ...record, tier: 'redis' }),
    );
  });

  describe('that takes an orphan over, where Redis still has the outcome of a record that was forgotten', () => {
    let id: RecordId;
    beforeEach(async () => {
      [id] = (await recorded(processes[0]!, 1)) as [RecordId];
      const alone = await running.open({ redis: false }); // as if Redis failed over to a state before
      expect(await alone.store.forget((await alone.store.find(id))!)).toBe(true);
      await claimed(alone, id, 50);
      await eventually(async () => {
        const orphan = await alone.store.find(id);
        expect(orphan?.state === 'in_progress' && orphan.leaseRemaining).toBeLessThanOrEqual(0);
      });
    });

    it('does not make it its own', async () => {
      const result = await processes[1]!.store.claim(requestOf(id));
      expect(result).toMatchObject({ claimed: true, claim: { attempt: 2 } });
    });

    it('fails where Postgres cannot be asked whether it was, and leaves the orphan as it was', async () => {
      const [, one, other] = processes;
      one!.postgres.loseReplyOf = 'isForgotten';
      await expect(one!.store.claim(requestOf(id))).rejects.toThrow(StoreUnavailableError);
      await eventually(() => expect(one!.pending()).toBe(0));
      const result = await other!.store.claim(requestOf(id));
      expect(result).toMatchObject({ claimed: true, claim: { attempt: 3 } });
    });
  });

  it('is not forgotten by another fence than its own, also where Redis has a copy of it', async () => {
    const [one, other] = processes;
    const [id] = await recorded(one!, 1);
    const copied = (): Promise<unknown> => other!.store.find(id!);
    await eventually(async () => expect(await copied()).toMatchObject({ tier: 'redis' }));
    const standing = (await other!.store.find(id!))!;
    expect(await other!.store.forget({ ...standing, fence: standing.fence + 1 })).toBe(false);
    expect(await one!.store.find(id!)).toMatchObject({ fence: standing.fence, outcome: OUTCOME });
    expect(await one!.store.forget(standing)).toBe(true);
  });

  it.each(['pending', 'completed'])(
    'is answered with an outcome that Redis has as %s where a crash of Postgres has lost the row',
    async (state) => {
      const [one, other] = processes;
      const id = state === 'pending' ? newId() : (await recorded(one!, 1))[0]!;
      if (state === 'pending') await leftInRedis(id);
      other!.postgres.off = true;
      await expect(other!.store.claim(requestOf(newId()))).rejects.toThrow(StoreUnavailableError);
      await running.dataSource.query(`DELETE FROM idempotency_cache WHERE id = '\\x${id.hash}'`);
      other!.postgres.off = false;
      await claimed(other!, newId());

      const result = await other!.store.claim(requestOf(id));
      expect(result).toMatchObject({ claimed: false, record: { state: 'completed', outcome: OUTCOME } });
    },
  );

  it('waits for no Redis that is slow where the key is new', async () => {
    const [one] = processes;
    one!.redis.slowBy = 60_000;
    const calls = await callsOf(() => claimed(one!, newId()));
    expect(calls['redis.find']).toBe(0);
  });
});
