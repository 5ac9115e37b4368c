import { ClassSerializerInterceptor, Controller, Post, UseInterceptors } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { randomUUID } from 'node:crypto';
import { Idempotent } from '../../../lib';
import { startPostgres, type RunningPostgres } from '../../../servers';
import { ValueReplayInterceptor } from '../../fixtures/value-replay.interceptor';
import { startApp, type Platform, type TestApp } from '../../support/app';
import { comparable, isReplay, type Answer } from '../../support/http';
import { Account } from './values.controllers';

const SECRET = 'never to be sent';

@Controller()
class AccountsController {
  @Post('ours')
  @Idempotent()
  ours(): Account {
    return new Account();
  }

  @Post('naive')
  @UseInterceptors(ValueReplayInterceptor)
  naive(): Account {
    return new Account();
  }
}

describe.each<Platform>(['express', 'fastify'])('a field with @Exclude() on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [AccountsController],
      providers: [{ provide: APP_INTERCEPTOR, useClass: ClassSerializerInterceptor }],
    });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });

  async function twice(path: string): Promise<[Answer, Answer]> {
    const headers = { 'idempotency-key': randomUUID() };
    return [await app.call(path, { headers }), await app.call(path, { headers })];
  }

  it('is in no first response: the ClassSerializerInterceptor of the root module removes it', async () => {
    for (const path of ['/ours', '/naive']) {
      const [first] = await twice(path);
      expect(first.text).toMatch(/^\{"name":"run/);
      expect(first.text).not.toContain(SECRET);
    }
  });

  it('leaks from a replay of the handler’s value, which has lost its class (the control)', async () => {
    const [, retry] = await twice('/naive');
    expect(retry.text).toContain(SECRET);
  });

  it('never leaks from ours, which replays what was sent', async () => {
    const [first, retry] = await twice('/ours');
    expect(isReplay(retry)).toBe(true);
    expect(comparable(retry)).toEqual(comparable(first));
    expect(retry.text).not.toContain(SECRET);
  });
});
