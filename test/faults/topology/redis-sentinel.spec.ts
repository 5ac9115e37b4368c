import { randomUUID } from 'node:crypto';
import { startRedisSentinels, type RunningSentinels } from '../../../servers';
import { eventually } from '../../support/eventually';
import { REDIS_RECORDS } from '../../support/stored';
import { Rig } from '../rig/rig';
import { recordsInRedis, withRedis } from '../rig/stores';
import { clean } from './clean';
import { Traffic } from './traffic';

describe('Redis behind three Sentinels', () => {
  let redis: RunningSentinels;
  let rig: Rig;
  beforeEach(async () => {
    redis = await startRedisSentinels();
    const addresses = redis.sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',');
    rig = await Rig.start({
      redisTopology: {
        url: `sentinel://${addresses}/${redis.name}`,
        servers: [redis.primary, redis.replica, ...redis.sentinels],
        primaryPorts: async () => [await redis.primaryPort()],
      },
      // A hint has to be alive still when a failover is over.
      options: { lease: '1m', postgres: { timeout: '10s' } },
    });
  });
  afterEach(() => rig.stop());

  const failover = (): Promise<void> =>
    eventually(async () => {
      expect(await redis.primaryPort()).toBe(redis.replica.port);
      const role = await withRedis(redis.replica.port, (replica) => replica.call('ROLE'));
      expect(role).toEqual(expect.arrayContaining(['master']));
    }, 30_000);

  it('whose primary dies under load: no request notices, and no handler runs twice', async () => {
    const traffic = new Traffic(rig);
    await traffic.goesOn();
    await rig.kill(redis.primary);
    await traffic.goesOn();
    await failover();
    await traffic.goesOn();
    await traffic.stop();
    expect(new Set(rig.sightings.map(({ status }) => status))).toEqual(new Set([201]));
    const { keys, executions } = clean(await rig.verdict());
    expect(executions).toBe(keys);
  });

  it('that fail over to a replica which has missed writes: retries get the recorded answers', async () => {
    const finished = randomUUID();
    const held = randomUUID();
    const owner = rig.instance(0);
    rig.freeze(redis.replica);
    // What waits in its socket would reach it yet: so nothing more is sent to it.
    await withRedis(redis.primary.port, (primary) => primary.client('KILL', 'TYPE', 'slave'));
    const { nonce } = await rig.send(owner, finished);
    const first = rig.send(owner, held, { hold: true });
    await owner.handling(held);
    await eventually(async () => {
      const written = await recordsInRedis(redis.primary.port);
      expect(written.map((record) => record.nonce)).toEqual([nonce]);
    });
    await rig.kill(redis.primary);
    rig.thaw(redis.replica);
    await failover();
    expect(await recordsInRedis(redis.replica.port)).toEqual([]);

    const second = rig.send(rig.instance(1), held);
    for (const instance of rig.instances) {
      expect(await rig.send(instance, finished)).toMatchObject({ status: 201, nonce });
    }
    owner.finish(held);
    expect((await second).nonce).toBe((await first).nonce);
    expect(clean(await rig.verdict())).toMatchObject({ keys: 2, executions: 2 });
  });

  it('that fail over to a replica whose hint is out of date: the recorded answer, not the hint, decides', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { hold: true });
    await owner.handling(key);
    await eventually(async () => {
      expect(await withRedis(redis.replica.port, (replica) => replica.keys(REDIS_RECORDS))).toHaveLength(1);
    });
    rig.freeze(redis.replica);
    await withRedis(redis.primary.port, (primary) => primary.client('KILL', 'TYPE', 'slave'));
    owner.finish(key);
    const { nonce } = await first;
    await rig.kill(redis.primary);
    rig.thaw(redis.replica);
    await failover();
    expect(await recordsInRedis(redis.replica.port)).toEqual([]);
    expect(await withRedis(redis.replica.port, (replica) => replica.keys(REDIS_RECORDS))).toHaveLength(1);
    for (const instance of rig.instances) {
      expect(await rig.send(instance, key)).toMatchObject({ status: 201, nonce });
    }
    expect(clean(await rig.verdict())).toMatchObject({ keys: 1, executions: 1 });
  });

  it('whose primary was only frozen, and comes back beside the promoted one: no handler runs twice', async () => {
    const traffic = new Traffic(rig);
    await traffic.goesOn();
    rig.freeze(redis.primary);
    await failover();
    await traffic.goesOn();
    rig.thaw(redis.primary);
    await traffic.goesOn();
    await eventually(async () => {
      const role = await withRedis(redis.primary.port, (primary) => primary.call('ROLE'));
      expect(role).toEqual(expect.arrayContaining(['slave']));
    }, 60_000);
    await traffic.goesOn();
    await traffic.stop();
    expect(new Set(rig.sightings.map(({ status }) => status))).toEqual(new Set([201]));
    const { keys, executions } = clean(await rig.verdict());
    expect(executions).toBe(keys);
  });
});
