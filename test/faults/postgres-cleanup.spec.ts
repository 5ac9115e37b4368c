import { monotonicNow } from './rig/ledger';
import { Rig } from './rig/rig';

const RETENTION = 2_000;
const LASTS = 20_000;

describe('the cleanup of expired records races with claims of the same keys', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({
      instances: ['both', 'postgres', 'both'],
      options: {
        lease: '1s',
        redis: { ttl: '1s' },
        postgres: { retention: '2s', cleanupInterval: '1s' },
      },
      retention: RETENTION,
    });
  });
  afterAll(() => rig.stop());

  it('a key runs again only once its record has expired, never beside itself, and under a higher fence', async () => {
    const until = monotonicNow() + LASTS;
    const clients = Array.from({ length: 24 }, async (_, client) => {
      for (let count = 0; monotonicNow() < until; count++) {
        const key = `key-${(client + count) % 30}`;
        const takes = count % 20 === 0 ? 2_500 : count % 7; // at times longer than lease and retention
        await rig.send(rig.instance(count % 3), key, { route: count % 2 ? 'reject' : 'retry', takes });
      }
    });
    await Promise.all(clients);
    const again =
      rig.executions().length - new Set(rig.executions().map(({ scope, key }) => scope + key)).size;
    expect(again).toBeGreaterThan(100);
    for (const one of rig.instances) expect(one.postgres.seen.get('cleanup')).toBeGreaterThan(5);
    expect((await rig.verdict()).violations).toEqual([]);
  });
});
