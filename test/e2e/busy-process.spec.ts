import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isIdempotencyError } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';

const REQUESTS = 20;

/** Nothing else happens in this process for so long. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe('a process that is busy for several time-outs takes no store for down', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let app: TestApp;
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterEach(() => app.close());
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));

  /** So many first requests; after so many turns of the event loop the process is busy. */
  async function executions(turns: number, busy: number): Promise<{ fences: number[]; refused: string[] }> {
    const fences: number[] = [];
    const refused: string[] = [];
    const requests = Array.from({ length: REQUESTS }, () =>
      app.service
        .execute(randomUUID(), ({ fence }) => fences.push(fence), { onOutage: 'execute' })
        .catch((error: unknown) => refused.push(isIdempotencyError(error) ? error.code : String(error))),
    );
    for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
    block(busy);
    await Promise.all(requests);
    return { fences, refused };
  }
  const warm = () => Promise.all(Array.from({ length: 4 }, () => app.service.execute(randomUUID(), () => 1)));

  it.each([0, 1, 2, 3, 4])('Postgres, while it connects (%i turns on)', async (turns) => {
    app = await startApp({ databaseUrl: postgres.url, options: { postgres: { timeout: '700ms' } } });
    const { fences, refused } = await executions(turns, 1_500);
    expect(refused).toEqual([]);
    expect(fences.filter((fence) => fence > 0)).toHaveLength(REQUESTS);
  });

  it.each([0, 1, 2, 3, 4])('Postgres, with more than one thing to send (%i turns on)', async (turns) => {
    app = await startApp({ databaseUrl: postgres.url, options: { postgres: { timeout: '700ms' } } });
    await warm();
    await delay(1_100); // by then the plans of its prepared statements are dropped before the next one
    const { fences, refused } = await executions(turns, 1_500);
    expect(refused).toEqual([]);
    expect(fences.filter((fence) => fence > 0)).toHaveLength(REQUESTS);
  });

  it.each([0, 1, 2, 3, 4])('Redis as the arbiter (%i turns on)', async (turns) => {
    app = await startApp({ redisUrl: redis.url, options: { redis: { timeout: '700ms' } } });
    await warm();
    const { fences, refused } = await executions(turns, 1_500);
    expect(refused).toEqual([]);
    expect(fences.filter((fence) => fence > 0)).toHaveLength(REQUESTS);
  });
});
