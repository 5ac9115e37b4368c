import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  Controller,
  Post,
  Req,
  Res,
  UseInterceptors,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import compression from 'compression';
import express from 'express';
import { Observable } from 'rxjs';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { comparable, isReplay, type Answer } from '../support/http';

let runs = 0;
const legacy = express();
legacy.post('/json', (_, res) => void res.status(201).json({ run: ++runs }));
legacy.post('/send', (_, res) => void res.send(`run ${++runs}`));
legacy.post('/write-head', (_, res) => {
  res.writeHead(202, { 'X-Run': String(++runs) });
  res.end(`run ${runs}`);
});
legacy.post('/flushed', (_, res) => {
  res.flushHeaders();
  res.end(`run ${++runs}`);
});
legacy.post('/streamed', (_, res) => {
  res.write('run ');
  setTimeout(() => res.end(String(++runs)), 20);
});
legacy.post(
  '/compressed',
  compression({ threshold: 0 }),
  (_, res) => void res.send(`run ${++runs}`.repeat(100)),
);
legacy.post('/throws', () => {
  runs += 1;
  throw Object.assign(new Error('no'), { status: 409 });
});
legacy.post('/throws-500', () => {
  runs += 1;
  throw new Error('no');
});
legacy.post('/throws-midway', (_, res) => {
  runs += 1;
  res.write('partial content that is longer than that');
  throw new Error('no');
});
legacy.post('/destroyed', (_, res) => {
  runs += 1;
  res.write('partial');
  res.destroy();
});
legacy.post('/late-header', (_, res) => {
  runs += 1;
  res.end('x');
  expect(() => res.setHeader('X-Late', '1')).toThrow('after they are sent');
});

@Controller()
@Idempotent({ lease: '2s' })
class HandingOnController {
  @Post('*path')
  all(@Req() request: IncomingMessage, @Res() response: ServerResponse): void {
    legacy(request as never, response as never);
  }
}

class HandingOnInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext): Observable<never> {
    const http = context.switchToHttp();
    const request = http.getRequest<{ url: string }>();
    request.url = request.url.replace('/intercepted', '');
    const response = http.getResponse<ServerResponse>();
    legacy(request as never, response as never);
    return new Observable((subscriber) => void response.once('close', () => subscriber.complete()));
  }
}

/** Nothing here shows that the response is passed on. */
@Controller('intercepted')
@Idempotent({ lease: '2s' })
class InterceptedController {
  @Post('*path')
  @UseInterceptors(HandingOnInterceptor)
  all(): void {
    throw new Error('never called');
  }
}

describe('a request that is handed to another Express application', () => {
  let postgres: RunningPostgres;
  let app: TestApp;
  beforeAll(async () => {
    postgres = await startPostgres();
    const controllers = [InterceptedController, HandingOnController];
    app = await startApp({ databaseUrl: postgres.url, controllers });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });

  beforeEach(() => (runs = 0));

  describe.each([
    ['a handler', ''],
    ['an interceptor', '/intercepted'],
  ])('by %s', (_, prefix) => {
    it.each(['json', 'send', 'write-head', 'flushed', 'streamed', 'compressed', 'throws', 'late-header'])(
      'is held, and replayed as it was sent: /%s',
      async (path) => {
        const headers = { 'idempotency-key': randomUUID(), 'accept-encoding': 'gzip' };
        const post = (): Promise<Answer> => app.call(`${prefix}/${path}`, { headers });
        const [first, second] = [await post(), await post()];
        expect(comparable(second)).toEqual(comparable(first));
        expect(isReplay(second)).toBe(true);
        expect(runs).toBe(1);
      },
    );

    it.each(['throws-500', 'destroyed'])('gives its key back where it fails: /%s', async (path) => {
      const key = randomUUID();
      expect(await call(`${prefix}/${path}`, key)).not.toBe('answered');
      expect(await call(`${prefix}/${path}`, key)).not.toBe('answered');
      expect(runs).toBe(2);
    });
  });

  it('is cut where it fails half-way, and not run again', async () => {
    const key = randomUUID();
    expect(await call('/throws-midway', key)).toMatch(/socket hang up|ECONNRESET/);
    expect(await call('/throws-midway', key)).toBe(409);
    expect(runs).toBe(1);
  });

  /** The status of a failure, or how the connection ended. */
  const call = (path: string, key: string): Promise<unknown> =>
    app.call(path, { headers: { 'idempotency-key': key } }).then(
      ({ status }) => (status < 400 ? 'answered' : status),
      (error: unknown) => String(error),
    );
});
