import { randomUUID } from 'node:crypto';
import {
  Body,
  Controller,
  Injectable,
  NotFoundException,
  Param,
  Post,
  Res,
  UnauthorizedException,
  UseGuards,
  Version,
  VersioningType,
  type CanActivate,
  type ExecutionContext,
  type PipeTransform,
  type VersioningOptions,
} from '@nestjs/common';
import Redis from 'ioredis';
import { DataSource } from 'typeorm';
import type { ServerResponse } from 'node:http';
import { register } from 'prom-client';
import { httpScope, Idempotent } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { isReplay, type Answer } from '../support/http';
import { KeptLog } from '../support/log';

type Headers = Record<string, string>;

let runs: unknown[] = [];
let revoked = false;
let orders: Set<string>;
let pipes = 0;

const nonce = (): { nonce: string } => ({ nonce: randomUUID() });

/** Names the caller by its token, as an application's own guard does. */
@Injectable()
class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Headers; user?: unknown }>();
    if (revoked || !request.headers.authorization) throw new UnauthorizedException();
    request.user = { sub: request.headers.authorization.replace(/^Bearer (\w+)\..*/, '$1') };
    return true;
  }
}

interface Rewritable {
  url: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
}

/** What the application makes of a URL before it is routed. */
function rewritten({ url, headers }: Rewritable): string {
  if (url === '/pay') return `/tenants/${headers['x-shard']}/pay`;
  if (headers['x-query']) return `${url}?${headers['x-query']}`;
  return url.replace(/^\/as\/\w+/, '');
}

/** Lets the caller in, and does not tell who it is. */
@Injectable()
class SilentGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ user?: unknown }>();
    request.user = { roles: ['sender'] };
    return true;
  }
}

/** Loads what a request is about, which is gone once the request has been carried out. */
@Injectable()
class ExistingOrderPipe implements PipeTransform<string> {
  transform(id: string): string {
    pipes += 1;
    if (!orders.has(id)) throw new NotFoundException();
    return id;
  }
}

@Controller('leads')
class LeadsController {
  @Post('users')
  @UseGuards(UserGuard)
  @Idempotent()
  users(@Body() body: unknown): unknown {
    runs.push(body);
    return nonce();
  }

  @Post('tokens')
  @Idempotent()
  tokens(): unknown {
    runs.push('tokens');
    return nonce();
  }

  @Post('anyone')
  @Idempotent()
  anyone(): unknown {
    return this.tokens();
  }

  @Post('silent')
  @UseGuards(SilentGuard)
  @Idempotent()
  silent(): unknown {
    return this.tokens();
  }

  @Post('tenants')
  @Idempotent({
    scope: (context) => context.switchToHttp().getRequest<{ headers: Headers }>().headers['x-tenant'],
  })
  tenants(): unknown {
    return this.tokens();
  }

  @Post('secrets')
  @UseGuards(UserGuard)
  @Idempotent()
  secrets(@Res({ passthrough: true }) response: ServerResponse | { raw: ServerResponse }): unknown {
    const raw = 'raw' in response ? response.raw : response;
    raw.setHeader('Set-Cookie', ['session=secret', 'csrf=secret']);
    raw.setHeader('WWW-Authenticate', 'Bearer realm="secret"');
    raw.setHeader('Authentication-Info', 'nextnonce="secret"');
    raw.setHeader('Proxy-Authenticate', 'Basic realm="secret"');
    raw.setHeader('X-Kept', 'kept');
    return this.tokens();
  }

  @Post('cancel/:id')
  @Idempotent()
  cancel(@Param('id', ExistingOrderPipe) id: string): unknown {
    orders.delete(id);
    return this.tokens();
  }

  @Post('failing')
  @Idempotent({ required: true })
  failing(): never {
    throw new Error('The handler failed');
  }
}

@Controller('versioned')
class VersionedController {
  @Post()
  @Version('1')
  @Idempotent()
  one(): unknown {
    return { version: 1, ...nonce() };
  }

  @Post()
  @Version('2')
  @Idempotent()
  two(): unknown {
    return { version: 2, ...nonce() };
  }
}

@Controller('tenants/:tenant')
class TenantsController {
  @Post('pay')
  @Idempotent()
  pay(): unknown {
    runs.push('pay');
    return nonce();
  }
}

@Controller({ path: 'hosted', host: ':account.example.com' })
class HostedController {
  @Post()
  @Idempotent()
  create(): unknown {
    runs.push('hosted');
    return nonce();
  }
}

const VERSIONINGS: [string, VersioningOptions, (version: string) => Headers][] = [
  ['a header', { type: VersioningType.HEADER, header: 'X-Version' }, (version) => ({ 'x-version': version })],
  [
    'the media type',
    { type: VersioningType.MEDIA_TYPE, key: 'v=' },
    (version) => ({ accept: `application/json;v=${version}` }),
  ],
  [
    'what the application extracts',
    {
      type: VersioningType.CUSTOM,
      extractor: (request) => (request as { headers: Headers }).headers['x-custom'] ?? '',
    },
    (version) => ({ 'x-custom': version }),
  ],
];

describe.each<Platform>(['express', 'fastify'])('a caller on %s', (platform) => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let client: Redis;
  let app: TestApp;
  let log: KeptLog;
  let key: string;

  const start = ({
    versioning,
    rewrites = false,
  }: { versioning?: VersioningOptions; rewrites?: boolean } = {}): Promise<TestApp> =>
    startApp({
      platform,
      databaseUrl: postgres.url,
      redisUrl: redis.url,
      controllers: versioning
        ? [VersionedController]
        : [LeadsController, TenantsController, HostedController],
      providers: [UserGuard, SilentGuard, ExistingOrderPipe],
      options: { credentialHeaders: ['X-Acme-*'] },
      fastify: rewrites ? { rewriteUrl: rewritten } : {},
      configure: (application) => {
        application.useLogger(log);
        // Middleware makes Fastify forget which URL was sent, and the one that it writes is not routed there.
        if (rewrites && platform === 'fastify') return;
        application.use((request: Rewritable & { user?: unknown }, _: unknown, next: () => void) => {
          if (rewrites) request.url = rewritten(request);
          else if (request.headers['x-user']) request.user = { id: request.headers['x-user'] };
          next();
        });
        if (versioning) application.enableVersioning(versioning);
      },
    });

  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    client = new Redis(redis.url);
    log = new KeptLog();
    app = await start();
  });
  afterAll(async () => {
    await app.close();
    client.disconnect();
    await Promise.all([postgres.stop(), redis.stop()]);
  });
  beforeEach(() => {
    runs = [];
    revoked = false;
    pipes = 0;
    orders = new Set(['1']);
    key = randomUUID();
  });

  const post = (path: string, headers: Headers = {}, body: unknown = {}): Promise<Answer> =>
    app.call(path, { body, headers: { 'idempotency-key': key, ...headers } });

  /** Two callers with the same key and body: each runs its own, and each retry gets its own. */
  const keepsApart = async (path: string, one: Headers, other: Headers): Promise<void> => {
    const [first, second] = [await post(path, one), await post(path, other)];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.text).not.toBe(first.text);
    const retries = [await post(path, one), await post(path, other)];
    expect(retries.map((answer) => [isReplay(answer), answer.text])).toEqual([
      [true, first.text],
      [true, second.text],
    ]);
  };

  it('never gets the response of another user that a guard has named', async () => {
    await keepsApart('/leads/users', { authorization: 'Bearer ann.1' }, { authorization: 'Bearer bob.1' });
  });

  it('keeps its key when its token is renewed, where a guard has named it', async () => {
    const first = await post('/leads/users', { authorization: 'Bearer ann.1' });
    expect((await post('/leads/users', { authorization: 'Bearer ann.2' })).text).toBe(first.text);
  });

  it.each<[string, Headers, Headers]>([
    ['Bearer tokens', { authorization: 'Bearer abc.DEF-1_2~3' }, { authorization: 'Bearer abc.DEF-1_2~4' }],
    ['Basic credentials', { authorization: 'Basic YW5uOjE=' }, { authorization: 'Basic Ym9iOjE=' }],
    ['bare tokens', { authorization: 'token-1' }, { authorization: 'token-2' }],
    ['API keys', { 'x-api-key': 'one' }, { 'x-api-key': 'two' }],
    [
      'API keys behind one bearer',
      { authorization: 'Bearer x', 'api-key': '1' },
      { authorization: 'Bearer x', 'api-key': '2' },
    ],
    ['equal tokens in different headers', { 'x-api-key': 'one' }, { 'x-auth-token': 'one' }],
    ['sessions', { cookie: 'sid=one' }, { cookie: 'sid=two' }],
    ['a token and none', { authorization: 'Bearer one' }, {}],
    ['tokens with a bar', { authorization: 'Bearer 1|aaa' }, { authorization: 'Bearer 2|bbb' }],
    ['tokens that are addresses', { authorization: 'Bearer a@b' }, { authorization: 'Bearer b@b' }],
    ['tokens in braces', { authorization: 'Bearer {x}' }, { authorization: 'Bearer {y}' }],
    ['tokens with blanks', { authorization: 'Bearer a b' }, { authorization: 'Bearer a c' }],
    ['parameters of an unknown scheme', { authorization: 'Acme id="1"' }, { authorization: 'Acme id="2"' }],
    ['OAuth with a plain token', { authorization: 'OAuth 00D!1' }, { authorization: 'OAuth 00D!2' }],
    ['tokens bound by DPoP', { authorization: 'DPoP one' }, { authorization: 'DPoP two' }],
    ['apikey', { apikey: 'one' }, { apikey: 'two' }],
    ['tokens of a shop', { 'x-shopify-access-token': 'one' }, { 'x-shopify-access-token': 'two' }],
    ['users that a proxy names', { 'x-forwarded-user': 'ann' }, { 'x-forwarded-user': 'bob' }],
    ['headers that the option names', { 'x-acme-who': '1' }, { 'x-acme-who': '2' }],
    [
      'sessions behind an API key that all share',
      { 'x-api-key': 'site', cookie: 'sid=one' },
      { 'x-api-key': 'site', cookie: 'sid=two' },
    ],
    [
      'sessions behind a password that all share',
      { authorization: 'Basic c2l0ZTpzaXRl', cookie: 'sid=one' },
      { authorization: 'Basic c2l0ZTpzaXRl', cookie: 'sid=two' },
    ],
    [
      'API keys beside signatures',
      { authorization: 'AWS4-HMAC-SHA256 Credential=A, Signature=1', 'x-api-key': 'one' },
      { authorization: 'AWS4-HMAC-SHA256 Credential=B, Signature=2', 'x-api-key': 'two' },
    ],
  ])('is told from another by its credentials, where nothing names it: %s', async (_, one, other) => {
    await keepsApart('/leads/tokens', one, other);
  });

  it.each<[string, Headers]>([
    ['no credentials', {}],
    ['credentials, which may be those of a service that many users share', { authorization: 'Bearer one' }],
    ['a session', { cookie: 'sid=one' }],
  ])('is refused, and nothing runs, where its user has no id and there are %s', async (_, headers) => {
    const answer = await post('/leads/silent', headers);
    expect(answer.status).toBe(500);
    expect(runs).toEqual([]);
    expect(log.lines.at(-1)).toMatch(/request\.user.*set the `scope` option/s);
  });

  it('never gets the response of another user that middleware has named', async () => {
    await keepsApart('/leads/anyone', { 'x-user': 'ann' }, { 'x-user': 'bob' });
    await post('/leads/anyone', { 'x-user': 'ann' });
    const scope = httpScope('POST', '/leads/anyone', { user: { id: 'ann' } });
    expect(await app.service.find(key, { scope })).toMatchObject({ state: 'completed' });
  });

  describe('where URLs are rewritten', () => {
    let first: TestApp;
    beforeAll(async () => {
      first = app;
      app = await start({ rewrites: true });
    });
    afterAll(async () => {
      await app.close();
      app = first;
    });

    it('never gets the response of another tenant, where a header says to which path it is routed', async () => {
      await keepsApart('/pay', { 'x-shard': 'one' }, { 'x-shard': 'two' });
      const scope = httpScope('POST', '/tenants/one/pay');
      expect(await app.service.find(key, { scope })).toMatchObject({ state: 'completed' });
    });

    it.each<[string, string, Headers, string, Headers]>([
      ['in the query', '/leads/anyone', { 'x-query': 'a=1' }, '/leads/anyone', { 'x-query': 'a=2' }],
      ['in what is taken off the path', '/as/one/leads/anyone', {}, '/as/two/leads/anyone', {}],
    ])('never gets the response of another that differs only %s', async (_, path, one, otherPath, other) => {
      const answer = await post(path, one);
      expect(answer.status).toBe(201);
      expect((await post(otherPath, other)).status).toBe(422);
      expect((await post(path, one)).text).toBe(answer.text);
    });
  });

  it.each<[string, Headers, Headers]>([
    [
      'analytics, consent, load balancers and CSRF protection set cookies',
      { cookie: 'sid=one; _ga=1; AWSALB=x; XSRF-TOKEN=a' },
      { cookie: '_gid=2; OptanonConsent=yes; AWSALB=y; _csrf=b; sid=one' },
    ],
    ['its cookies come in another order', { cookie: 'sid=one; user=7' }, { cookie: 'user=7; sid=one' }],
    [
      'its CSRF token, proof or signature is a new one',
      { authorization: 'DPoP one', dpop: 'a', 'x-csrf-token': 'a', signature: 'a', 'stripe-signature': 'a' },
      { authorization: 'DPoP one', dpop: 'b', 'x-csrf-token': 'b', signature: 'b', 'stripe-signature': 'b' },
    ],
    [
      'it signs each request beside an API key',
      { authorization: 'HMAC ann:1', 'x-api-key': '1' },
      { authorization: 'HMAC ann:2', 'x-api-key': '1' },
    ],
    ['its key is in more than one header', {}, { 'x-idempotency-key': 'same' }],
  ])('keeps its key where %s', async (_, one, other) => {
    const own = 'x-idempotency-key' in other ? { 'x-idempotency-key': key } : other;
    const first = await post('/leads/tokens', one);
    expect(first.status).toBe(201);
    expect((await post('/leads/tokens', own)).text).toBe(first.text);
  });

  it.each([
    ['Digest', (n: number) => `Digest username="ann", nonce="${n}", response="${n}"`],
    ['AWS4-HMAC-SHA256', (n: number) => `AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=${n}abc`],
    ['HMAC', (n: number) => `HMAC ann:${n}`],
    ['Negotiate', (n: number) => `Negotiate YII${n}`],
    ['OAuth 1.0', (n: number) => `OAuth oauth_consumer_key="a", oauth_nonce="${n}"`],
  ])(
    'is refused where it signs each request anew and nothing else names it: %s',
    async (_, authorization) => {
      for (const n of [1, 2]) {
        expect((await post('/leads/tokens', { authorization: authorization(n) })).status).toBe(500);
        expect(log.lines.at(-1)).toMatch(/made anew for each request.*set the `scope` option/s);
      }
      expect(runs).toEqual([]);
    },
  );

  it('is warned about once, not per request, where only its credentials tell who it is', async () => {
    await post('/leads/tokens', { authorization: 'Bearer one' });
    await post('/leads/tokens', { authorization: 'Bearer two' });
    // From the first application: the others were sent no credentials.
    expect(log.lines.filter((line) => line.includes('Set the `scope` option'))).toHaveLength(1);
  });

  it('shares its key with the anonymous callers of a route if it is anonymous itself, and with none of another route', async () => {
    const first = await post('/leads/tokens');
    expect((await post('/leads/tokens')).text).toBe(first.text);
    expect((await post('/leads/anyone')).text).not.toBe(first.text);
  });

  it('is who the `scope` option says', async () => {
    await keepsApart('/leads/tenants', { 'x-tenant': 'one' }, { 'x-tenant': 'two' });
    const first = await post('/leads/tenants', { 'x-tenant': 'one', authorization: 'Bearer 1' });
    expect((await post('/leads/tenants', { 'x-tenant': 'one', authorization: 'Bearer 2' })).text).toBe(
      first.text,
    );
  });

  it('never gets the response of another host, where hosts are told apart', async () => {
    await keepsApart('/hosted', { host: 'ann.example.com' }, { host: 'bob.example.com' });
  });

  it.each<[string, string, Headers, string]>([
    [
      'a user',
      '/leads/users',
      { authorization: 'Bearer ann.1' },
      httpScope('POST', '/leads/users', { user: { sub: 'ann' } }),
    ],
    [
      'who the `scope` option says',
      '/leads/tenants',
      { 'x-tenant': 'one', authorization: 'Bearer 1' },
      httpScope('POST', '/leads/tenants', { scope: 'one' }),
    ],
    [
      'credentials',
      '/leads/tokens',
      { authorization: 'Bearer 1|a', cookie: 'sid=one; _ga=1', 'x-acme-who': '7', accept: '*/*' },
      httpScope('POST', '/leads/tokens', {
        credentials: {
          Cookie: '_ga=2; sid=one',
          Authorization: 'Bearer 1|a',
          'X-Acme-Who': '7',
          Accept: '*/*',
        },
        credentialHeaders: ['X-Acme-*'],
      }),
    ],
    ['nobody', '/leads/tokens', {}, httpScope('POST', '/leads/tokens')],
    [
      'a host',
      '/hosted?a=b',
      { host: 'ann.example.com:80' },
      httpScope('POST', '/hosted', { host: 'ann.example.com' }),
    ],
  ])('has its records where an operator looks for them: of %s', async (_, path, headers, scope) => {
    await post(path, headers);
    expect(await app.service.find(key, { scope })).toMatchObject({ state: 'completed' });
  });

  it('gets 401 once it is revoked, and not the recorded response', async () => {
    const authorization = 'Bearer ann.1';
    await post('/leads/users', { authorization });
    revoked = true;
    const answer = await post('/leads/users', { authorization });
    expect(answer.status).toBe(401);
    expect(isReplay(answer)).toBe(false);
  });

  it('gets its response again although what its pipes look for is gone: that is what the request has done', async () => {
    const first = await post('/leads/cancel/1');
    const retry = await post('/leads/cancel/1');
    expect(first.status).toBe(201);
    expect(isReplay(retry)).toBe(true);
    expect(retry.text).toBe(first.text);
    expect(pipes).toBe(1);
  });

  it('never gets cookies and authentication headers again, from either tier', async () => {
    const authorization = 'Bearer ann.1';
    const first = await post('/leads/secrets', { authorization });
    expect(JSON.stringify(first.rawHeaders)).toContain('secret');
    const fromRedis = await post('/leads/secrets', { authorization });
    await client.flushall();
    const fromPostgres = await post('/leads/secrets', { authorization });
    for (const retry of [fromRedis, fromPostgres]) {
      expect(isReplay(retry)).toBe(true);
      expect(retry.headers['x-kept']).toBe('kept');
      expect(JSON.stringify(retry.rawHeaders)).not.toContain('secret');
    }
  });

  it('leaves neither its key nor its body nor its credentials in a log or a metric', async () => {
    const secret = `secret-${randomUUID()}`;
    key = `${secret}-key`;
    const headers = { authorization: `Bearer ${secret}.token` };
    await post('/leads/users', headers, { body: secret });
    await post('/leads/users', headers, { body: secret });
    await post('/leads/users', headers, { other: secret });
    await post('/leads/failing', headers, { body: secret });
    await post('/leads/tokens', headers, { body: secret });
    await post('/leads/users', { ...headers, 'idempotency-key': `"${secret}` }, { body: secret });
    expect(log.lines.some((line) => line.includes('The handler failed'))).toBe(true);
    expect(log.lines.join('\n')).not.toContain(secret);
    expect(await register.metrics()).not.toContain(secret);
  });

  it('leaves its key in no log where Postgres refuses its row', async () => {
    const secret = `secret-${randomUUID()}`;
    const dataSource = app.app.get(DataSource);
    await dataSource.query(`ALTER TABLE idempotency_cache ADD CONSTRAINT refused CHECK (key <> '${secret}')`);
    try {
      const answer = await post('/leads/tokens', { 'idempotency-key': secret });
      expect(answer.status).toBe(500);
    } finally {
      await dataSource.query('ALTER TABLE idempotency_cache DROP CONSTRAINT refused');
    }
    expect(log.lines.join('\n')).toContain('violates check constraint');
    expect(log.lines.join('\n')).not.toContain(secret);
    expect(runs).toEqual([]);
  });

  it.each(VERSIONINGS)(
    'gets no version of a route for another, told apart by %s',
    async (_, versioning, asking) => {
      const versioned = await start({ versioning });
      try {
        const ask = (version: string): Promise<Answer> =>
          versioned.call('/versioned', {
            body: {},
            headers: { 'idempotency-key': key, ...asking(version) },
          });
        const first = await ask('1');
        expect(first.text).toContain('"version":1');
        expect((await ask('2')).text).toContain('"version":2');
        expect((await ask('1')).text).toBe(first.text);
        for (const version of ['1', '2']) {
          const scope = httpScope('POST', '/versioned', { version });
          expect(await versioned.service.find(key, { scope })).toMatchObject({ state: 'completed' });
        }
      } finally {
        await versioned.close();
      }
    },
  );
});
