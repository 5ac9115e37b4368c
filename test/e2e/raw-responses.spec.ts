import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { Controller, Logger, Post, Res } from '@nestjs/common';
import fc from 'fast-check';
import { Idempotent } from '../../lib';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { eventually } from '../support/eventually';
import { comparable, isReplay, type Answer } from '../support/http';
import { headerNames, headerValues, statuses } from '../support/outcomes';

/** What the handler does with Node's own response. */
let write: (response: ServerResponse) => void;
let runs = 0;

@Controller()
class RawController {
  @Post('raw')
  @Idempotent({ required: true, record: (status) => status < 500 || status > 599 })
  handle(@Res() response: ServerResponse | { raw: ServerResponse; hijack(): void }): void {
    runs += 1;
    if (!('raw' in response)) return write(response);
    write(response.raw);
    response.hijack();
  }

  @Post('left')
  @Idempotent({ lease: 1_000, waitTimeout: 0, record: () => true })
  left(@Res() response: ServerResponse | { raw: ServerResponse; hijack(): void }): void {
    this.handle(response);
  }
}

/** Everything that `setHeader` takes. */
const settable = fc.oneof(
  headerValues,
  fc.array(headerValues, { maxLength: 3 }),
  fc.integer(),
  fc.array(fc.oneof(fc.integer(), fc.boolean(), fc.constant(undefined), fc.constant(null)), { maxLength: 2 }),
  fc.boolean(),
  fc.constant(null),
);
/** Their meaning is a client's: one that takes them seriously cannot read what follows. */
const SPECIAL = /^(content-length|content-encoding|date|expect|proxy-connection)$/i;
const raw = fc.record({
  status: fc.oneof(
    statuses.filter((status) => status < 500 || status > 599),
    fc.constantFrom(200, 204, 304, 205, 999),
  ),
  asText: fc.boolean(),
  headers: fc.array(
    fc.tuple(
      headerNames.filter((name) => !SPECIAL.test(name)),
      settable,
    ),
    { maxLength: 6 },
  ),
  body: fc.uint8Array({ maxLength: 200 }),
});

describe.each<[Platform, 'redis' | 'postgres']>([
  ['express', 'redis'],
  ['express', 'postgres'],
  ['fastify', 'redis'],
  ['fastify', 'postgres'],
])('whatever Node lets a response carry on %s, with %s alone,', (platform, tier) => {
  let server: RunningPostgres | RunningRedis;
  let app: TestApp;
  let key: string;
  let lines: string[];

  beforeAll(async () => {
    server = await (tier === 'redis' ? startRedis() : startPostgres());
    const url = tier === 'redis' ? { redisUrl: server.url } : { databaseUrl: server.url };
    app = await startApp({ platform, ...url, controllers: [RawController] });
  });
  afterAll(async () => {
    await app.close();
    await server.stop();
  });
  beforeEach(() => {
    runs = 0;
    key = randomUUID();
    lines = [];
    for (const level of ['warn', 'error'] as const) {
      jest
        .spyOn(Logger.prototype, level)
        .mockImplementation((...args: unknown[]) => void lines.push(String(args[0])));
    }
  });
  afterEach(() => jest.restoreAllMocks());

  const post = (): Promise<Answer> => app.call('/raw', { headers: { 'idempotency-key': key } });

  it('is replayed as it was sent', async () => {
    await fc.assert(
      fc.asyncProperty(raw, async ({ status, asText, headers, body }) => {
        key = randomUUID();
        runs = 0;
        write = (response) => {
          response.statusCode = (asText ? String(status) : status) as number;
          for (const [name, value] of headers) response.setHeader(name, value as string);
          response.end(body);
        };
        const first = await post();
        const second = await post();
        expect(first.status).toBe(status);
        expect(isReplay(second)).toBe(true);
        expect(comparable(second)).toEqual(comparable(first));
        expect(runs).toBe(1);
      }),
      { numRuns: 100 },
    );
    expect(lines).toEqual([]);
  });

  it.each([100, 102, 150, 199])(
    'but not what ends no response (%i): its retry is told so',
    async (status) => {
      write = (response) => {
        response.statusCode = status;
        response.end();
      };
      await expect(post()).rejects.toThrow(/hang up|aborted|ECONNRESET/);
      const retry = await post();
      expect(retry.status).toBe(409);
      expect(retry.text).toContain('outcome-not-stored');
      expect(runs).toBe(1);
    },
  );

  it.each<[string, (response: ServerResponse) => void]>([
    ['a status beyond HTTP', (response) => (response.statusCode = 1000)],
    ['a status that is no number', (response) => (response.statusCode = NaN)],
    ['a status message that splits the response', (response) => (response.statusMessage = 'a\r\nX-B: c')],
  ])('and what Node refuses is refused where it is written: %s', async (_, prepare) => {
    write = (response) => {
      for (const send of ['write', 'end'] as const) {
        prepare(response);
        expect(() => response[send]('not to be seen')).toThrow();
      }
      expect(response.headersSent).toBe(false);
      response.statusCode = 202;
      response.end('in its place');
    };
    const first = await post();
    expect(first).toMatchObject({ status: 202, text: 'in its place' });
    expect(comparable(await post())).toEqual(comparable(first));
  });

  it('nor what was not ended when its client had left, with any status that it had until then', async () => {
    const client = new AbortController();
    write = (response) => {
      response.statusCode = 1000;
      client.abort();
    };
    const post = (signal?: AbortSignal): Promise<Answer> =>
      app.call('/left', { headers: { 'idempotency-key': key }, signal });
    await expect(post(client.signal)).rejects.toThrow(/abort/);
    await eventually(async () => expect((await post()).text).toContain('outcome-not-stored'));
    expect(runs).toBe(1);
  });

  it('and its error becomes the application’s answer, and gives the key back', async () => {
    write = (response) => {
      response.statusCode = 1000;
      response.end('never');
    };
    const answer = await post();
    expect(answer.status).toBe(500);
    expect(answer.text).not.toContain('never');
    write = (response) => void response.end('repaired');
    expect(await post()).toMatchObject({ status: 201, text: 'repaired' });
    expect(runs).toBe(2);
  });
});
