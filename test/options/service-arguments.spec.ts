import { randomUUID } from 'node:crypto';
import { Controller, Header, Post } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { Idempotent, IdempotencyService, IdempotencySetupError, InvalidOptionsError } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { appModule, startApp, type TestApp } from '../support/app';
import { metric } from '../support/metrics';

const METHODS = ['execute', 'find', 'forget', 'resolve'] as const;

/** As JavaScript may call it. */
type Loose = Record<(typeof METHODS)[number], (...args: unknown[]) => Promise<unknown>>;

let runs = 0;

@Controller()
class LargeController {
  @Post('large')
  @Idempotent({ maxBodySize: 10 })
  large(): string {
    return `run ${++runs} ${'x'.repeat(100)}`;
  }

  @Post('large-headers')
  @Idempotent({ maxBodySize: 1_000 })
  @Header('X-Large', 'x'.repeat(1_000))
  largeHeaders(): string {
    return `run ${++runs}`;
  }
}

const second = { execute: () => 'ran', find: {}, forget: {}, resolve: 'retry' };

describe('IdempotencyService', () => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let service: Loose;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({ databaseUrl: postgres.url, controllers: [LargeController] });
    service = app.service as unknown as Loose;
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });

  it.each(METHODS)(
    'says before the application is initialized, and after it is closed: %s',
    async (method) => {
      const module = await Test.createTestingModule({
        imports: [appModule({ databaseUrl: postgres.url })],
      }).compile();
      const early = module.get<Loose>(IdempotencyService);
      await expect(early[method]('key', second[method])).rejects.toThrow(IdempotencySetupError);
      await expect(early[method]('key', second[method])).rejects.toThrow(
        /not initialized: call app\.init\(\)/,
      );
      await module.init();
      await early[method](randomUUID(), second[method]);
      await module.close();
      await expect(early[method]('key', second[method])).rejects.toThrow(/the application is closed/);
    },
  );

  it.each(METHODS)('refuses a key that is no text, and options that are none: %s', async (method) => {
    for (const key of [undefined, null, 7, {}, Buffer.from('key')]) {
      const calling = service[method](key, second[method]);
      await expect(calling).rejects.toThrow(InvalidOptionsError);
      await expect(calling).rejects.toThrow(/"key" is .* must be a string/);
    }
    for (const options of [null, 'jobs', 7, [], { scope: 7 }, { scope: null }]) {
      const args = method === 'execute' || method === 'resolve' ? [second[method], options] : [options];
      await expect(service[method](randomUUID(), ...args)).rejects.toThrow(InvalidOptionsError);
    }
  });

  it('refuses work that is no function, and a fingerprint that is no text', async () => {
    for (const work of [undefined, null, 'work', Promise.resolve(1)])
      await expect(service.execute(randomUUID(), work)).rejects.toThrow(/"fn" is .* must be a function/s);
    for (const fingerprint of [null, 7, {}])
      await expect(service.execute(randomUUID(), () => 1, { fingerprint })).rejects.toThrow(
        InvalidOptionsError,
      );
  });

  it.each([
    [null, /"resolution" is null.* must be 'retry', \{ value \} or \{ status, headers, body \}/],
    [undefined, /"resolution"/],
    ['Retry', /"resolution" is 'Retry'/],
    [{}, /"resolution"/],
    [['retry'], /"resolution"/],
    [{ status: '201' }, /status/],
    [{ status: 201, body: { id: 7 } }, /"body" is .* must be a string or a Buffer/],
    [{ status: 201, body: 7 }, /"body"/],
    [{ status: 201, body: null }, /"body"/],
    [{ status: 201, headers: [['X-A', '1']] }, /"headers"/],
    [{ status: 201, headers: null }, /"headers"/],
    [{ status: 201, headers: { 'X-A': 1 } }, /"headers\.X-A" is 1, but must be a string/],
    [{ status: 201, headers: { 'X-A': null } }, /"headers\.X-A"/],
    [{ status: 201, headers: { 'Set-Cookie': 'a=b' } }, /"headers\.Set-Cookie" belongs to/],
    [{ status: 201, headers: { 'Content-Length': '3' }, body: 'longer' }, /length/],
    [{ status: 204, body: 'text' }, /status does not go with a body/],
  ])('refuses a resolution that is none, and says what is allowed: %p', async (resolution, reason) => {
    const settling = service.resolve(randomUUID(), resolution);
    await expect(settling).rejects.toThrow(InvalidOptionsError);
    await expect(settling).rejects.toThrow(reason);
  });

  it('counts a retry of what was not stored as such, and as no replay', async () => {
    const counts = async (): Promise<number[]> => [
      await metric('idempotency_requests_total', { outcome: 'outcome_not_stored' }),
      await metric('idempotency_requests_total', { outcome: 'replayed' }),
      await metric('idempotency_db_hits'),
    ];
    const before = await counts();
    const headers = { 'idempotency-key': randomUUID() };
    expect((await app.call('/large', { headers })).status).toBe(201);
    expect((await app.call('/large', { headers })).status).toBe(409);
    const after = await counts();
    expect(after.map((count, index) => count - before[index]!)).toEqual([1, 0, 0]);
    expect(runs).toBe(1);
  });

  it('keeps no response whose headers and body together exceed `maxBodySize`', async () => {
    runs = 0;
    const headers = { 'idempotency-key': randomUUID() };
    const [first, retry] = [
      await app.call('/large-headers', { headers }),
      await app.call('/large-headers', { headers }),
    ];
    expect([first.status, first.text]).toEqual([201, 'run 1']);
    expect([retry.status, runs]).toEqual([409, 1]);
    expect(retry.text).toContain('too large');
  });
});
