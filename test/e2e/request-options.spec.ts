import { randomUUID } from 'node:crypto';
import { Controller, Post, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { byUser, fromBody, fromHeader, Idempotent, rawBody } from '../../lib';
import { startApp, type Platform, type TestApp } from '../support/app';
import { isReplay, type Answer } from '../support/http';
import { KeptLog } from '../support/log';

interface AuthedRequest {
  readonly user: { readonly tenant: string; readonly sub: string };
}

/** Takes each caller for whom he says he is. */
class TestGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: unknown }>();
    const { user } = request.headers;
    if (user) request.user = JSON.parse(user);
    return true;
  }
}

let runs = 0;

@Controller()
class WebhooksController {
  @Post('by-user')
  @Idempotent({ scope: byUser((request: AuthedRequest) => [request.user.tenant, request.user.sub]) })
  byUser(): number {
    return ++runs;
  }

  @Post('from-body')
  @Idempotent({ key: fromBody('event.id'), required: true })
  fromBody(): number {
    return ++runs;
  }

  @Post('from-header')
  @Idempotent({ key: fromHeader('X-GitHub-Delivery'), required: true })
  fromHeader(): number {
    return ++runs;
  }

  @Post('raw-body')
  @Idempotent({ key: fromHeader('X-Id'), fingerprint: rawBody() })
  rawBody(): number {
    return ++runs;
  }
}

describe.each<Platform>(['express', 'fastify'])('the helpers for options of requests, on %s', (platform) => {
  let app: TestApp;
  const log = new KeptLog();
  const start = (rawBody: boolean): Promise<TestApp> =>
    startApp({
      platform,
      inMemory: true,
      controllers: [WebhooksController],
      providers: [{ provide: APP_GUARD, useClass: TestGuard }],
      settings: { rawBody, logger: log },
    });

  beforeAll(async () => {
    app = await start(true);
  });
  afterAll(() => app.close());
  beforeEach(() => {
    runs = 0;
    log.lines.length = 0;
  });

  const seen = ({ status, text }: Answer): [number, string] => [status, text];

  describe('byUser()', () => {
    const send = (key: string, user: unknown): Promise<Answer> =>
      app.call('/by-user', {
        headers: { 'idempotency-key': key, ...(user ? { user: JSON.stringify(user) } : {}) },
      });

    it('keeps users apart, each tenant with its own', async () => {
      const key = randomUUID();
      const users = [
        { tenant: 'a', sub: '1' },
        { tenant: 'a', sub: '2' },
        { tenant: 'b', sub: '1' },
      ];
      for (const [i, user] of users.entries()) expect(seen(await send(key, user))).toEqual([201, `${i + 1}`]);
      for (const [i, user] of users.entries()) {
        const retry = await send(key, user);
        expect([...seen(retry), isReplay(retry)]).toEqual([201, `${i + 1}`, true]);
      }
    });

    it.each([[undefined], [{ tenant: 'a' }], [{ sub: '1', tenant: '' }]])(
      'runs nothing for the user %j, and logs why',
      async (user) => {
        expect((await send(randomUUID(), user)).status).toBe(500);
        expect(runs).toBe(0);
        expect(log.lines.join('\n')).toMatch(/byUser\(\).*Have a guard or middleware set the user/s);
      },
    );
  });

  describe('fromBody()', () => {
    const send = (body: unknown): Promise<Answer> => app.call('/from-body', { body });

    it('takes the key of a webhook that sends no header', async () => {
      const id = randomUUID();
      expect(seen(await send({ event: { id } }))).toEqual([201, '1']);
      expect(isReplay(await send({ event: { id } }))).toBe(true);
      expect(runs).toBe(1);
    });

    it.each([[{}], [{ event: {} }], [{ event: { id: '' } }], [{ event: { id: {} } }], [undefined]])(
      'refuses %j with 400, as the sender left it out',
      async (body) => {
        expect((await send(body)).status).toBe(400);
        expect(runs).toBe(0);
      },
    );
  });

  describe('fromHeader()', () => {
    it('takes the key from there, and refuses a request without it with 400', async () => {
      const headers = { 'X-GitHub-Delivery': randomUUID() };
      expect(seen(await app.call('/from-header', { headers }))).toEqual([201, '1']);
      expect(isReplay(await app.call('/from-header', { headers }))).toBe(true);
      expect((await app.call('/from-header')).status).toBe(400);
      expect(runs).toBe(1);
    });
  });

  describe('rawBody()', () => {
    const send = (to: TestApp, id: string, body: string): Promise<Answer> =>
      to.call('/raw-body', { headers: { 'X-Id': id, 'content-type': 'application/json' }, body });

    it('refuses a retry whose bytes differ, even where they mean the same', async () => {
      const id = randomUUID();
      expect((await send(app, id, '{"a":1,"b":2}')).status).toBe(201);
      expect(isReplay(await send(app, id, '{"a":1,"b":2}'))).toBe(true);
      expect((await send(app, id, '{"b":2,"a":1}')).status).toBe(422);
      expect(runs).toBe(1);
    });

    it('compares requests without a body as well', async () => {
      const headers = { 'X-Id': randomUUID() };
      expect((await app.call('/raw-body', { headers })).status).toBe(201);
      expect(isReplay(await app.call('/raw-body', { headers }))).toBe(true);
    });

    it('runs nothing where the application keeps no bytes, and logs what to do', async () => {
      const without = await start(false);
      try {
        expect((await send(without, randomUUID(), '{}')).status).toBe(500);
        expect(runs).toBe(0);
        expect(log.lines.join('\n')).toMatch(/needs the bytes of the body.*`rawBody: true`/s);
      } finally {
        await without.close();
      }
    });
  });
});
