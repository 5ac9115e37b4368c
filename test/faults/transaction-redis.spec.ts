import { randomUUID } from 'node:crypto';
import { eventually } from '../support/eventually';
import type { Instance } from './rig/instance';
import { Rig } from './rig/rig';
import { recordsInRedis, withRedis } from './rig/stores';

type State = [name: string, begin: (owner: Instance) => unknown, end: (owner: Instance) => unknown];
const ROUTE = { route: 'transaction' } as const;

describe('Redis beside a transaction', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  beforeEach(() => Promise.all(rig.instances.map((one) => rig.sendUntilAnswered(one, randomUUID(), ROUTE))));
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  const empty = (): Promise<unknown> => {
    rig.faults.happened('redis emptied');
    return withRedis(rig.redis.port, (redis) => redis.flushall());
  };
  const STATES: readonly State[] = [
    ['is killed', () => rig.kill(rig.redis), () => rig.restart(rig.redis)],
    ['is frozen', () => rig.freeze(rig.redis), () => rig.thaw(rig.redis)],
    ['is emptied', empty, empty],
    ['refuses connections', ({ redis }) => redis.set('refuse'), ({ redis }) => redis.set('pass')],
    ['is a black hole', ({ redis }) => redis.set('black-hole'), ({ redis }) => redis.set('pass')],
    ['gives no replies', ({ redis }) => redis.set('drop-replies'), ({ redis }) => redis.set('pass')],
    ['cuts its replies', ({ redis }) => redis.set('cut'), ({ redis }) => redis.set('pass')],
  ]; // prettier-ignore

  it.each(STATES)(
    '%s in the handler: the client gets its answer, and so does everybody else',
    async (_, begin, end) => {
      const key = randomUUID();
      const owner = rig.instance(0);
      const first = rig.send(owner, key, { ...ROUTE, hold: true });
      await owner.handling(key);
      await begin(owner);
      const duplicate = rig.send(rig.instance(1), key, ROUTE);
      owner.finish(key);
      const { status, nonce } = await first;
      expect(status).toBe(201);
      expect(await duplicate).toMatchObject({ status: 201, nonce });
      await end(owner);
      expect(await rig.send(rig.instance(2), key, ROUTE)).toMatchObject({ status: 201, nonce });
      expect((await rig.effects(key)).map((row) => row.nonce)).toEqual([nonce]);
      expect(rig.executions(key)).toHaveLength(1);
    },
  );

  it.each(STATES)('%s before the request: one effect, one answer', async (_, begin, end) => {
    const key = randomUUID();
    const owner = rig.instance(0);
    await begin(owner);
    const seen = await Promise.all(
      Array.from({ length: 6 }, (__, i) => rig.send(rig.instance(i % 3), key, ROUTE)),
    );
    await end(owner);
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(seen.map(({ nonce }) => nonce)).size).toBe(1);
    expect(await rig.effects(key)).toHaveLength(1);
    expect(rig.executions(key)).toHaveLength(1);
  });

  it('has an outcome only once it is committed, also where the commit’s reply comes late', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const held = owner.postgres.watch('commit', 'request', 'hold');
    const first = rig.send(owner, key, ROUTE);
    await held.reached;
    const inRedis = async (): Promise<boolean> => {
      const nonce = rig.executions(key)[0]?.nonce;
      return (await recordsInRedis(rig.redis.port)).some((record) => record.nonce === nonce);
    };
    expect(await inRedis()).toBe(false);
    held.resume();
    const { nonce } = await first;
    await eventually(async () => expect(await inRedis()).toBe(true));
    expect((await rig.effects(key)).map((row) => row.nonce)).toEqual([nonce]);
  });

  it('and Postgres are both away: recorded answers come from Redis once it is back, new keys get 503', async () => {
    const [known, unknown] = [randomUUID(), randomUUID()];
    const owner = rig.instance(0);
    const { nonce } = await rig.send(owner, known, ROUTE);
    await rig.kill(rig.postgres);
    await owner.redis.set('refuse');
    expect(await rig.send(owner, known, ROUTE)).toMatchObject({ status: 503 });
    await owner.redis.set('pass');
    await rig.sendUntil(owner, known, ROUTE, (seen) => seen.nonce === nonce);
    expect(await rig.send(owner, unknown, ROUTE)).toMatchObject({
      status: 503,
      problem: 'store-unavailable',
    });
    expect(rig.executions(unknown)).toEqual([]);
    await rig.restart(rig.postgres);
  });
});
