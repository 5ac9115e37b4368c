import { randomUUID } from 'node:crypto';
import { Controller, Post } from '@nestjs/common';
import {
  httpScope,
  Idempotent,
  IdempotencyService,
  InvalidOptionsError,
  isIdempotencyError,
  type Resolution,
  type Duration,
} from '../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../servers';
import { startApp, type TestApp } from './support/app';
import { eventually } from './support/eventually';
import { gate } from './support/gate';

let runs = 0;

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent()
  create(): unknown {
    runs += 1;
    return { run: runs, nonce: randomUUID() };
  }
}

describe('IdempotencyService', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let app: TestApp;
  let service: IdempotencyService;
  let key: string;

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    app = await startApp({ databaseUrl: postgres.url, redisUrl: redis.url, controllers: [LeadsController] });
    ({ service } = app);
  });
  afterAll(async () => {
    await app.close();
    await Promise.all([postgres.stop(), redis.stop()]);
  });
  beforeEach(() => {
    runs = 0;
    key = randomUUID();
  });

  const codeOf = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      (value) => ({ value }),
      (error: unknown) => (isIdempotencyError(error) ? error.code : error),
    );

  describe('execute', () => {
    it('runs the work once and gives its value to everyone, as JSON gives it back', async () => {
      const work = () => ({ run: ++runs, at: new Date(0), nothing: undefined });
      const values = await Promise.all(Array.from({ length: 10 }, () => service.execute(key, work)));
      values.push(await service.execute(key, work));
      expect(runs).toBe(1);
      for (const value of values) expect(value).toEqual({ run: 1, at: '1970-01-01T00:00:00.000Z' });
    });

    it.each([[undefined], [null], [0], [''], [false], [[]]])('keeps %p', async (value) => {
      expect(await service.execute(key, () => value)).toEqual(value);
      expect(await service.execute(key, () => 'not run')).toEqual(value);
    });

    it('passes an error on and gives the key back', async () => {
      const failing = service.execute(key, () => Promise.reject(new Error('broken')));
      await expect(failing).rejects.toThrow('broken');
      expect(await service.execute(key, () => 'repaired')).toBe('repaired');
    });

    it('keeps scopes apart, and refuses another fingerprint', async () => {
      expect(await service.execute(key, () => 1, { scope: 'a', fingerprint: 'x' })).toBe(1);
      expect(await service.execute(key, () => 2, { scope: 'b', fingerprint: 'x' })).toBe(2);
      expect(await codeOf(service.execute(key, () => 3, { scope: 'a', fingerprint: 'y' }))).toBe(
        'fingerprint_mismatch',
      );
    });

    it('gives the first caller a value that cannot be stored, and tells every later one', async () => {
      const circular: Record<string, unknown> = {};
      circular.self = circular;
      expect(await service.execute(key, () => circular)).toBe(circular);
      expect(await codeOf(service.execute(key, () => 'not run'))).toBe('outcome_not_stored');
    });

    it.each(['', 'k'.repeat(256), 'a\u0000b', 'a\nb', '\ud800'])(
      'refuses the key %j before it asks a store',
      async (bad) => {
        expect(await codeOf(service.execute(bad, () => ++runs))).toBe('key_invalid');
        expect(runs).toBe(0);
      },
    );

    it('refuses options that are none', async () => {
      await expect(service.execute(key, () => 1, { lease: 'x' as Duration })).rejects.toThrow(
        /option "lease" is 'x'/,
      );
    });
  });

  describe('find', () => {
    it('shows a record in progress, then completed', async () => {
      const held = gate();
      const running = service.execute(key, async () => held.pass());
      await held.reached();
      expect(await service.find(key)).toMatchObject({ state: 'in_progress', attempt: 1 });
      held.open();
      await running;
      expect(await service.find(key)).toMatchObject({ state: 'completed', outcome: { kind: 'response' } });
      expect(await service.find(randomUUID())).toBeUndefined();
    });

    it('finds the record of an HTTP route under its scope', async () => {
      await app.call('/leads?x=1', { headers: { 'idempotency-key': key } });
      expect(await service.find(key, { scope: httpScope('POST', '/leads') })).toMatchObject({
        outcome: { status: 201 },
      });
    });
  });

  describe('forget', () => {
    it('lets the next request run the handler, in every tier', async () => {
      const send = () => app.call('/leads', { headers: { 'idempotency-key': key } });
      const scope = httpScope('POST', '/leads');
      await send();
      await eventually(async () =>
        expect(await service.find(key, { scope })).toMatchObject({ tier: 'redis' }),
      );
      expect(await service.forget(key, { scope })).toBe(true);
      expect(await service.forget(key, { scope })).toBe(false);
      await send();
      expect(runs).toBe(2);
    });

    it('refuses while the handler runs', async () => {
      const held = gate();
      const running = service.execute(key, () => held.pass());
      await held.reached();
      expect(await service.forget(key)).toBe(false);
      held.open();
      await running;
    });
  });

  describe('resolve', () => {
    /** Leaves a claim behind, as a crashed process does. */
    const crash = async (scope: string): Promise<void> => {
      const crashing = await startApp({ databaseUrl: postgres.url, redisUrl: redis.url });
      const held = gate();
      void crashing.service.execute(key, () => held.pass(), { scope, lease: 300 }).catch(() => undefined);
      await held.reached();
      await crashing.close();
      await eventually(async () =>
        expect(await service.find(key, { scope })).toMatchObject({ state: 'in_progress' }),
      );
      await eventually(async () => {
        const record = await service.find(key, { scope });
        expect(record?.state === 'in_progress' && record.leaseRemaining <= 0).toBe(true);
      });
    };

    it('settles an unknown outcome with a value', async () => {
      await crash('jobs');
      const reject = { scope: 'jobs', onOrphan: 'reject' as const };
      expect(await codeOf(service.execute(key, () => 'not run', reject))).toBe('outcome_unknown');
      expect(await service.resolve(key, { value: { settled: true } }, { scope: 'jobs' })).toBe(true);
      expect(await service.execute(key, () => 'not run', reject)).toEqual({ settled: true });
      expect(await service.resolve(key, 'retry', { scope: 'jobs' })).toBe(false);
    });

    it('settles nothing with a response that no retry could be sent, and the key stays as it was', async () => {
      await crash('jobs');
      const unsendable: Resolution[] = [
        { status: 150 },
        { status: 1000 },
        { status: 200, headers: { 'X-A': 'b\r\nX-C: d' } },
        { status: 200, headers: { 'X A': 'b' } },
        { status: 200, headers: { 'Transfer-Encoding': 'chunked' } },
      ];
      for (const resolution of unsendable) {
        const settling = service.resolve(key, resolution, { scope: 'jobs' });
        await expect(settling).rejects.toThrow(InvalidOptionsError);
      }
      expect(await service.resolve(key, { value: 1 }, { scope: 'jobs' })).toBe(true);
    });

    it('settles an unknown outcome by letting the next request run', async () => {
      await crash('jobs');
      expect(await service.resolve(key, 'retry', { scope: 'jobs' })).toBe(true);
      expect(await service.execute(key, () => 'run', { scope: 'jobs', onOrphan: 'reject' })).toBe('run');
    });

    it('settles nothing while the owner is alive, or where there is no record', async () => {
      const held = gate();
      const running = service.execute(key, () => held.pass());
      await held.reached();
      expect(await service.resolve(key, 'retry')).toBe(false);
      held.open();
      await running;
      expect(await service.resolve(randomUUID(), 'retry')).toBe(false);
    });
  });
});
