import { randomUUID } from 'node:crypto';
import { Body, Controller, Logger, Post } from '@nestjs/common';
import { Redis } from 'ioredis';
import { Idempotent, type IdempotencyModuleOptions } from '../../lib';
import { RANK } from '../../lib/store/redis/codec';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { eventually } from '../support/eventually';
import { patience } from '../support/awaited-redis';
import { gate, type Gate } from '../support/gate';
import { comparable, isReplay, type Answer } from '../support/http';
import { metric } from '../support/metrics';

jest.mock('../../lib/store/cache-deadline', () => jest.requireActual<object>('../support/awaited-redis'));

const [IN_PROGRESS, COMPLETED] = [String(RANK.in_progress), String(RANK.completed)];

let runs = 0;
let held: Gate | undefined;

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent({ required: true })
  async create(@Body() lead: unknown): Promise<unknown> {
    runs += 1;
    await held?.pass();
    return { run: runs, nonce: randomUUID(), lead };
  }

  @Post('unprotected-in-outage')
  @Idempotent({ onOutage: 'execute' })
  unprotected(): unknown {
    runs += 1;
    return { nonce: randomUUID() };
  }
}

describe('with two tiers', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let apps: TestApp[] = [];
  let key: string;

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  beforeEach(async () => {
    runs = 0;
    held = undefined;
    patience.isEndless = false;
    key = randomUUID();
    await redis.restart();
  });
  afterEach(async () => {
    redis.kill('SIGCONT');
    postgres.kill('SIGCONT');
    await Promise.all(apps.map((app) => app.close()));
    apps = [];
  });

  const start = async (options: IdempotencyModuleOptions = {}): Promise<TestApp> => {
    const app = await startApp({
      databaseUrl: postgres.url,
      redisUrl: redis.url,
      controllers: [LeadsController],
      options: { postgres: { timeout: 1_000 }, redis: { timeout: 1_000 }, ...options },
    });
    apps.push(app);
    return app;
  };
  const post = (app: TestApp, path = '/leads', name = 'Test'): Promise<Answer> =>
    app.call(path, { body: { name }, headers: { 'x-idempotency-key': key } });
  const redisKnows = (app: TestApp): Promise<void> =>
    eventually(async () =>
      expect(await app.service.find(key, { scope: 'POST /leads' })).toMatchObject({ tier: 'redis' }),
    );
  const isUp = (tier: 'redis' | 'postgres', state: 'up' | 'down'): Promise<void> =>
    eventually(async () => expect(await metric(`idempotency_${tier}_up`)).toBe(state === 'up' ? 1 : 0));
  const countOf = async (name: string, work: () => Promise<unknown>): Promise<number> => {
    const before = await metric(name);
    await work();
    return (await metric(name)) - before;
  };

  it('should use Redis for idempotency when available', async () => {
    patience.isEndless = true;
    const app = await start();
    let first: Answer | undefined;
    expect(await countOf('idempotency_misses', async () => (first = await post(app)))).toBe(1);
    await redisKnows(app);
    const dbHits = await countOf('idempotency_db_hits', async () => {
      const redisHits = await countOf('idempotency_redis_hits', async () => {
        const second = await post(app);
        expect(isReplay(second)).toBe(true);
        expect(comparable(second)).toEqual(comparable(first!));
      });
      expect(redisHits).toBe(1);
    });
    expect(dbHits).toBe(0);
    expect(runs).toBe(1);
  });

  describe('should fallback to DB when Redis unavailable', () => {
    it('stopped before the application starts', async () => {
      redis.kill('SIGKILL');
      const app = await start();
      const first = await post(app);
      expect(first.status).toBe(201);
      const hits = await countOf('idempotency_db_hits', async () => {
        expect(comparable(await post(app))).toEqual(comparable(first));
      });
      expect(hits).toBe(1);
      expect(runs).toBe(1);
    });

    it('stopped between two requests', async () => {
      const app = await start();
      const first = await post(app);
      await redisKnows(app);
      redis.kill('SIGKILL');
      const second = await post(app);
      expect(isReplay(second)).toBe(true);
      expect(comparable(second)).toEqual(comparable(first));
      expect(runs).toBe(1);
    });

    it('stopped in mid-flight', async () => {
      const app = await start();
      held = gate();
      const first = post(app);
      await held.reached();
      redis.kill('SIGKILL');
      const second = post(app);
      held.open();
      expect(comparable(await second)).toEqual(comparable(await first));
      expect(comparable(await post(app))).toEqual(comparable(await first));
      expect(runs).toBe(1);
    });

    it('frozen with SIGSTOP: no request waits for it, and what it did not answer is not lost', async () => {
      const app = await start();
      const first = await post(app);
      await redisKnows(app);
      redis.kill('SIGSTOP');
      const answers = await Promise.all(Array.from({ length: 20 }, () => post(app)));
      for (const answer of answers) expect(comparable(answer)).toEqual(comparable(first));
      key = randomUUID();
      const other = await post(app);
      expect(other.status).toBe(201);
      expect(comparable(await post(app))).toEqual(comparable(other));
      expect(runs).toBe(2);
    });
  });

  describe('tells Redis that a request is in flight', () => {
    /** What is written to Redis, in its order: the first number of each value. */
    async function ranksWritten(work: (ranks: readonly string[]) => Promise<unknown>): Promise<string[]> {
      const client = new Redis(redis.url);
      const monitor = await client.monitor();
      const ranks: string[] = [];
      monitor.on('monitor', (_time: string, [command = '', name = '', value = '']: readonly string[]) => {
        const isMark = name.startsWith('idempotency:mark:');
        if (command.toLowerCase() === 'set' && !isMark) ranks.push(value[0] ?? '');
      });
      try {
        await work(ranks);
        await eventually(() => expect(ranks).toContain(COMPLETED));
      } finally {
        monitor.disconnect();
        client.disconnect();
      }
      return ranks;
    }

    it('not where its handler is quick: the outcome is all that is written', async () => {
      const app = await start();
      expect(await ranksWritten(() => post(app))).toEqual([COMPLETED]);
    });

    it('once its handler takes longer', async () => {
      const app = await start();
      held = gate();
      const written = await ranksWritten(async (ranks) => {
        const first = post(app);
        await eventually(() => expect(ranks).toEqual([IN_PROGRESS]));
        held?.open();
        return first;
      });
      expect(written).toEqual([IN_PROGRESS, COMPLETED]);
    });
  });

  it('waits for a Redis that does not answer no longer than it takes to ask Postgres', async () => {
    const app = await start({ redis: { timeout: '40s' } });
    const first = await post(app);
    redis.kill('SIGSTOP');
    key = randomUUID();
    expect((await post(app)).status).toBe(first.status);
  }, 20_000);

  it('uses Redis again after an outage, without a restart', async () => {
    const app = await start();
    redis.kill('SIGSTOP');
    const first = await post(app);
    await eventually(async () => {
      await post(app);
      expect(await metric('idempotency_redis_up')).toBe(0);
    });
    redis.kill('SIGCONT');
    await isUp('redis', 'up');
    patience.isEndless = true;
    await post(app); // refills it
    await redisKnows(app);
    const hits = await countOf('idempotency_redis_hits', async () => {
      expect(comparable(await post(app))).toEqual(comparable(first));
    });
    expect(hits).toBe(1);
    expect(runs).toBe(1);
  });

  it('answers from Postgres, and refills Redis, after Redis was restarted empty', async () => {
    const app = await start();
    const first = await post(app);
    await redisKnows(app);
    await redis.restart();
    await isUp('redis', 'up');
    expect(comparable(await post(app))).toEqual(comparable(first));
    await redisKnows(app);
    expect(runs).toBe(1);
  });

  it('two instances give one response although one of them sees no Redis', async () => {
    const seeing = await start();
    const blind = await startApp({ databaseUrl: postgres.url, controllers: [LeadsController] });
    apps.push(blind);
    held = gate();
    const first = post(seeing);
    await held.reached();
    const second = post(blind);
    held.open();
    expect(comparable(await second)).toEqual(comparable(await first));
    expect(runs).toBe(1);
  });

  it('says once that Redis is bypassed, and once that it is used again', async () => {
    const lines: string[] = [];
    const record = (line: unknown): void => void lines.push(String(line));
    const app = await start();
    const spies = [
      jest.spyOn(Logger.prototype, 'warn').mockImplementation(record),
      jest.spyOn(Logger.prototype, 'log').mockImplementation(record),
    ];
    redis.kill('SIGKILL');
    await Promise.all(Array.from({ length: 20 }, () => post(app)));
    await redis.restart();
    await isUp('redis', 'up');
    spies.forEach((spy) => spy.mockRestore());
    expect(lines.filter((line) => line.includes('Redis'))).toHaveLength(2);
    expect(lines.join()).not.toContain(key);
  });

  describe('while Postgres is down and Redis is up', () => {
    it.each(['SIGKILL', 'SIGSTOP'] as const)(
      'recorded keys replay, and new keys get 503 and run nothing (%s)',
      async (signal) => {
        const app = await start();
        const first = await post(app);
        await redisKnows(app);
        postgres.kill(signal);
        try {
          expect(comparable(await post(app))).toEqual(comparable(first));
          key = randomUUID();
          const refused = await post(app);
          expect(refused.status).toBe(503);
          expect(refused.text).toContain('store-unavailable');
          expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
          expect(runs).toBe(1);
          expect(await metric('idempotency_postgres_up')).toBe(0);
        } finally {
          if (signal === 'SIGKILL') await postgres.restart();
          else postgres.kill('SIGCONT');
        }
        await eventually(async () => expect((await post(app)).status).toBe(201));
        expect(runs).toBe(2);
      },
    );

    it('a new key runs unprotected, and is counted, where `onOutage` is execute', async () => {
      const app = await start();
      postgres.kill('SIGSTOP');
      const before = await metric('idempotency_requests_total', { outcome: 'unprotected' });
      expect((await post(app, '/unprotected-in-outage')).status).toBe(201);
      expect(await metric('idempotency_requests_total', { outcome: 'unprotected' })).toBe(before + 1);
    });

    it('an outcome waits in Redis, replays from there, and lands in Postgres once it is back', async () => {
      const app = await start();
      const other = await start();
      held = gate();
      const sending = post(app);
      await held.reached();
      postgres.kill('SIGSTOP');
      held.open();
      const first = await sending;
      expect(first.status).toBe(201);
      expect(comparable(await post(other))).toEqual(comparable(first));
      postgres.kill('SIGCONT');
      await eventually(async () => expect(await metric('idempotency_pending_writes')).toBe(0));
      await redis.restart();
      expect(comparable(await post(other))).toEqual(comparable(first));
      expect(runs).toBe(1);
    });

    it('an outcome survives the process that made it: a process that reads it in Redis brings it to Postgres', async () => {
      const app = await start();
      const other = await start();
      held = gate();
      const sending = post(app);
      await held.reached();
      postgres.kill('SIGSTOP');
      held.open();
      const first = await sending;
      await app.close();
      apps = [other];
      postgres.kill('SIGCONT');
      expect(comparable(await post(other))).toEqual(comparable(first));
      await eventually(async () => expect(await metric('idempotency_pending_writes')).toBe(0));
      await redis.restart();
      expect(comparable(await post(other))).toEqual(comparable(first));
      expect(runs).toBe(1);
    });
  });

  it('with both stores gone between handler and completion, the client gets 503 and its retry the outcome', async () => {
    const app = await start();
    held = gate();
    const sending = post(app);
    await held.reached();
    postgres.kill('SIGSTOP');
    redis.kill('SIGSTOP');
    held.open();
    const first = await sending;
    expect(first.status).toBe(503);
    expect(first.text).toContain('outcome-not-recorded');
    redis.kill('SIGCONT');
    postgres.kill('SIGCONT');
    const retry = await eventually(async () => {
      const answer = await post(app);
      expect(answer.status).toBe(201);
      return answer;
    });
    expect(isReplay(retry)).toBe(true);
    expect(runs).toBe(1);
  });
});

describe('with Redis alone (DISABLE_DB_IDEMPOTENCY_FALLBACK=true)', () => {
  it('says what is lost, and Redis decides', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    const redis = await startRedis();
    process.env.DISABLE_DB_IDEMPOTENCY_FALLBACK = 'true';
    const app = await startApp({
      redisUrl: redis.url,
      controllers: [LeadsController],
      options: { postgres: {} },
    });
    delete process.env.DISABLE_DB_IDEMPOTENCY_FALLBACK;
    expect(warn.mock.calls.flat().join()).toContain('a handler can run twice');
    runs = 0;
    held = undefined;
    const key = randomUUID();
    const send = (): Promise<Answer> =>
      app.call('/leads', { body: {}, headers: { 'x-idempotency-key': key } });
    const answers = await Promise.all(Array.from({ length: 20 }, send));
    expect(new Set(answers.map((answer) => JSON.stringify(comparable(answer)))).size).toBe(1);
    expect(runs).toBe(1);
    redis.kill('SIGKILL');
    expect((await send()).status).toBe(503);
    expect(runs).toBe(1);
    await app.close();
    await redis.stop();
    warn.mockRestore();
  });
});
