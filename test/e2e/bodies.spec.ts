import { randomUUID } from 'node:crypto';
import type { Readable } from 'node:stream';
import multipart from '@fastify/multipart';
import {
  Controller,
  Post,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import type { FastifyInstance } from 'fastify';
import multer from 'multer';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type Platform, type TestApp, type TestAppOptions } from '../support/app';
import { RawClient, type RawAnswer, type RawRequest } from '../support/raw-client';

@Controller()
class ItemsController {
  @Post('items')
  @Idempotent({ required: true })
  create(): unknown {
    return { nonce: randomUUID() };
  }
}

/** Writes what differs with each request into the body, as guards of webhooks do with a verified token. */
class WritingGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { body } = context.switchToHttp().getRequest<{ body?: Record<string, unknown> }>();
    if (typeof body === 'object') body.user = { iat: randomUUID() };
    return true;
  }
}

const JSON_TYPE = ['Content-Type', 'application/json'] as const;
const FORM_TYPE = ['Content-Type', 'application/x-www-form-urlencoded'] as const;

type Part = readonly [name: string, value: string | Buffer, filename?: string];

/** Each with a boundary of its own, as clients choose another one for each try. */
function multipartOf(...parts: Part[]): Partial<RawRequest> {
  const boundary = randomUUID();
  const written = parts.flatMap(([name, value, filename]) => {
    const file = filename === undefined ? '' : `; filename="${filename}"\r\nContent-Type: text/plain`;
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n\r\n`;
    return [Buffer.from(head), Buffer.from(value as Buffer), Buffer.from('\r\n')];
  });
  return {
    body: Buffer.concat([...written, Buffer.from(`--${boundary}--\r\n`)]),
    headers: [['Content-Type', `multipart/form-data; boundary=${boundary}`]],
  };
}

describe('bodies', () => {
  let postgres: RunningPostgres;
  let app: TestApp | undefined;

  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterEach(() => app?.close());
  afterAll(() => postgres.stop());

  const start = async (platform: Platform, options: Partial<TestAppOptions> = {}): Promise<void> => {
    app = await startApp({ platform, databaseUrl: postgres.url, controllers: [ItemsController], ...options });
  };
  const ask = (key: string, { headers = [], ...request }: Partial<RawRequest>): Promise<RawAnswer> =>
    RawClient.ask(app!.url, {
      target: '/items',
      ...request,
      headers: [...headers, ['Idempotency-Key', key]],
    });

  /** What becomes of a first request, of the same once more, and of others under its key. */
  const outcomes = async (
    first: Partial<RawRequest>,
    again: Partial<RawRequest>,
    ...others: Partial<RawRequest>[]
  ): Promise<string[]> => {
    const key = randomUUID();
    const all: string[] = [];
    for (const request of [first, again, ...others]) {
      const { status, replayed } = await ask(key, request);
      all.push(replayed ? 'replayed' : String(status));
    }
    return all;
  };

  describe.each<Platform>(['express', 'fastify'])('on %s', (platform) => {
    it('that are empty are one request, however they are framed, and another than `{}`', async () => {
      await start(platform);
      expect(
        await outcomes(
          {},
          { body: '' },
          { headers: [['Content-Length', '0']] },
          { body: '{}', headers: [JSON_TYPE] },
        ),
      ).toEqual(['201', 'replayed', 'replayed', '422']);
      expect(
        await outcomes(
          { body: '', headers: [FORM_TYPE] },
          { headers: [FORM_TYPE] },
          { body: 'a=1', headers: [FORM_TYPE] },
        ),
      ).toEqual(['201', 'replayed', '422']);
      expect(
        await outcomes(
          { body: '{}', headers: [JSON_TYPE] },
          { body: '{ }', headers: [JSON_TYPE], chunked: 1 },
          {},
        ),
      ).toEqual(['201', 'replayed', '422']);
    });

    it('that a guard writes into are compared as they were sent, where the application keeps their bytes', async () => {
      await start(platform, {
        settings: { rawBody: true },
        providers: [{ provide: APP_GUARD, useClass: WritingGuard }],
      });
      const json = (body: string): Partial<RawRequest> => ({ body, headers: [JSON_TYPE] });
      expect(
        await outcomes(
          json('{"a":1,"b":2}'),
          json('{"a":1,"b":2}'),
          json('{ "b":2, "a":1.0 }'),
          json('{"a":2,"b":2}'),
        ),
      ).toEqual(['201', 'replayed', 'replayed', '422']);
      const form = (body: string): Partial<RawRequest> => ({ body, headers: [FORM_TYPE] });
      expect(await outcomes(form('a=1&b=2'), form('a=1&b=2'), form('b=2&a=1'), form('a=1&b=3'))).toEqual([
        '201',
        'replayed',
        'replayed',
        '422',
      ]);
    });

    it('that a parser hands on as a stream are no part of the request', async () => {
      await start(platform, {
        configure: (nest) => {
          if (platform === 'fastify')
            fastifyOf(nest).addContentTypeParser('application/octet-stream', (_, payload, done) =>
              done(null, payload),
            );
          else
            nest.use((request: Request, _: Response, next: NextFunction) => {
              if (request.headers['content-type'] === 'application/octet-stream') request.body = request;
              next();
            });
        },
      });
      const bytes = (body: string): Partial<RawRequest> => ({
        body,
        headers: [['Content-Type', 'application/octet-stream']],
      });
      expect(await outcomes(bytes('a'), bytes('a'), bytes('b'))).toEqual(['201', 'replayed', 'replayed']);
    });
  });

  describe('of multipart, through @fastify/multipart', () => {
    const startWith = (options: object): Promise<void> =>
      start('fastify', {
        configure: (nest) => register(nest, options),
      });
    const upload = (text: string, bytes: string, filename = 'a.txt'): Partial<RawRequest> =>
      multipartOf(['title', text], ['file', bytes, filename], ['file', 'second', 'b.txt']);

    it.each([true, 'keyValues'] as const)(
      'are compared by fields and files with `attachFieldsToBody: %s`',
      async (attach) => {
        await startWith({ attachFieldsToBody: attach });
        expect(
          await outcomes(upload('a', 'x'), upload('a', 'x'), upload('b', 'x'), upload('a', 'y')),
        ).toEqual(['201', 'replayed', '422', '422']);
      },
    );

    it('are compared by the names of files too, where the fields are attached as they are', async () => {
      await startWith({ attachFieldsToBody: true });
      expect(await outcomes(upload('a', 'x'), upload('a', 'x'), upload('a', 'x', 'c.txt'))).toEqual([
        '201',
        'replayed',
        '422',
      ]);
    });

    it('are compared by fields and names where `onFile` has taken the bytes elsewhere', async () => {
      await startWith({
        attachFieldsToBody: true,
        onFile: async (part: { file: Readable }) => {
          await part.file.toArray();
        },
      });
      expect(
        await outcomes(upload('a', 'x'), upload('a', 'x'), upload('a', 'x', 'c.txt'), upload('a', 'y')),
      ).toEqual(['201', 'replayed', '422', 'replayed']);
    });

    it('are no part of the request where the handler reads them', async () => {
      await startWith({});
      expect(await outcomes(upload('a', 'x'), upload('a', 'x'), upload('b', 'y'))).toEqual([
        '201',
        'replayed',
        'replayed',
      ]);
    });

    it('may be large: 10 MB of files cost one pass over their bytes', async () => {
      await start('fastify', {
        fastify: { bodyLimit: 20_000_000 },
        configure: (nest) => register(nest, { attachFieldsToBody: 'keyValues' }),
      });
      const file = (last: string): Partial<RawRequest> =>
        multipartOf(['file', 'x'.repeat(10_000_000) + last, 'a.txt']);
      expect(await outcomes(file('a'), file('a'), file('b'))).toEqual(['201', 'replayed', '422']);
    });
  });

  describe('of multipart, through multer as middleware', () => {
    const upload = (text: string, bytes: string, filename = 'a.txt'): Partial<RawRequest> =>
      multipartOf(['title', text], ['file', bytes, filename]);

    it.each<[string, (storage: multer.Multer) => ReturnType<multer.Multer['any']>]>([
      ['one file', (storage) => storage.single('file')],
      ['a list', (storage) => storage.any()],
      ['lists by field', (storage) => storage.fields([{ name: 'file' }])],
    ])('are compared by fields and files: %s', async (_, take) => {
      await start('express', {
        configure: (nest) => {
          nest.use(take(multer()));
        },
      });
      expect(
        await outcomes(
          upload('a', 'x'),
          upload('a', 'x'),
          upload('b', 'x'),
          upload('a', 'y'),
          upload('a', 'x', 'b.txt'),
        ),
      ).toEqual(['201', 'replayed', '422', '422', '422']);
    });
  });

  it('that a parser of the application makes URLSearchParams of are compared by their fields', async () => {
    await start('express', {
      configure: (nest) => {
        const server = nest.getHttpAdapter().getInstance() as Express;
        server.use(
          express.text({ type: 'text/x-query' }),
          (request: Request, _: Response, next: NextFunction) => {
            if (typeof request.body === 'string') request.body = new URLSearchParams(request.body);
            next();
          },
        );
      },
    });
    const query = (body: string): Partial<RawRequest> => ({
      body,
      headers: [['Content-Type', 'text/x-query']],
    });
    expect(await outcomes(query('a=1&b=2'), query('b=2&a=1'), query('a=1&b=3'))).toEqual([
      '201',
      'replayed',
      '422',
    ]);
  });
});

function fastifyOf(nest: INestApplication): FastifyInstance {
  return nest.getHttpAdapter().getInstance() as FastifyInstance;
}

async function register(nest: INestApplication, options: object): Promise<void> {
  await fastifyOf(nest).register(multipart, options);
}
