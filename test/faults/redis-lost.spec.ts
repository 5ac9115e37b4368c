import { randomUUID } from 'node:crypto';
import { eventually } from '../support/eventually';
import { REDIS_RECORDS } from '../support/stored';
import type { Sighting } from './rig/oracle';
import { Rig, type RigOptions } from './rig/rig';
import { withRedis } from './rig/stores';

describe('Redis loses or forgets', () => {
  let rig: Rig;
  const start = async (options: RigOptions = {}): Promise<void> => {
    rig = await Rig.start(options);
  };
  afterEach(async () => {
    try {
      expect((await rig.verdict()).violations).toEqual([]);
    } finally {
      await rig.stop();
    }
  });

  it('killed and started empty, while the handler runs and again after the answer: one execution, one answer', async () => {
    await start();
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(1)];
    const first = rig.send(owner, key, { route: 'reject', hold: true });
    await owner.handling(key);
    await rig.restart(rig.redis);
    const duplicate = rig.send(other, key, { route: 'reject' });
    owner.finish(key);
    const { nonce } = await first;
    expect((await duplicate).nonce).toBe(nonce);
    await rig.restart(rig.redis);
    expect((await rig.sendUntilAnswered(other, key, { route: 'reject' })).nonce).toBe(nonce);
    expect(rig.executions(key)).toHaveLength(1);
  });

  it('killed and started from an old dump, in which the key is still in flight: the retry gets the answer', async () => {
    await start();
    const key = randomUUID();
    const owner = rig.instance(0);
    const hint = owner.redis.watch('hint', 'reply');
    const first = rig.send(owner, key, { route: 'reject', hold: true });
    await hint.reached;
    await withRedis(rig.redis.port, (redis) => redis.save());
    expect(await withRedis(rig.redis.port, (redis) => redis.keys(REDIS_RECORDS))).toHaveLength(1);
    owner.finish(key);
    const { nonce } = await first;
    await rig.restart(rig.redis);
    for (const one of rig.instances) {
      expect((await rig.sendUntilAnswered(one, key, { route: 'reject' })).nonce).toBe(nonce);
    }
    expect(rig.executions(key)).toHaveLength(1);
  });

  it.each(['the hint', 'the outcome'])(
    'fails over to a replica that has missed %s: one execution, one answer',
    async (missed) => {
      await start();
      const key = randomUUID();
      const [owner, other] = [rig.instance(0), rig.instance(1)];
      if (missed === 'the hint') await rig.cutReplication();
      const hint = owner.redis.watch('hint', 'reply');
      const first = rig.send(owner, key, { route: 'reject', hold: true });
      await hint.reached;
      if (missed === 'the outcome') await rig.cutReplication();
      if (missed === 'the hint') await rig.failOverRedis();
      const duplicate = rig.send(other, key, { route: 'reject' });
      owner.finish(key);
      const { nonce } = await first;
      if (missed === 'the outcome') await rig.failOverRedis();
      expect((await duplicate).nonce).toBe(nonce);
      for (const one of rig.instances) {
        expect((await rig.sendUntilAnswered(one, key, { route: 'reject' })).nonce).toBe(nonce);
      }
      expect(rig.executions(key)).toHaveLength(1);
    },
  );

  it.each(['allkeys-lru', 'noeviction'])(
    'is full (maxmemory, %s): Postgres answers for what it does not hold',
    async (policy) => {
      await start({ redisArgs: ['--maxmemory', '4mb', '--maxmemory-policy', policy] });
      const full = policy === 'noeviction' ? /errorstat_OOM:count=[1-9]/ : /evicted_keys:[1-9]/;
      const ask = (keys: readonly string[], offset: number): Promise<Sighting[]> =>
        Promise.all(
          keys.map((key, i) => rig.sendUntilAnswered(rig.instance((i + offset) % 3), key, { size: 20_000 })),
        );
      const first: Sighting[] = [];
      // A busy machine may be late with some copies, and those are not written.
      await eventually(async () => {
        const keys = Array.from({ length: 200 }, () => randomUUID());
        first.push(...(await ask(keys, 0)));
        expect(await withRedis(rig.redis.port, (redis) => redis.info())).toMatch(full);
      }, 60_000);
      const asked = first.map(({ key }) => key);
      const again = await ask(asked, 1);
      expect(again.map(({ nonce }) => nonce)).toEqual(first.map(({ nonce }) => nonce));
    },
  );
});

describe('Redis alone has an outcome, as its owner cannot reach Postgres', () => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start();
  });
  afterEach(() => rig.stop());

  const leftInRedis = async (key: string, route: 'retry' | 'reject'): Promise<string | undefined> => {
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { route, hold: true });
    await owner.handling(key);
    await owner.postgres.set('refuse');
    const pending = owner.redis.watch('pending', 'reply');
    owner.finish(key);
    await pending.reached;
    const { status, nonce } = await first;
    expect(status).toBe(201);
    return nonce;
  };
  const empty = async (): Promise<void> => {
    rig.faults.happened('redis emptied');
    await withRedis(rig.redis.port, (redis) => redis.flushall());
  };

  it.each(['retry', 'reject'] as const)(
    'and its process is killed, %s: others bring it from Redis to Postgres',
    async (route) => {
      const key = randomUUID();
      const nonce = await leftInRedis(key, route);
      rig.instance(0).kill();
      expect((await rig.sendUntilAnswered(rig.instance(1), key, { route })).nonce).toBe(nonce);
      await empty();
      expect((await rig.sendUntilAnswered(rig.instance(2), key, { route })).nonce).toBe(nonce);
      expect(rig.executions(key)).toHaveLength(1);
      expect(await rig.verdict()).toMatchObject({ violations: [], losses: [] });
    },
  );

  it.each(['retry', 'reject'] as const)(
    'and Redis is emptied, %s: the owner brings it there once it can',
    async (route) => {
      const key = randomUUID();
      const nonce = await leftInRedis(key, route);
      await empty();
      await rig.instance(0).postgres.set('pass');
      expect((await rig.sendUntilAnswered(rig.instance(0), key, { route })).nonce).toBe(nonce);
      expect((await rig.sendUntilAnswered(rig.instance(1), key, { route })).nonce).toBe(nonce);
      expect(rig.executions(key)).toHaveLength(1);
      expect(await rig.verdict()).toMatchObject({ violations: [], losses: [] });
    },
  );

  it('the limit: both are lost, retry: the handler runs again, and its answer is another', async () => {
    const key = randomUUID();
    const nonce = await leftInRedis(key, 'retry');
    await empty();
    rig.instance(0).kill();
    expect((await rig.sendUntilAnswered(rig.instance(1), key)).nonce).not.toBe(nonce);
    const { violations, losses } = await rig.verdict();
    expect([violations.length, losses.length]).toEqual([0, 1]);
  });

  it('the limit: both are lost, reject: it is not run again, and an operator has to say what became of it', async () => {
    const key = randomUUID();
    await leftInRedis(key, 'reject');
    await empty();
    rig.instance(0).kill();
    await rig.sendUntil(
      rig.instance(1),
      key,
      { route: 'reject' },
      ({ problem }) => problem === 'outcome-unknown',
    );
    expect(rig.executions(key)).toHaveLength(1);
    const { violations, losses } = await rig.verdict();
    expect([violations.length, losses.length]).toEqual([0, 1]);
  });
});
