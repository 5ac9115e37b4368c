import { randomUUID } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import {
  Body,
  Controller,
  Post,
  Put,
  Req,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { FastifyInstance } from 'fastify';
import fc from 'fast-check';
import Redis from 'ioredis';
import { register } from 'prom-client';
import type { DataSource } from 'typeorm';
import { httpScope, Idempotent, IdempotencyClaim, type IdempotencyContext } from '../../lib';
import type { RunningPostgres, RunningRedis } from '../../servers';
import type { Platform, TestApp } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { migrated } from '../support/database';
import { changed, json, reordered, runs, sameValue, text } from '../support/arbitraries';
import { KeptLog } from '../support/log';
import { sent, RawClient, type RawAnswer, type RawRequest } from '../support/raw-client';
import { IS_RECORD } from '../support/stored';

/** Stands in every key, body, header and user that the tests send, and must be found in no log and no metric. */
const MARK = 'sEcReT';

interface Run {
  readonly method: string;
  readonly url: string;
  readonly user: string;
  readonly key: string | undefined;
  readonly body: unknown;
}

/** What each run of a handler saw, by the nonce that it answered with: nothing here goes through the module. */
const ran = new Map<string, Run>();

interface AnyRequest {
  readonly method: string;
  readonly url: string;
  readonly originalUrl: string;
  readonly headers: Record<string, string | undefined>;
  readonly rawBody?: Buffer;
  user?: { readonly id: unknown };
}

/** JSON in base64, so that a header can carry any text. */
const packed = (value: string): string => Buffer.from(JSON.stringify(value)).toString('base64');

class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<AnyRequest>();
    const user = request.headers['x-user'];
    if (user) request.user = { id: JSON.parse(Buffer.from(user, 'base64').toString()) as unknown };
    return true;
  }
}

@Controller()
class RequestsController {
  @Post(['a', 'b', 'c/:any'])
  @Idempotent({ required: true })
  post(@Req() request: AnyRequest, @Body() body: unknown, @IdempotencyClaim() claim?: IdempotencyContext) {
    const nonce = randomUUID();
    const { method, originalUrl: url, user } = request;
    ran.set(nonce, { method, url, user: String(user?.id), key: claim?.key, body });
    return { nonce };
  }

  @Put('a')
  @Idempotent({ required: true })
  put(@Req() request: AnyRequest, @Body() body: unknown, @IdempotencyClaim() claim?: IdempotencyContext) {
    return this.post(request, body, claim);
  }

  @Post('bytes')
  @Idempotent({
    required: true,
    fingerprint: (context) => {
      const request = context.switchToHttp().getRequest<AnyRequest>();
      return request.url + (request.rawBody?.toString('latin1') ?? '');
    },
  })
  bytes(@Req() request: AnyRequest, @Body() body: unknown, @IdempotencyClaim() claim?: IdempotencyContext) {
    return this.post(request, body, claim);
  }
}

/** The target in the spelling that its key belongs to. */
function plain(target: string): string {
  return target.replace('%61', 'a');
}

/** The run that an answer speaks of. */
function runOf(answer: RawAnswer): Run {
  const { nonce } = JSON.parse(answer.text) as { nonce: string };
  const run = ran.get(nonce);
  if (!run) throw new Error(`no handler has answered with ${nonce}`);
  return run;
}

const JSON_TYPE = ['Content-Type', 'application/json'] as const;
const FORM_TYPE = ['Content-Type', 'application/x-www-form-urlencoded'] as const;

/** More than the parsers of either platform take unless they are told to. */
const MEGABYTE: Partial<RawRequest> = { body: `["${'x'.repeat(1_100_000)}"]`, headers: [JSON_TYPE] };
const BODY_LIMIT = 2_000_000;

interface Sent {
  readonly method: 'POST' | 'PUT';
  readonly target: string;
  readonly user: string;
  /** As it stands in the header. */
  readonly key: string;
  readonly body: string;
}

describe.each<Platform>(['express', 'fastify'])('requests on %s', (platform) => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let dataSource: DataSource;
  let app: TestApp;
  const log = new KeptLog();

  const servers = appOnServers({
    platform,
    controllers: [RequestsController],
    providers: [{ provide: APP_GUARD, useClass: UserGuard }],
    settings: { rawBody: true },
    fastify: { bodyLimit: BODY_LIMIT },
    configure: (nest) => {
      nest.useLogger(log);
      if (platform === 'fastify') acceptBytes(nest);
      else (nest as NestExpressApplication).useBodyParser('json', { limit: BODY_LIMIT });
    },
  });
  beforeAll(async () => {
    ({ app, postgres, redis } = servers);
    dataSource = await migrated(postgres.url);
  });
  afterAll(() => dataSource.destroy());

  const ask = (request: RawRequest, key: string = freshKey()): Promise<RawAnswer> =>
    RawClient.ask(app.url, {
      ...request,
      headers: [...(request.headers ?? []), ['Idempotency-Key', key], ['X-Note', MARK]],
    });
  const freshKey = (): string => `${MARK}-${randomUUID()}`;
  const post = (body: string | Uint8Array, key: string, more: Partial<RawRequest> = {}) =>
    ask({ target: '/a', headers: [JSON_TYPE], body, ...more }, key);

  it('reach the record of their own method, path, user and key, and of no other', async () => {
    const target = fc.constantFrom(
      '/a',
      '/b',
      '/a?x=1',
      '/c/a',
      '/c/%61',
      '/c/%00',
      '/c/a%2fb',
      '/c/..%2fa',
      '/c/a%20b',
    );
    const key = fc.oneof(
      fc.constantFrom(
        'k',
        '"k"',
        'K',
        '"k l"',
        'k l',
        '"k\\"l"',
        '__proto__',
        'constructor',
        '0',
        '?1',
        ';',
        '"k";a=1',
      ),
      fc.string({ unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)) }).map(
        (any) => any.replace(/[\r\n]/g, ''), // those end the header, and what follows is another one
      ),
    );
    const user = fc.oneof(
      fc.constantFrom('u', 'u v', 'u /a', 'credentials:u', '\ud800', '\udfff', '\ufffd', 'u\0', 'u\n'),
      text,
    );
    const body = fc.constantFrom(`["${MARK}"]`, `["${MARK}",1]`, `{"a":"${MARK}"}`);
    // Few of each, so that most requests of a round meet another one in all parts but one.
    const few = fc.record({
      targets: target.map((each) => [each, each, `${each}?x=1`, '/a']),
      users: fc.tuple(user, user),
      keys: fc.tuple(key, key),
      picks: fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), body), { minLength: 2, maxLength: 10 }),
    });
    const rounds = few.map(({ targets, users, keys, picks }): Sent[] =>
      picks.map(([where, who, which, written]) => ({
        method: where % 5 === 0 ? 'PUT' : 'POST',
        target: targets[where % 4]!,
        user: users[who % 2]!,
        key: keys[which % 2]!,
        body: written,
      })),
    );
    await fc.assert(
      fc.asyncProperty(rounds, async (requests) => {
        const round = randomUUID(); // part of every user: the records of other rounds are out of reach
        const first = new Map<string, { body: string; target: string; nonce: string }>();
        for (const each of requests) {
          const name = each.user + round;
          const answer = await ask({ ...each, headers: [JSON_TYPE, ['X-User', packed(name)]] }, each.key);
          if (answer.status === 201 || answer.status === 200) {
            const run = runOf(answer);
            // By the key that the handler was told, as several headers may spell one key.
            const target = plain(each.target);
            const id = JSON.stringify([each.method, target.split('?')[0], name, run.key]);
            const standing = first.get(id);
            const { nonce } = JSON.parse(answer.text) as { nonce: string };
            if (!standing) first.set(id, { body: each.body, target, nonce });
            expect(run).toMatchObject({ method: each.method, user: name });
            expect(plain(run.url)).toBe(target);
            expect(run.body).toEqual(JSON.parse(each.body));
            expect([answer.replayed, nonce]).toEqual([standing !== undefined, standing?.nonce ?? nonce]);
          } else {
            expect([400, 404, 422]).toContain(answer.status);
          }
          if (answer.status === 422) {
            const mine = [...first].filter(([id]) => {
              const [method, path, whose] = JSON.parse(id) as string[];
              return method === each.method && path === plain(each.target).split('?')[0] && whose === name;
            });
            expect(mine.some(([, was]) => was.body !== each.body || was.target !== plain(each.target))).toBe(
              true,
            );
          }
        }
      }),
      runs(40),
    );
  });

  describe('with JSON', () => {
    // Fastify refuses what could poison a prototype, before anything of ours is asked.
    const parsed = platform === 'express' ? json : json.filter((value) => !poisons(value));

    it('are replayed however their value is written, and are 422 if anywhere it differs', async () => {
      await fc.assert(
        fc.asyncProperty(
          parsed,
          fc.nat(),
          parsed,
          fc.integer({ min: 1, max: 9 }),
          async (value, pick, to, chunked) => {
            const key = freshKey();
            const body = [MARK, value];
            const written = JSON.stringify(body);
            const first = await post(written, key);
            expect(first.status).toBe(201);
            expect(sameValue(runOf(first).body, JSON.parse(written))).toBe(true);

            const escaped = JSON.stringify(reordered(body), null, 2).replace(
              /[\u0080-\uffff]/g,
              (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
            );
            for (const again of [
              post(written, key),
              post(escaped, key),
              post(`\ufeff${written}`, key),
              post(written, key, { chunked }),
              post(written, key, { headers: [['Content-Type', 'application/json; charset=UTF-8']] }),
            ]) {
              expect(sent(await again)).toEqual(sent(first));
            }
            const other = changed(body, pick, to);
            const differs = !sameValue(JSON.parse(JSON.stringify(other)), JSON.parse(written));
            // Express' parser takes objects and arrays only.
            if (platform === 'express' && (typeof other !== 'object' || other === null)) return;
            expect((await post(JSON.stringify(other), key)).status).toBe(differs ? 422 : 201);
          },
        ),
        runs(20),
      );
    });
  });

  /** Bodies that broke parsers before, with what they come as. */
  const bodies: [string, Partial<RawRequest>][] = [
    ['none at all', {}],
    ['none, but a type', { headers: [JSON_TYPE] }],
    ['an empty one', { body: '' }],
    ['an empty one of JSON', { body: '', headers: [JSON_TYPE] }],
    ['an empty form', { body: '', headers: [FORM_TYPE] }],
    ['1 MB of JSON', MEGABYTE],
    ['90 kB of JSON', { body: `["${'x'.repeat(90_000)}"]`, headers: [JSON_TYPE] }],
    ['NUL as JSON', { body: '\0\0\0', headers: [JSON_TYPE] }],
    ['NUL within JSON', { body: '["a\0b"]', headers: [JSON_TYPE] }],
    ['an escaped NUL', { body: '["a\\u0000b"]', headers: [JSON_TYPE] }],
    [
      'overlong UTF-8',
      { body: Buffer.from([0x5b, 0x22, 0xc0, 0xaf, 0xe0, 0x80, 0xaf, 0x22, 0x5d]), headers: [JSON_TYPE] },
    ],
    [
      'a lone surrogate in UTF-8',
      { body: Buffer.from([0x5b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x5d]), headers: [JSON_TYPE] },
    ],
    ['a lone surrogate as an escape', { body: '["\\ud800"]', headers: [JSON_TYPE] }],
    ['its fellow', { body: '["\\udfff"]', headers: [JSON_TYPE] }],
    ['a replacement character', { body: '["\ufffd"]', headers: [JSON_TYPE] }],
    ['a text of JSON that is a lone surrogate', { body: '"\\ud800"', headers: [JSON_TYPE] }],
    ['a text of JSON that is its fellow', { body: '"\\udfff"', headers: [JSON_TYPE] }],
    ['é', { body: '["\u00e9"]', headers: [JSON_TYPE] }],
    ['e and an accent', { body: '["e\u0301"]', headers: [JSON_TYPE] }],
    ['a polluting property', { body: '{"__proto__":{"polluted":true}}', headers: [JSON_TYPE] }],
    [
      'a polluting constructor',
      { body: '{"constructor":{"prototype":{"polluted":true}}}', headers: [JSON_TYPE] },
    ],
    ['an empty object', { body: '{}', headers: [JSON_TYPE] }],
    ['an empty array', { body: '[]', headers: [JSON_TYPE] }],
    ['null', { body: 'null', headers: [JSON_TYPE] }],
    ['methods as properties', { body: '{"toJSON":1,"hasOwnProperty":2,"length":-1}', headers: [JSON_TYPE] }],
    ['a name twice', { body: '{"a":1,"a":2}', headers: [JSON_TYPE] }],
    ['the last of them', { body: '{"a":2}', headers: [JSON_TYPE] }],
    ['the first of them', { body: '{"a":1}', headers: [JSON_TYPE] }],
    ['1.0', { body: '{"a":1.0}', headers: [JSON_TYPE] }],
    ['a text of 1', { body: '{"a":"1"}', headers: [JSON_TYPE] }],
    ['a null property', { body: '{"a":null}', headers: [JSON_TYPE] }],
    ['-0', { body: '[-0]', headers: [JSON_TYPE] }],
    ['0', { body: '[0]', headers: [JSON_TYPE] }],
    ['1e400', { body: '[1e400]', headers: [JSON_TYPE] }],
    ['-1e400', { body: '[-1e400]', headers: [JSON_TYPE] }],
    ['[null]', { body: '[null]', headers: [JSON_TYPE] }],
    ['2^53', { body: '[9007199254740992]', headers: [JSON_TYPE] }],
    ['2^53 + 1', { body: '[9007199254740993]', headers: [JSON_TYPE] }],
    ['NaN', { body: '[NaN]', headers: [JSON_TYPE] }],
    ['half of JSON', { body: `{"${MARK}": "${MARK}`, headers: [JSON_TYPE] }],
    ['400 levels', { body: '['.repeat(400) + ']'.repeat(400), headers: [JSON_TYPE] }],
    ['40,000 levels', { body: '['.repeat(40_000) + ']'.repeat(40_000), headers: [JSON_TYPE] }],
    [
      'a charset that JSON has not',
      { body: '["a"]', headers: [['Content-Type', 'application/json; charset=iso-8859-1']] },
    ],
    [
      'UTF-16',
      {
        body: Buffer.from('\ufeff["a"]', 'utf16le'),
        headers: [['Content-Type', 'application/json; charset=utf-16']],
      },
    ],
    ['a type that is none', { body: '["a"]', headers: [['Content-Type', ';;;=']] }],
    ['two types', { body: '["a"]', headers: [JSON_TYPE, FORM_TYPE] }],
    ['gzip', { body: gzipSync('["a"]'), headers: [JSON_TYPE, ['Content-Encoding', 'gzip']] }],
    ['no gzip', { body: '["a"]', headers: [JSON_TYPE, ['Content-Encoding', 'gzip']] }],
    [
      'half of gzip',
      { body: gzipSync('["a"]').subarray(0, 15), headers: [JSON_TYPE, ['Content-Encoding', 'gzip']] },
    ],
    [
      'a bomb',
      { body: gzipSync(Buffer.alloc(50_000_000, ' ')), headers: [JSON_TYPE, ['Content-Encoding', 'gzip']] },
    ],
    ['a form', { body: 'a=1&b=2', headers: [FORM_TYPE] }],
    ['the same form', { body: 'b=2&a=1', headers: [FORM_TYPE] }],
    ['a form with a list', { body: 'a[]=1&a[]=2&b=', headers: [FORM_TYPE] }],
    ['a form with a name twice', { body: 'a=1&a=2&b=', headers: [FORM_TYPE] }],
    ['a form with an index', { body: 'a[0]=1&a[999999999]=2', headers: [FORM_TYPE] }],
    ['a form that nests', { body: `a${'[x]'.repeat(500)}=1`, headers: [FORM_TYPE] }],
    [
      'a form that pollutes',
      { body: '__proto__[polluted]=1&constructor[prototype][polluted]=1', headers: [FORM_TYPE] },
    ],
    [
      'a form with methods',
      { body: 'toJSON=1&hasOwnProperty=1&toString=1&a[length]=9', headers: [FORM_TYPE] },
    ],
    [
      'a form of many names',
      { body: Array.from({ length: 5_000 }, (_, i) => `a${i}=`).join('&'), headers: [FORM_TYPE] },
    ],
    ['a form that is no UTF-8', { body: 'a=%ff%00%ed%a0%80&%=%', headers: [FORM_TYPE] }],
    ['text', { body: `${MARK} a`, headers: [['Content-Type', 'text/plain']] }],
    ['another text', { body: `${MARK} b`, headers: [['Content-Type', 'text/plain']] }],
    ['bytes', { body: Buffer.from([0, 255, 254]), headers: [['Content-Type', 'application/octet-stream']] }],
    [
      'other bytes',
      { body: Buffer.from([0, 255, 253]), headers: [['Content-Type', 'application/octet-stream']] },
    ],
    [
      'a multipart',
      {
        body: '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
        headers: [['Content-Type', 'multipart/form-data; boundary=x']],
      },
    ],
    ['a multipart without a boundary', { body: '--x', headers: [['Content-Type', 'multipart/form-data']] }],
  ];

  it.each(bodies)('get one answer, however often they come, with this body: %s', async (_, body) => {
    const key = freshKey();
    const before = ran.size;
    const [first, second] = [
      await ask({ target: '/b', ...body }, key),
      await ask({ target: '/b', ...body }, key),
    ];
    expect(sent(second)).toEqual(sent(first));
    if (first.status === 201) {
      expect([first.replayed, second.replayed, ran.size - before]).toEqual([false, true, 1]);
    } else {
      expect([400, 413, 415]).toContain(first.status);
      expect(ran.size).toBe(before);
    }
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it('run once and are replayed with a body of 1 MB, where the parser takes it', async () => {
    const key = freshKey();
    const first = await ask({ target: '/b', ...MEGABYTE }, key);
    expect([first.status, first.replayed]).toEqual([201, false]);
    expect(JSON.stringify(runOf(first).body)).toBe(MEGABYTE.body);
    const second = await ask({ target: '/b', ...MEGABYTE }, key);
    expect([second.status, second.replayed]).toEqual([201, true]);
    expect(sent(second)).toEqual(sent(first));
  });

  it('are replayed for each other if and only if the same fields were sent, or a handler would see the same body', async () => {
    const accepted: { name: string; body: Partial<RawRequest>; key: string; saw: unknown }[] = [];
    for (const [name, body] of bodies) {
      const key = freshKey();
      const answer = await ask({ target: '/b', ...body }, key);
      if (answer.status === 201) accepted.push({ name, body, key, saw: runOf(answer).body });
    }
    expect(accepted.length).toBeGreaterThan(30);
    type Accepted = (typeof accepted)[0];
    const pairs = fc.tuple(fc.constantFrom(...accepted), fc.constantFrom(...accepted));
    const isNone = ({ body, saw }: Accepted): boolean => !body.body?.length || saw === undefined;
    /** The bytes of a form are kept: what a parser makes of them says less. */
    const fieldsOf = ({ body }: Accepted): string | undefined =>
      body.headers?.[0] === FORM_TYPE ? String(body.body).split('&').sort().join('&') : undefined;
    const isRounded = ({ name }: Accepted): boolean => name === '2^53 + 1';
    const isSame = (a: Accepted, b: Accepted): boolean => {
      if (isRounded(a) || isRounded(b)) return a === b;
      if (isNone(a) || isNone(b)) return isNone(a) && isNone(b);
      if (fieldsOf(a) ?? fieldsOf(b)) return fieldsOf(a) === fieldsOf(b);
      return sameValue(a.saw, b.saw);
    };
    const alike = accepted.flatMap((a) =>
      accepted
        .filter((b) => a !== b && (isSame(a, b) || sameValue(a.saw, b.saw)))
        .map((b) => [a, b] as const),
    );
    expect(alike.map(([a, b]) => `${a.name} = ${b.name}`)).toContain('2^53 = 2^53 + 1');
    const check = async ([a, b]: readonly [Accepted, Accepted]): Promise<void> => {
      const answer = await ask({ target: '/b', ...b.body }, a.key);
      expect([a.name, b.name, answer.status]).toEqual([a.name, b.name, isSame(a, b) ? 201 : 422]);
    };
    for (const pair of alike) await check(pair);
    await fc.assert(fc.asyncProperty(pairs, check), runs(150));
  });

  it('differ by numbers beyond 2^53, as the bytes are kept, and also where the `fingerprint` is over these', async () => {
    const with53 = (last: number, to: string, key: string) =>
      post(`{"id":900719925474099${last}}`, key, { target: to });
    for (const to of ['/a', '/bytes']) {
      const key = freshKey();
      expect((await with53(2, to, key)).status).toBe(201);
      expect((await with53(2, to, key)).replayed).toBe(true);
      expect((await with53(3, to, key)).status).toBe(422);
    }
  });

  describe('leave nothing behind', () => {
    it('in Redis but keys of the prefix with a hash, and two marks', async () => {
      const client = new Redis(redis.url);
      const keys = await client.keys('*');
      await client.quit();
      expect(keys.length).toBeGreaterThan(50);
      expect(
        keys.filter((key) => !/^idempotency:(mark:[0-9a-f]{64}|[0-9a-f]{16}:(mark|[0-9a-f]{64}))$/.test(key)),
      ).toEqual([]);
    });

    it('in Postgres but one row for each run of a handler, in the one table', async () => {
      const tables = await dataSource.query<{ tablename: string }[]>(
        `SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1`,
      );
      expect(tables.map(({ tablename }) => tablename)).toEqual(['idempotency_cache', 'migrations']);
      const rows = await dataSource.query<{ scope: string; key: string; state: string }[]>(
        `SELECT scope, key, state FROM idempotency_cache WHERE ${IS_RECORD}`,
      );
      const stored = (name: string): string => name.replaceAll('\0', '\ufffd').toWellFormed();
      const wanted = [...ran.values()].map(({ method, url, user, key }) => {
        const whose = user === 'undefined' ? {} : { user: { id: user } };
        return stored(`${httpScope(method, url.split('?')[0]!, whose)} | ${key}`);
      });
      expect(rows.map(({ scope, key }) => `${scope} | ${key}`).sort()).toEqual(wanted.sort());
      expect(rows.every(({ state }) => state === 'completed')).toBe(true);
      ran.clear();
    });

    it('in the logs and the metrics: no key, no body, no user, no header', async () => {
      expect(log.lines.filter((line) => line.toLowerCase().includes(MARK.toLowerCase()))).toEqual([]);
      const metrics = await register.metrics();
      expect(metrics).toContain('idempotency_requests_total{outcome="fingerprint_mismatch"}');
      expect(metrics.toLowerCase()).not.toContain(MARK.toLowerCase());
      const series = metrics.split('\n').filter((line) => line.startsWith('idempotency_'));
      expect(series.length).toBeLessThan(250);
    });
  });
});

/** Fastify has parsers for JSON, forms and text only. */
function acceptBytes(nest: INestApplication): void {
  const fastify = nest.getHttpAdapter().getInstance() as FastifyInstance;
  fastify.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_, body, done) =>
    done(null, body),
  );
}

function poisons(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(
    ([name, member]) => name === '__proto__' || name === 'constructor' || poisons(member),
  );
}
