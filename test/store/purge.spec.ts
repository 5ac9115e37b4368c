import { randomUUID } from 'node:crypto';
import type { IdempotencyRecord } from '../../lib';
import { recordId } from '../../lib/core/record';
import { eventually } from '../support/eventually';
import { loseOutcome } from '../support/postgres-store';
import { processesOnServers } from '../support/processes-on-servers';
import type { Process } from '../support/tiers';

describe('a purge', () => {
  const running = processesOnServers();
  let processes: Process[];
  let key: string;
  beforeEach(async () => {
    key = randomUUID();
    processes = await running.openAll(3);
  });

  const of = (index: number): Process => processes[index]!;
  const execute = (index: number, value: string) => of(index).service.execute(key, () => value);
  const recordOf = async (index: number): Promise<IdempotencyRecord> => {
    const record = await of(index).service.find(key);
    if (!record) throw new Error('There is none');
    return record;
  };

  it('leaves no replay in any process, and the next request is a first one', async () => {
    await execute(0, 'erased');
    for (const index of [1, 2]) expect(await execute(index, 'not run')).toBe('erased');
    await eventually(async () => expect((await recordOf(2)).tier).toBe('redis'));
    const result = await of(1).store.purge([await recordOf(1)]);
    expect(result).toEqual({ purged: 1, copies: 1, changed: 0, unreachable: { redis: 0, arbiter: 0 } });
    for (const process of processes) expect(await process.service.find(key)).toBeUndefined();
    expect(await execute(2, 'anew')).toBe('anew');
    expect(await execute(0, 'not run')).toBe('anew');
  });

  it('is not undone by an outcome that waits in another process, as the reply to it was lost', async () => {
    of(0).postgres.loseReplyOf = 'complete';
    await execute(0, 'erased');
    expect(of(0).pending()).toBe(1);
    expect(await of(1).store.purge([await recordOf(1)])).toMatchObject({ purged: 1 });
    of(0).postgres.loseReplyOf = undefined;
    await eventually(() => expect(of(0).pending()).toBe(0));
    for (const process of processes) expect(await process.service.find(key)).toBeUndefined();
    expect(await execute(0, 'anew')).toBe('anew');
  });

  it('is not undone by a copy that another process makes of what it has read before', async () => {
    await execute(0, 'erased');
    const record = await of(1).store.findInArbiter((await recordOf(1)).id);
    await of(1).store.purge([record!]);
    of(2).store.copy(
      { claim: record!, outcome: { kind: 'tombstone', status: 201, reason: 'unstorable' } },
      { recorded: true },
      performance.now(),
    );
    await eventually(() => expect(of(2).calls['redis.put']).toBeGreaterThan(0));
    expect(await of(2).store.findInCache(record!.id)).toBeUndefined();
    expect(await of(2).service.find(key)).toBeUndefined();
  });

  it('leaves what it cannot reach in Redis in Postgres, too, so that it can be found again', async () => {
    await execute(0, 'kept');
    const record = await recordOf(1);
    of(1).redis.off = true;
    expect(await of(1).store.purge([record])).toEqual({
      purged: 0,
      copies: 0,
      changed: 0,
      unreachable: { redis: 1, arbiter: 0 },
    });
    expect(await of(2).store.findInArbiter(record.id)).toBeDefined();
    of(1).redis.off = false;
    expect(await of(1).store.purge([record])).toMatchObject({ purged: 1 });
  });

  describe('after Postgres has lost a takeover and its outcome in a failover, of which Redis has a copy', () => {
    beforeEach(async () => {
      await execute(0, 'erased');
      const id = recordId('execute', key);
      await eventually(async () => expect((await of(2).store.findInCache(id))?.state).toBe('completed'));
      await loseOutcome(running.url, key);
    });
    afterEach(async () => {
      const id = recordId('execute', key);
      for (const { store, service } of processes) {
        expect(await store.findInCache(id)).toBeUndefined();
        expect(await store.findInArbiter(id)).toBeUndefined();
        expect(await service.find(key)).toBeUndefined();
      }
      expect(await execute(0, 'anew')).toBe('anew');
    });

    it('leaves no copy of what a failover of Postgres has lost', async () => {
      const orphan = await of(1).store.findInArbiter(recordId('execute', key));
      expect(await of(1).store.purge([orphan!])).toEqual({
        purged: 1,
        copies: 1,
        changed: 0,
        unreachable: { redis: 0, arbiter: 0 },
      });
    });

    it('leaves none where one key is forgotten', async () => {
      expect(await of(1).service.forget(key)).toBe(true);
    });

    it('leaves none where the row was lost as well', async () => {
      await running.dataSource.query('DELETE FROM idempotency_cache WHERE key = $1', [key]);
      expect(await of(1).service.forget(key)).toBe(true);
    });
  });

  it('says what it cannot reach in Postgres', async () => {
    await execute(0, 'kept');
    const record = await recordOf(1);
    of(1).postgres.off = true;
    expect(await of(1).store.purge([record])).toMatchObject({
      purged: 0,
      unreachable: { redis: 0, arbiter: 1 },
    });
    of(1).postgres.off = false;
    expect(await of(1).store.purge([record])).toMatchObject({ purged: 1 });
    expect(await of(2).service.find(key)).toBeUndefined();
  });

  it('leaves a record whose handler runs, and one that was claimed anew', async () => {
    let finish = (): void => undefined;
    const running = of(0).service.execute(
      key,
      () => new Promise((resolve) => (finish = () => resolve('done'))),
    );
    await eventually(async () => expect((await recordOf(1)).state).toBe('in_progress'));
    expect(await of(1).store.purge([await recordOf(1)])).toMatchObject({ purged: 0, changed: 1 });
    finish();
    expect(await running).toBe('done');
    const old = await recordOf(1);
    await of(1).store.purge([old]);
    await execute(2, 'anew');
    expect(await of(1).store.purge([old])).toMatchObject({ purged: 0, changed: 1 });
    expect(await execute(0, 'not run')).toBe('anew');
  });
});
