import { randomUUID } from 'node:crypto';
import {
  Body,
  Controller,
  Delete,
  Get,
  HttpCode,
  HttpException,
  Param,
  Post,
  Res,
  StreamableFile,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { Readable } from 'node:stream';
import { Idempotent, IdempotencyClaim, type IdempotencyContext } from '../../lib';
import { type Platform, type TestApp } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { comparable, isReplay } from '../support/http';
import { gate, type Gate } from '../support/gate';

let runs: unknown[] = [];
let held: Gate | undefined;

interface Lead {
  readonly name?: string;
  readonly status?: number;
}

@Controller()
class WebhookController {
  @Post('leads')
  @Idempotent({ required: true })
  async create(@Body() lead: Lead, @IdempotencyClaim() claim?: IdempotencyContext): Promise<unknown> {
    runs.push({ lead, claim });
    await held?.pass();
    if (lead.status) throw new HttpException({ refused: lead.name }, lead.status);
    return { id: runs.length, nonce: randomUUID(), lead };
  }

  @Post('rejecting')
  @Idempotent({ inFlight: 'reject' })
  async rejecting(@Body() lead: Lead): Promise<unknown> {
    return this.create(lead);
  }

  @Post('impatient')
  @Idempotent({ waitTimeout: 50 })
  async impatient(@Body() lead: Lead): Promise<unknown> {
    return this.create(lead);
  }

  @Post('optional')
  @Idempotent()
  optional(): number {
    return runs.push('optional');
  }

  @Post('tenants/:id')
  @Idempotent()
  tenant(@Param('id') id: string): unknown {
    runs.push(id);
    return { id, nonce: randomUUID() };
  }

  @Post('events')
  @Idempotent({
    key: (context) => context.switchToHttp().getRequest<{ body: { event?: string } }>().body.event,
  })
  event(): unknown {
    runs.push('event');
    return { nonce: randomUUID() };
  }

  @Post('large')
  @Idempotent({ maxBodySize: 1_000 })
  large(): string {
    runs.push('large');
    return 'x'.repeat(1_001);
  }

  @Post('stream')
  @Idempotent()
  stream(): StreamableFile {
    runs.push('stream');
    return new StreamableFile(Readable.from([Buffer.from([0, 255]), Buffer.from(randomUUID())]), {
      type: 'application/x-thing',
    });
  }

  @Post('large-stream')
  @Idempotent({ maxBodySize: 1_000 })
  largeStream(): StreamableFile {
    runs.push('large-stream');
    return new StreamableFile(Readable.from(Array.from({ length: 50 }, () => Buffer.alloc(100, 'y'))));
  }

  @Post('raw')
  @Idempotent()
  raw(
    @Res()
    response: {
      raw?: NodeJS.WritableStream;
      end(text: string): void;
      statusCode: number;
      setHeader(n: string, v: string[]): void;
    },
  ): void {
    runs.push('raw');
    const res = (response.raw ?? response) as typeof response;
    res.statusCode = 207;
    res.setHeader('X-Multi', ['a', 'b']);
    res.end(randomUUID());
  }

  @Delete('leads/:id')
  @HttpCode(204)
  @Idempotent()
  remove(@Param('id') id: string): void {
    runs.push(id);
  }

  @Post('recorded-500')
  @Idempotent({ record: () => true })
  recordsAll(): never {
    runs.push('500');
    throw new HttpException(`failed ${runs.length}`, 500);
  }
}

@Controller('decorated')
@Idempotent({ required: true, header: 'X-Request-Key' })
class DecoratedController {
  @Post()
  create(): unknown {
    runs.push('class');
    return { nonce: randomUUID() };
  }

  @Post('own')
  @Idempotent({ required: false })
  own(): number {
    return runs.push('own');
  }

  @Get()
  list(): number {
    return runs.push('list');
  }
}

/** Names the caller as an application's own guard does. */
class HeaderGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: unknown }>();
    const { 'x-user': user } = request.headers;
    if (user) request.user = { id: user };
    return user !== 'revoked';
  }
}

describe.each<Platform>(['express', 'fastify'])('an @Idempotent() route on %s', (platform) => {
  let app: TestApp;
  let key: string;

  const servers = appOnServers({
    platform,
    controllers: [WebhookController, DecoratedController],
    providers: [{ provide: APP_GUARD, useClass: HeaderGuard }],
  });
  beforeAll(() => ({ app } = servers));
  beforeEach(() => {
    key = randomUUID();
    runs = [];
    held = undefined;
  });

  const post = (path: string, body: unknown = {}, headers: Record<string, string | string[]> = {}) =>
    app.call(path, { body, headers: { 'idempotency-key': key, ...headers } });

  describe('answers a retry', () => {
    it('with the identical response of the first request: two identical requests, one execution', async () => {
      const first = await post('/leads', { name: 'Test', user_id: 'test' });
      const second = await post('/leads', { user_id: 'test', name: 'Test' });
      expect(first.status).toBe(201);
      expect(isReplay(first)).toBe(false);
      expect(isReplay(second)).toBe(true);
      expect(comparable(second)).toEqual(comparable(first));
      expect(runs).toHaveLength(1);
    });

    it.each(['/stream', '/raw'])('byte for byte from %s', async (path) => {
      const first = await post(path);
      const second = await post(path);
      expect(isReplay(second)).toBe(true);
      expect(comparable(second)).toEqual(comparable(first));
      expect(runs).toHaveLength(1);
    });

    it('of a 204 without a body', async () => {
      const remove = () => app.call('/leads/7', { method: 'DELETE', headers: { 'idempotency-key': key } });
      const first = await remove();
      const second = await remove();
      expect(first.status).toBe(204);
      expect(isReplay(second)).toBe(true);
      expect(comparable(second)).toEqual(comparable(first));
      expect(runs).toHaveLength(1);
    });

    it('of a refusal that stands, such as 409 or 404', async () => {
      const first = await post('/leads', { name: 'gone', status: 404 });
      const second = await post('/leads', { name: 'gone', status: 404 });
      expect(first.status).toBe(404);
      expect(isReplay(second)).toBe(true);
      expect(comparable(second)).toEqual(comparable(first));
      expect(runs).toHaveLength(1);
    });

    it('by running the handler again after a 5xx or a 429', async () => {
      for (const status of [500, 503, 429]) {
        const first = await post('/leads', { name: 'flaky', status });
        expect(first.status).toBe(status);
      }
      expect((await post('/leads', { name: 'well' })).status).toBe(201);
      expect(runs).toHaveLength(4);
    });

    it('of a 5xx where `record` says so', async () => {
      const first = await post('/recorded-500');
      const second = await post('/recorded-500');
      expect(isReplay(second)).toBe(true);
      expect(comparable(second)).toEqual(comparable(first));
      expect(runs).toHaveLength(1);
    });

    it.each(['/large', '/large-stream'])(
      'with a clear 409 where the response was too large to be kept, and does not run %s again',
      async (path) => {
        const first = await post(path);
        const second = await post(path);
        expect(first.status).toBe(201);
        expect(first.body.length).toBe(path === '/large' ? 1_001 : 5_000);
        expect(second.status).toBe(409);
        expect(problem(second.text)).toBe('outcome-not-stored');
        expect(runs).toHaveLength(1);
      },
    );
  });

  describe('refuses', () => {
    it('another body under the same key with 422', async () => {
      await post('/leads', { name: 'one' });
      const second = await post('/leads', { name: 'two' });
      expect(second.status).toBe(422);
      expect(second.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(problem(second.text)).toBe('fingerprint-mismatch');
      expect(runs).toHaveLength(1);
    });

    it('another body with 422 also while the first request runs', async () => {
      held = gate();
      const first = post('/leads', { name: 'one' });
      await held.reached();
      expect((await post('/leads', { name: 'two' })).status).toBe(422);
      held.open();
      expect((await first).status).toBe(201);
    });

    it('a missing key where it is required with 400', async () => {
      const answer = await app.call('/leads', { body: {} });
      expect(answer.status).toBe(400);
      expect(answer.text).toContain('Idempotency-Key');
      expect(problem(answer.text)).toBe('key-missing');
      expect(runs).toHaveLength(0);
    });

    it.each<[string, string | string[]]>([
      ['an empty key', ''],
      ['an empty quoted key', '""'],
      ['a key of 256 characters', 'k'.repeat(256)],
      ['an unfinished quoted key', '"abc'],
      ['a quoted key with more behind it', '"abc" "def"'],
      ['two different keys', ['one', 'two']],
      ['a list', 'one, two'],
      ['characters outside of ASCII', 'schlüssel'],
    ])('%s with 400', async (_, value) => {
      const answer = await post('/leads', {}, { 'idempotency-key': value });
      expect(answer.status).toBe(400);
      expect(problem(answer.text)).toBe('key-invalid');
      expect(runs).toHaveLength(0);
    });

    it('two header names that disagree with 400', async () => {
      expect((await post('/leads', {}, { 'x-idempotency-key': randomUUID() })).status).toBe(400);
    });

    it('a duplicate in flight with 409 and Retry-After where `inFlight` is reject', async () => {
      held = gate();
      const first = post('/rejecting');
      await held.reached();
      const second = await post('/rejecting');
      expect(second.status).toBe(409);
      expect(Number(second.headers['retry-after'])).toBeGreaterThan(0);
      expect(problem(second.text)).toBe('in-flight');
      held.open();
      expect((await first).status).toBe(201);
      expect(isReplay(await post('/rejecting'))).toBe(true);
      expect(runs).toHaveLength(1);
    });

    it('a duplicate in flight with 409 once `waitTimeout` is over', async () => {
      held = gate();
      const first = post('/impatient');
      await held.reached();
      expect((await post('/impatient')).status).toBe(409);
      held.open();
      expect((await first).status).toBe(201);
    });
  });

  it('lets 50 duplicates in flight wait for the one response', async () => {
    held = gate();
    const all = Array.from({ length: 50 }, () => post('/leads', { name: 'storm' }));
    await held.reached();
    held.open();
    const answers = await Promise.all(all);
    expect(runs).toHaveLength(1);
    expect(new Set(answers.map((answer) => JSON.stringify(comparable(answer)))).size).toBe(1);
    expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1);
  });

  it('takes "abc" and abc for the same key, in either header', async () => {
    const first = await post('/leads', {}, { 'idempotency-key': `"${key}"` });
    const second = await app.call('/leads', { body: {}, headers: { 'x-idempotency-key': key } });
    expect(isReplay(second)).toBe(true);
    expect(comparable(second)).toEqual(comparable(first));
  });

  it('takes the key from the body where `key` says so', async () => {
    const send = (event: string) => app.call('/events', { body: { event } });
    const first = await send(`evt_${key}`);
    expect(comparable(await send(`evt_${key}`))).toEqual(comparable(first));
    expect(comparable(await send(`evt_other_${key}`))).not.toEqual(comparable(first));
    expect(runs).toHaveLength(2);
  });

  it('runs unprotected without a key where none is required', async () => {
    await app.call('/optional');
    await app.call('/optional');
    expect(runs).toHaveLength(2);
  });

  it('keeps paths and callers apart', async () => {
    const one = await post('/tenants/1', {}, { 'x-user': 'ann' });
    const two = await post('/tenants/2', {}, { 'x-user': 'ann' });
    const bob = await post('/tenants/1', {}, { 'x-user': 'bob' });
    const anonymous = await post('/tenants/1', {});
    expect(new Set([one, two, bob, anonymous].map((answer) => answer.text)).size).toBe(4);
    expect(isReplay(await post('/tenants/1', {}, { 'x-user': 'ann' }))).toBe(true);
    expect(runs).toHaveLength(4);
  });

  it('lets guards refuse a caller before a replay', async () => {
    await post('/tenants/1', {}, { 'x-user': 'revoked' });
    expect((await post('/tenants/1', {}, { 'x-user': 'revoked' })).status).toBe(403);
  });

  it('tells the handler its key, attempt and fence', async () => {
    await post('/leads', {});
    expect(runs[0]).toMatchObject({
      claim: { key, attempt: 1, fence: expect.any(Number), signal: { aborted: false } },
    });
  });

  it('is made of a class’ unsafe methods by a decorator on the class, whose options a method can override', async () => {
    const header = { 'x-request-key': key };
    const first = await app.call('/decorated', { headers: header });
    expect(comparable(await app.call('/decorated', { headers: header }))).toEqual(comparable(first));
    expect((await app.call('/decorated')).status).toBe(400);
    expect((await app.call('/decorated/own')).status).toBe(201);
    expect((await app.call('/decorated', { method: 'GET' })).status).toBe(200);
    expect(runs).toEqual(['class', 'own', 'list']);
  });

  it('records the outcome although its client has left, for the retry', async () => {
    held = gate();
    const client = new AbortController();
    const first = app.call('/leads', {
      body: {},
      headers: { 'idempotency-key': key },
      signal: client.signal,
    });
    await held.reached();
    client.abort();
    await expect(first).rejects.toThrow();
    held.open();
    const second = await post('/leads', {});
    expect(second.status).toBe(201);
    expect(runs).toHaveLength(1);
  });
});

function problem(text: string): string | undefined {
  return /urn:problem-type:nestjs-idempotency:([a-z-]+)/.exec(text)?.[1];
}
