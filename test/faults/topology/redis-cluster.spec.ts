import { randomUUID } from 'node:crypto';
import { SlotMigration, startRedisCluster, type RunningRedis } from '../../../servers';
import { eventually } from '../../support/eventually';
import { Rig } from '../rig/rig';
import { recordsInRedis, withRedis } from '../rig/stores';
import { clean } from './clean';
import { Traffic } from './traffic';
import { REDIS_RECORDS } from '../../support/stored';

describe('a Redis Cluster of three nodes', () => {
  let nodes: RunningRedis[];
  let rig: Rig;
  beforeEach(async () => {
    nodes = await startRedisCluster();
    const [first, second, ...more] = nodes as [RunningRedis, RunningRedis, ...RunningRedis[]];
    rig = await Rig.start({
      redisTopology: {
        url: `cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
        servers: [first, second, ...more],
        primaryPorts: () => Promise.resolve(nodes.map(({ port }) => port)),
      },
      options: { postgres: { timeout: '10s' } },
    });
  });
  afterEach(() => rig.stop());

  it('of which one dies under load and comes back empty: no request notices, and no handler runs twice', async () => {
    const traffic = new Traffic(rig);
    await traffic.goesOn();
    await rig.kill(rig.replica);
    await traffic.goesOn();
    await rig.restart(rig.replica);
    await traffic.goesOn();
    await traffic.stop();
    expect(new Set(rig.sightings.map(({ status }) => status))).toEqual(new Set([201]));
    const { keys, executions } = clean(await rig.verdict());
    expect(executions).toBe(keys);
  });

  it('of which one gives the slot of a claim away before it is finished: everybody gets its answer', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { hold: true });
    await owner.handling(key);
    const { source, slot } = await eventually(hint);
    const target = nodes.find((node) => node !== source)!;

    const traffic = new Traffic(rig);
    const migration = await SlotMigration.begin(slot, source, target, nodes);
    const whileShared = rig.send(rig.instance(1), key);
    await traffic.goesOn();
    await migration.moveKeys();
    await traffic.goesOn();
    owner.finish(key); // its record goes where the source asks for it to go
    const { status, nonce } = await first;
    expect(status).toBe(201);
    await migration.finish();
    await traffic.goesOn();
    await traffic.stop();

    await eventually(async () => {
      const moved = await recordsInRedis(target.port);
      expect(moved.map((record) => record.nonce)).toContain(nonce);
    });
    expect(await redirections('ASK')).toBeGreaterThan(0);
    expect(await whileShared).toMatchObject({ status: 201, nonce });
    for (const instance of rig.instances) {
      expect(await rig.send(instance, key)).toMatchObject({ status: 201, nonce });
    }
    expect(await redirections('MOVED')).toBeGreaterThan(0);
    expect(new Set(rig.sightings.map((one) => one.status))).toEqual(new Set([201]));
    const { keys, executions } = clean(await rig.verdict());
    expect(executions).toBe(keys);
  });

  /** How often a node has sent a client to another. */
  async function redirections(kind: 'ASK' | 'MOVED'): Promise<number> {
    const counts = await Promise.all(
      nodes.map(({ port }) => withRedis(port, (node) => node.info('errorstats'))),
    );
    return counts
      .map((text) => Number(new RegExp(`errorstat_${kind}:count=(\\d+)`).exec(text)?.[1] ?? 0))
      .reduce((sum, count) => sum + count, 0);
  }

  /** Where the hint of the one claim that there is lies. */
  async function hint(): Promise<{ source: RunningRedis; slot: number }> {
    for (const source of nodes) {
      const slot = await withRedis(source.port, async (node) => {
        const [name] = await node.keys(REDIS_RECORDS);
        return name === undefined ? undefined : await node.cluster('KEYSLOT', name);
      });
      if (slot !== undefined) return { source, slot };
    }
    throw new Error('no hint yet');
  }
});
