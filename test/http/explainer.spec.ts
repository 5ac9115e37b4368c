import {
  Body,
  Controller,
  Get,
  Post,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { Idempotent, IdempotencyAdmin, type Explanation } from '../../lib';
import { appOnServers } from '../support/app-on-servers';
import type { Platform } from '../support/app';

class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: object }>();
    if (request.headers['x-user'] === 'none') return false;
    if (request.headers['x-user']) request.user = { sub: request.headers['x-user'] };
    return true;
  }
}

let runs = 0;

@Controller('orders')
@UseGuards(UserGuard)
class OrdersController {
  @Post(':id')
  @Idempotent({ required: true })
  create(@Body() body: unknown): unknown {
    runs += 1;
    return body;
  }

  @Post(':id/notes')
  @Idempotent({
    key: (context) => context.switchToHttp().getRequest<{ body: { id: string } }>().body.id,
    fingerprint: () => 'same',
  })
  note(): void {
    runs += 1;
  }

  @Get()
  list(): unknown {
    return [];
  }
}

describe.each<Platform>(['express', 'fastify'])('an explanation on %s', (platform) => {
  const servers = appOnServers({
    platform,
    controllers: [OrdersController],
    configure: (app) => void app.setGlobalPrefix('api'),
  });
  const explain = (
    url: string,
    headers: Record<string, string | undefined> = {},
    body: unknown = { a: 1 },
  ): Promise<Explanation> =>
    servers.app.app.get(IdempotencyAdmin).explain({ method: 'POST', url, headers, body });
  beforeEach(() => (runs = 0));

  it('names a request as a real one is named, and runs no handler', async () => {
    const headers = { 'X-User': 'u7', 'Idempotency-Key': randomUUID() };
    const explained = await explain('/api/orders/7?x=1', headers);
    expect(runs).toBe(0);
    expect(explained).toMatchObject({
      protected: true,
      handler: 'OrdersController.create',
      key: headers['Idempotency-Key'],
      keyFrom: 'header Idempotency-Key',
      scope: 'POST /api/orders/7 user.sub:s:u7',
      principal: 'user.sub:s:u7',
      principalFrom: 'request.user.sub, which a guard or middleware has set',
      fingerprintFrom: 'method, path, query and body (as it was parsed)',
    });
    await servers.app.call('/api/orders/7?x=1', { headers, body: { a: 1 } });
    expect(runs).toBe(1);
    if (!explained.protected) throw new Error(explained.why);
    const record = await servers.app.app.get(IdempotencyAdmin).show(explained.hash);
    expect(record).toMatchObject({
      key: explained.key,
      scope: explained.scope,
      fingerprint: explained.fingerprint,
    });
  });

  it('says which options gave what', async () => {
    expect(
      await explain('/api/orders/7/notes', { authorization: 'Bearer x' }, { id: 'event 1' }),
    ).toMatchObject({
      key: 'event 1',
      keyFrom: 'the `key` option',
      principalFrom: expect.stringContaining('a digest of all credentials'),
      fingerprintFrom: 'the `fingerprint` option',
    });
    expect(await explain('/api/orders/7/notes', {}, { id: 'event 1' })).toMatchObject({
      principal: undefined,
      principalFrom: expect.stringContaining('share their keys'),
    });
  });

  it('takes a header that is undefined for one that is not sent, and says which body is none', async () => {
    const headers = { 'idempotency-key': undefined };
    expect(await explain('/api/orders/7', headers)).toMatchObject({
      protected: false,
      why: expect.stringContaining('without a key it is refused (400)'),
    });
    await expect(explain('/api/orders/7', {}, { a: 1n })).rejects.toThrow('IdempotencyAdmin.explain: "body"');
  });

  it.each([
    ['/orders/7', {}, 'answered with 404'],
    ['/api/orders/7', { 'x-user': 'none' }, 'answered with 403'],
    ['/api/orders/7', {}, 'without a key it is refused (400)'],
    ['/api/orders/7', { 'idempotency-key': 'a,b' }, 'OrdersController.create refuses it'],
  ])('says why %s with %j is not protected', async (url, headers, why) => {
    expect(await explain(url, headers)).toEqual({ protected: false, why: expect.stringContaining(why) });
    expect(runs).toBe(0);
  });
});
