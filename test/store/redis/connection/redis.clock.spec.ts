import type { RedisConnection } from '../../../../lib/store/redis/connection/redis.connection';
import type { RedisStore } from '../../../../lib/store/redis/redis.store';
import { claimRequest, newClaim, response } from '../../../support/redis-store';
import { openRedisStore } from '../../../support/open-redis-store';

const open = openRedisStore();
let connection: RedisConnection;
let store: RedisStore;
beforeAll(() => ({ connection, store } = open));

describe('a clock that is set', () => {
  const hour = 3_600_000;
  it.each([
    ['forward', hour],
    ['back', -hour],
  ])('%s, at Redis or by a failover, disturbs nothing', async (_, by) => {
    const wrong = (): void => connection.clock.show(Date.now() - by);
    const claim = newClaim();
    wrong();
    await store.put({ claim, state: 'completed', outcome: response(), pending: false, ttl: 60_000 });
    expect(await store.find(claim.id)).toMatchObject({ state: 'completed' });
    wrong();
    const request = claimRequest();
    const result = await store.claim(request);
    expect(result).toMatchObject({ claimed: true });
    wrong();
    const record = await store.find(request.id);
    expect(record?.state === 'in_progress' && record.leaseRemaining).toBeGreaterThan(0);
    wrong();
    expect(await store.forget(claim)).toBe(true);
  });
});
