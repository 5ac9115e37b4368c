import type { INestApplication } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { IncomingMessage } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { IdempotencyBoardModule } from 'nestjs-idempotency/board';
import { startApp, type TestApp, type TestAppOptions } from '../support/app';
import { BoardVisitor } from '../support/board-visitor';
import type { Answer } from '../support/http';

type Request = IncomingMessage & { body?: unknown; rawBody?: unknown };

describe('a form of the board', () => {
  let app: TestApp | undefined;
  afterEach(() => app?.close());

  /** Sends a form that is the board's in all but its action, so that 400 says it was read. */
  const send = async (more: Partial<TestAppOptions>): Promise<Answer> => {
    const board = IdempotencyBoardModule.forRoot({ access: () => 'full' });
    app = await startApp({ inMemory: true, imports: [board], settings: { bodyParser: false }, ...more });
    const visitor = new BoardVisitor(`${app.url}/idempotency`);
    const { headers } = await visitor.get();
    const token = /=([\w-]{43});/.exec(headers['set-cookie']![0]!)![1]!;
    return visitor.post('?view=record', { token, action: 'purge' });
  };
  const through =
    (middleware: (request: Request) => Promise<void> | void) =>
    (nest: INestApplication): void => {
      nest.use(async (request: Request, _: unknown, next: () => void) => {
        await middleware(request);
        next();
      });
    };

  it.each<[string, (request: Request) => Promise<void> | void]>([
    ['a parser of JSON alone left an empty object', (request) => void (request.body = {})],
    ['middleware kept its bytes', async (request) => void (request.rawBody = await buffer(request))],
    [
      'middleware kept its bytes, and an empty object',
      async (request) => void ([request.rawBody, request.body] = [await buffer(request), {}]),
    ],
    [
      'a parser without prototypes made an object of it',
      async (request) => {
        const fields = new URLSearchParams((await buffer(request)).toString());
        request.body = Object.assign(Object.create(null), Object.fromEntries(fields));
      },
    ],
  ])('is read where %s', async (_, middleware) => {
    const { status, text } = await send({ configure: through(middleware) });
    expect(text).toContain('The form has no action');
    expect(status).toBe(400);
  });

  it('is refused where middleware has read it and kept nothing: it would be awaited for ever', async () => {
    const drain = async (request: Request): Promise<void> => {
      await buffer(request);
    };
    const { status, text } = await send({ configure: through(drain) });
    expect(text).toContain('has read the form');
    expect(status).toBe(400);
  });

  it('is read where Fastify passes each body on as a stream', async () => {
    const configure = (nest: INestApplication): void => {
      const fastify = (nest as NestFastifyApplication).getHttpAdapter().getInstance();
      fastify.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
    };
    const { status, text } = await send({ platform: 'fastify', configure });
    expect(text).toContain('The form has no action');
    expect(status).toBe(400);
  });
});
