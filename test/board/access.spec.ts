import {
  Catch,
  Injectable,
  Module,
  UnauthorizedException,
  ValidationPipe,
  VersioningType,
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
} from '@nestjs/common';
import { IdempotencyBoardModule, type BoardOptions } from 'nestjs-idempotency/board';
import { map, type Observable } from 'rxjs';
import { startApp, type Platform, type TestApp, type TestAppOptions } from '../support/app';
import { BoardVisitor } from '../support/board-visitor';
import { call } from '../support/http';
import { KeptLog } from '../support/log';

/** Who asks is said by a header, which only the guard of this test believes. */
@Injectable()
class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: unknown }>();
    request.user = { id: 7, role: request.headers['x-role'] };
    return true;
  }
}
const FULL = { 'x-role': 'full' };
const byRole: BoardOptions['access'] = (context) => {
  const { user } = context.switchToHttp().getRequest<{ user: { role?: 'full' | 'read' } }>();
  return user.role ?? false;
};

@Module({})
class Roles {}
@Module({})
class Root {}

/** As applications have them for their API. */
class Wrapping implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: unknown) => ({ data })));
  }
}
@Catch()
class AsJson implements ExceptionFilter {
  catch(error: { getStatus?: () => number }, host: ArgumentsHost): void {
    const response = host
      .switchToHttp()
      .getResponse<{ status(code: number): { send(body: object): void } }>();
    response.status(error.getStatus?.() ?? 500).send({ filtered: true });
  }
}
function asStrictApi(app: INestApplication): void {
  app.setGlobalPrefix('api');
  app.enableVersioning({ type: VersioningType.URI, defaultVersion: '1' });
  app.enableCors({ origin: true, credentials: true });
  app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }));
  app.useGlobalInterceptors(new Wrapping());
  app.useGlobalFilters(new AsJson());
  app.use((_: unknown, response: { setHeader(name: string, value: string): void }, next: () => void) => {
    // As helmet does.
    response.setHeader('Content-Security-Policy', "default-src 'self'; script-src 'unsafe-inline'");
    response.setHeader('X-Frame-Options', 'SAMEORIGIN');
    response.setHeader('Referrer-Policy', 'no-referrer');
    next();
  });
}

describe.each<Platform>(['express', 'fastify'])('who may reach the board on %s', (platform) => {
  const apps: TestApp[] = [];
  const log = new KeptLog();
  afterAll(() => Promise.all(apps.map((app) => app.close())));

  const start = async (options: Partial<BoardOptions>, more: TestAppOptions = {}): Promise<TestApp> => {
    const board = IdempotencyBoardModule.forRoot({ access: byRole, guards: [UserGuard], ...options });
    const app = await startApp({
      platform,
      inMemory: true,
      imports: [board],
      settings: { logger: log },
      ...more,
    });
    apps.push(app);
    return app;
  };

  describe('an application of a strict API', () => {
    let app: TestApp;
    let url: string;
    beforeAll(async () => {
      app = await start({}, { configure: asStrictApi, options: { required: true } });
      url = `${app.url}/api/idempotency`;
    });

    it('gets pages as they are, which allow no script and no frame', async () => {
      const slash = platform === 'express' ? ['/'] : []; // Fastify's router takes it for another path
      for (const at of ['', ...slash, '?view=overview', '?no=such&view=overview']) {
        const answer = await call(url + at, { method: 'GET', headers: FULL });
        expect(answer).toMatchObject({
          status: 200,
          headers: {
            'content-type': 'text/html; charset=utf-8',
            'cache-control': 'no-store',
            'referrer-policy': 'same-origin',
            'x-frame-options': 'DENY',
            'x-content-type-options': 'nosniff',
          },
        });
        expect(answer.text).toMatch(/^<!doctype html>.*<\/html>\n$/s);
        expect(answer.headers['content-security-policy']).toMatch(
          /^default-src 'none'; style-src 'sha256-[^']+'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$/,
        );
        const [cookie] = answer.headers['set-cookie'] ?? [];
        expect(cookie).toMatch(/^idempotency-board=[\w-]{43}; HttpOnly; SameSite=Lax$/);
      }
      const encrypted = await call(url, {
        method: 'GET',
        headers: { ...FULL, 'x-forwarded-proto': 'https' },
      });
      expect(encrypted.headers['set-cookie']?.[0]).toMatch(/; Secure$/);
    });

    it.each(['GET', 'HEAD', 'POST', 'PUT', 'OPTIONS'])(
      'gives nothing away to %s without access',
      async (method) => {
        for (const at of ['', '/', '//', '?view=records', '/%2e', '/../idempotency', '#', '%00', ';a=b'])
          for (const path of ['idempotency', '%69dempotency', 'IDEMPOTENCY', 'x/../idempotency']) {
            const answer = await call(`${app.url}/api/${path}${at}`, { method });
            expect([204, 400, 403, 404, 405]).toContain(answer.status);
            expect(answer.text).not.toContain('<html');
            expect(answer.headers['set-cookie']).toBeUndefined();
          }
      },
    );

    it('takes a form of its own page only', async () => {
      const visitor = new BoardVisitor(url, FULL);
      const token = /=([\w-]{43});/.exec((await visitor.get()).headers['set-cookie']![0]!)![1]!;
      const form = { token, action: 'forget', reason: 'x' };
      const post = async (
        more: Record<string, string>,
        fields: Record<string, string> = form,
      ): Promise<number> => (await visitor.post('?view=record&hash=x', fields, more)).status;
      // What follows the checks: there is no table to change.
      const passed = 400;
      const { host, origin } = new URL(url);
      expect(await post({})).toBe(passed);
      expect(await post({ origin: '', 'sec-fetch-site': 'same-origin' })).toBe(passed);
      expect(
        await post({ origin: 'https://ops.example.com', 'x-forwarded-host': 'ops.example.com, inner' }),
      ).toBe(passed);
      const foreign: Record<string, string>[] = [
        { origin: 'https://evil.example.com' },
        { origin: 'null' },
        { origin: '' },
        { origin: `${origin}.evil.example.com` },
        { origin: `https://evil.example.com/${host}` },
        { 'sec-fetch-site': 'cross-site' },
        { 'sec-fetch-site': 'same-site' },
        { 'sec-fetch-site': 'none' },
        { cookie: '' },
        { cookie: 'idempotency-board=' },
        { cookie: `idempotency-board=${'x'.repeat(43)}` },
      ];
      for (const headers of foreign) expect(await post(headers)).toBe(403);
      for (const fields of [
        { ...form, token: '' },
        { action: 'forget', reason: 'x' },
        { ...form, token: `${token}x` },
      ])
        expect(await post({}, fields as typeof form)).toBe(403);
      for (const type of ['application/json', 'text/plain', 'multipart/form-data; boundary=x'])
        expect([400, 415]).toContain(await post({ 'content-type': type }));
      expect(await post({}, { ...form, reason: 'x'.repeat(2_000_000) })).toBe(413);
      expect(await post({}, { ...form, action: 'purge' })).toBe(400);
      expect(await post({}, { token, 'action[]': 'forget', 'reason[a]': 'x' })).toBe(400);
    });

    it('keeps what it shows from scripts of other sites, which CORS would let read it', async () => {
      const origin = 'https://evil.example.com';
      const get = async (headers: Record<string, string>): Promise<number> =>
        (await call(url, { method: 'GET', headers: { ...FULL, ...headers } })).status;
      expect(await get({ origin })).toBe(403);
      expect(await get({ origin, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' })).toBe(403);
      expect(await get({ 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' })).toBe(403);
      expect(await get({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' })).toBe(200);
      expect(await get({ 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' })).toBe(200);
    });
  });

  describe('a page of another name that leads to this machine', () => {
    const rebound = 'evil.example.com';
    const statuses = async (url: string, headers: Record<string, string>): Promise<number[]> => {
      const sent = { ...FULL, ...headers };
      const read = await call(url, { method: 'GET', headers: sent });
      const cookie = `idempotency-board=${'x'.repeat(43)}`;
      const type = 'application/x-www-form-urlencoded';
      const changed = await call(url, {
        headers: { ...sent, cookie, 'content-type': type },
        body: `token=${'x'.repeat(43)}&action=none`,
      });
      return [read.status, changed.status];
    };
    // What follows the checks: there is no such action.
    const passed = [200, 400];
    const refused = [403, 403];

    it('gets nothing and changes nothing over loopback, whatever headers its scripts can set', async () => {
      const url = `${(await start({})).url}/idempotency`;
      const { port } = new URL(url);
      for (const host of [
        rebound,
        `${rebound}:${port}`,
        'localhost.example.com',
        '127.0.0.1.example.com',
        '10.0.0.1',
      ])
        for (const more of [
          {},
          { 'x-forwarded-host': '127.0.0.1', 'x-forwarded-for': '127.0.0.1' },
        ] as Record<string, string>[])
          expect(await statuses(url, { host, origin: `http://${host}`, ...more })).toEqual(refused);
      for (const host of [
        'localhost',
        `localhost:${port}`,
        'app.localhost',
        `127.0.0.1:${port}`,
        `[::1]:${port}`,
      ])
        expect(await statuses(url, { host, origin: `http://${host}` })).toEqual(passed);
    });

    it('is told from a proxy before the board by what browsers send over HTTPS alone', async () => {
      const url = `${(await start({})).url}/idempotency`;
      const host = 'ops.example.com';
      const headers = { host, origin: `https://${host}`, 'sec-fetch-site': 'same-origin' };
      expect(await statuses(url, headers)).toEqual(passed);
    });

    it('gets nothing where `hosts` names those of the board', async () => {
      const url = `${(await start({ hosts: ['Ops.example.com', 'inner:8080'] })).url}/idempotency`;
      for (const host of ['ops.example.com', 'OPS.example.com:3000', 'inner:8080'])
        expect(await statuses(url, { host, origin: `http://${host}` })).toEqual(passed);
      for (const host of [rebound, 'localhost', 'inner', 'inner:80', `${rebound}/ops.example.com`])
        expect(
          await statuses(url, { host, origin: `http://${host}`, 'x-forwarded-host': 'ops.example.com' }),
        ).toEqual(refused);
      const browser = { host: rebound, origin: `http://${rebound}`, 'sec-fetch-site': 'same-origin' };
      expect(await statuses(url, browser)).toEqual(refused);
    });
  });

  it('denies what `access` does not say in so many words', async () => {
    let access: () => unknown = () => false;
    const { url } = await start({ access: () => access() as 'read' });
    const status = async (): Promise<number> => (await call(`${url}/idempotency`, { method: 'GET' })).status;
    const answers: unknown[] = [
      undefined,
      null,
      true,
      1,
      '',
      'FULL',
      'full ',
      ['full'],
      {},
      { access: 'full' },
      new String('full'),
      () => 'full',
    ];
    for (const answer of answers) {
      access = () => answer;
      expect(await status()).toBe(403);
      access = async () => answer;
      expect(await status()).toBe(403);
    }
    log.lines.length = 0;
    access = () => {
      throw new Error('the directory of users is down');
    };
    expect(await status()).toBe(403);
    expect(log.lines.join()).toMatch(/`access` of the board failed.*the directory of users is down/s);
    access = () => Promise.reject(new UnauthorizedException());
    expect(await status()).toBe(401);
    access = async () => 'read';
    expect(await status()).toBe(200);
  });

  it('takes its options from a factory, its path below a prefix, and forms that no one has parsed', async () => {
    const TOKEN = Symbol('role');
    const imports = [{ module: Roles, providers: [{ provide: TOKEN, useValue: 'full' }], exports: [TOKEN] }];
    const board = IdempotencyBoardModule.forRootAsync({
      path: 'ops/keys/',
      imports,
      inject: [TOKEN],
      useFactory: (role: 'full') => ({ access: () => role }),
    });
    const { url } = await start({}, { imports: [board], settings: { logger: log, bodyParser: false } });
    const visitor = new BoardVisitor(`${url}/ops/keys`);
    const { headers } = await visitor.get();
    const token = /=([\w-]{43});/.exec(headers['set-cookie']![0]!)![1]!;
    const { status } = await visitor.post('?view=record', { token, action: 'purge' });
    expect(status).toBe(platform === 'express' ? 400 : 415);
    expect(log.lines.join().includes('Fastify parses no forms')).toBe(platform === 'fastify');
    expect((await call(`${url}/idempotency`, { method: 'GET' })).status).toBe(404);
  });
});

describe('a board that is set up wrongly', () => {
  const forRoot = (options: object) => () => IdempotencyBoardModule.forRoot(options as BoardOptions);

  it('says what is wrong, before anything is served', () => {
    expect(forRoot({})).toThrow(
      /IdempotencyBoardModule\.forRoot: option "access" is undefined, but must be a function/,
    );
    expect(forRoot({ access: 'full' })).toThrow(/"access" is 'full', but must be a function/);
    expect(forRoot({ access: byRole, acess: byRole })).toThrow(/"acess" is unknown.*access/);
    for (const hosts of ['ops.example.com', [], [''], ['http://ops.example.com'], ['ops.example.com/'], [7]])
      expect(forRoot({ access: byRole, hosts })).toThrow(/option "hosts.*must be a list of hosts/);
    for (const path of ['', '/', '/:id', '/a*', '/a?b', '/a b'])
      expect(forRoot({ access: byRole, path })).toThrow(/"path" is .* but must be a path without parameters/);
    expect(() => IdempotencyBoardModule.forRootAsync({} as never)).toThrow(/"useFactory"/);
  });

  it('does not start where a factory forgets `access`, or without IdempotencyModule', async () => {
    const forgetful = IdempotencyBoardModule.forRootAsync({ useFactory: () => ({}) as BoardOptions });
    await expect(startApp({ inMemory: true, imports: [forgetful] })).rejects.toThrow(
      /IdempotencyBoardModule\.forRootAsync: option "access"/,
    );
    const { NestFactory } = await import('@nestjs/core');
    const alone = IdempotencyBoardModule.forRoot({ access: byRole });
    await expect(
      NestFactory.createApplicationContext(
        { module: Root, imports: [alone] },
        { logger: false, abortOnError: false },
      ),
    ).rejects.toThrow(/Import IdempotencyModule\.forRoot\(\)/);
  });
});
