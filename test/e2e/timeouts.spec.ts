import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  Body,
  Controller,
  HttpException,
  Injectable,
  Post,
  Res,
  UseGuards,
  UseInterceptors,
  type CanActivate,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import {
  from,
  lastValueFrom,
  map,
  merge,
  mergeMap,
  Observable,
  of,
  race,
  retry,
  take,
  throwError,
} from 'rxjs';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { isReplay, type Answer } from '../support/http';

let runs = 0;
let handler: Gate;
let impatience: Gate;
let guard: Gate;

/** Answers 408 in the handler's place, as the time-out of Nest's documentation does; here when a test says so. */
@Injectable()
class TimeoutInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return race(next.handle(), timedOut());
  }
}

const timedOut = (): Observable<never> =>
  from(impatience.pass()).pipe(mergeMap(() => throwError(() => new HttpException('Too slow', 408))));

/** Runs a handler that failed once more, and gives that up, too. */
@Injectable()
class RetryInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return race(next.handle().pipe(retry(1)), timedOut());
  }
}

/** Goes on listening to the handler whose place it takes. */
@Injectable()
class ListeningInterceptor implements NestInterceptor {
  async intercept(_: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    return of(await Promise.race([lastValueFrom(next.handle()), lastValueFrom(timedOut())]));
  }
}

/** Gives a stream up that has given values already. */
@Injectable()
class LateTimeoutInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return merge(next.handle(), timedOut());
  }
}

@Injectable()
class SlowGuard implements CanActivate {
  async canActivate(): Promise<boolean> {
    await guard.pass();
    return true;
  }
}

@Injectable()
class FirstValueInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(take(1));
  }
}

@Controller()
class SlowController {
  @Post('slow')
  @UseInterceptors(TimeoutInterceptor)
  @Idempotent({ waitTimeout: 50 })
  async slow(@Body() { fails }: { fails?: boolean }): Promise<unknown> {
    runs += 1;
    await handler.pass();
    if (fails) throw new Error('failed');
    return { run: runs };
  }

  @Post('slow-observable')
  @Idempotent({ waitTimeout: 50 })
  @UseInterceptors(TimeoutInterceptor)
  slowObservable(@Body() body: { fails?: boolean }): Observable<unknown> {
    return from(this.slow(body));
  }

  @Post('own-answer')
  @Idempotent()
  async ownAnswer(
    @Res() response: { raw?: unknown; statusCode: number; end(text: string): void },
  ): Promise<void> {
    runs += 1;
    const res = (response.raw ?? response) as typeof response;
    res.statusCode = 503;
    res.end(`run ${runs}`);
    await handler.pass();
  }

  @Post('retried')
  @UseInterceptors(RetryInterceptor)
  @Idempotent({ waitTimeout: 50 })
  async retried(@Body() body: { fails?: boolean }): Promise<unknown> {
    if (runs++ === 0) throw new Error('failed once');
    await handler.pass();
    return body;
  }

  @Post('listened')
  @UseInterceptors(ListeningInterceptor)
  @Idempotent({ waitTimeout: 50 })
  listened(@Body() body: { fails?: boolean }): Promise<unknown> {
    return this.slow(body);
  }

  /** Middleware answers 503 in its place. */
  @Post('middleware')
  @Idempotent({ waitTimeout: 50 })
  middleware(@Body() body: { fails?: boolean }): Promise<unknown> {
    return this.slow(body);
  }

  @Post('guarded-middleware')
  @UseGuards(SlowGuard)
  @Idempotent()
  guarded(): unknown {
    return { run: ++runs };
  }

  @Post('progress')
  @UseInterceptors(LateTimeoutInterceptor)
  @Idempotent()
  progress(): Observable<unknown> {
    return new Observable((subscriber) => {
      runs += 1;
      subscriber.next('pending');
      void handler.pass();
    });
  }

  @Post('unwritable')
  @Idempotent()
  unwritable(): Observable<unknown> {
    runs += 1;
    const circular: { self?: unknown } = {};
    circular.self = circular;
    return from(handler.pass()).pipe(map(() => circular));
  }

  @Post('written')
  @Idempotent()
  written(
    @Res() response: { raw?: unknown; statusCode: number; end(text: string): void },
  ): Observable<unknown> {
    return from(handler.pass()).pipe(
      map(() => ((response.raw ?? response) as typeof response).end(`run ${++runs}`)),
      map(() => 'a value that Nest leaves alone'),
    );
  }

  @Post('flushed')
  @Idempotent()
  flushed(): unknown {
    return { run: ++runs };
  }

  @Post('endless')
  @UseInterceptors(FirstValueInterceptor)
  @Idempotent()
  endless(): Observable<unknown> {
    return new Observable((subscriber) => {
      runs += 1;
      subscriber.next({ run: runs });
      return () => ended.push(runs);
    });
  }
}

let ended: number[] = [];

function impatientMiddleware(request: IncomingMessage, response: ServerResponse, next: () => void): void {
  const url = (request as { originalUrl?: string }).originalUrl ?? request.url;
  if (url?.endsWith('/flushed')) response.flushHeaders();
  if (url?.endsWith('middleware')) {
    void impatience.pass().then(() => {
      if (response.writableEnded) return;
      response.statusCode = 503;
      response.end('busy');
    });
  }
  next();
}

describe.each<Platform>(['express', 'fastify'])('a handler that outlasts its answer on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let key: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [SlowController],
      providers: [SlowGuard],
      configure: (nest) => void nest.use(impatientMiddleware),
    });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    runs = 0;
    ended = [];
    key = randomUUID();
    handler = gate();
    impatience = gate();
    guard = gate();
  });

  const post = (path: string, body: unknown = {}): Promise<Answer> =>
    app.call(path, { body, headers: { 'idempotency-key': key } });
  const givenUp = async (path: string, body?: unknown, status = 408): Promise<void> => {
    const first = post(path, body);
    await handler.reached();
    impatience.open();
    expect((await first).status).toBe(status);
  };

  it.each(['/slow', '/slow-observable'])('keeps its key while it runs: %s', async (path) => {
    await givenUp(path);
    const retry = await post(path);
    expect(retry.status).toBe(409);
    expect(retry.text).toContain('in-flight');
    expect(runs).toBe(1);
    handler.open();
  });

  it.each(['/slow', '/slow-observable'])('is not executed again once it has succeeded: %s', async (path) => {
    await givenUp(path);
    handler.open();
    const retry = await eventually(async () => {
      const answer = await post(path);
      expect(answer.text).toContain('outcome-not-stored');
      return answer;
    });
    expect(retry.status).toBe(409);
    expect(retry.text).toContain('408');
    expect(runs).toBe(1);
  });

  it.each(['/slow', '/slow-observable'])('gives its key back once it has failed: %s', async (path) => {
    await givenUp(path, { fails: true });
    impatience = gate();
    handler.open();
    await eventually(async () => expect((await post(path, { fails: true })).status).toBe(500));
    expect(runs).toBe(2);
  });

  it.each<[string, string, number, number]>([
    ['that an interceptor runs again', '/retried', 408, 2],
    ['that an interceptor goes on listening to', '/listened', 408, 1],
    ['for which middleware answers', '/middleware', 503, 1],
  ])('is not executed again once it has succeeded, also one %s', async (_, path, status, executions) => {
    await givenUp(path, {}, status);
    impatience = gate();
    expect((await post(path)).text).toContain('in-flight');
    handler.open();
    await eventually(async () => expect((await post(path)).text).toContain('outcome-not-stored'));
    expect(runs).toBe(executions);
  });

  it('is not executed again where it was ended after its first value', async () => {
    await givenUp('/progress');
    expect((await post('/progress')).text).toContain('outcome-not-stored');
    expect(runs).toBe(1);
  });

  it('is not executed where something has answered before it began', async () => {
    const first = post('/guarded-middleware');
    await guard.reached();
    impatience.open();
    expect(await first).toMatchObject({ status: 503, text: 'busy' });
    impatience = gate();
    guard.open();
    expect(await post('/guarded-middleware')).toMatchObject({ status: 201, text: '{"run":1}' });
  });

  const left = async (path: string): Promise<void> => {
    const client = new AbortController();
    const first = app.call(path, {
      body: {},
      headers: { 'idempotency-key': key },
      signal: client.signal,
    });
    await handler.reached();
    client.abort();
    await expect(first).rejects.toThrow();
    handler.open();
  };

  it('ends no process with a value that cannot be written, when its client has left', async () => {
    await left('/unwritable');
    await eventually(async () => expect((await post('/unwritable')).text).toContain('Internal server error'));
  });

  it('is recorded as it has answered, when its client has left', async () => {
    await left('/written');
    await eventually(async () => expect((await post('/written')).text).toBe('run 1'));
  });

  it('is executed once where middleware has sent the head of its response', async () => {
    // With its head out, neither Express nor Fastify can send Nest's answer; the retry's can say nothing either.
    await post('/flushed').catch(() => undefined);
    await post('/flushed').catch(() => undefined);
    expect(runs).toBe(1);
    expect((await post('/endless')).status).toBe(201);
  });

  it('gives its key back when it ends, where it has answered', async () => {
    const first = await post('/own-answer');
    expect(first).toMatchObject({ status: 503, text: 'run 1' });
    const retry = post('/own-answer');
    handler.open();
    expect(await retry).toMatchObject({ status: 503, text: 'run 2' });
  });

  it('is ended where an interceptor takes the first value of a stream without end', async () => {
    const first = await post('/endless');
    expect(first).toMatchObject({ status: 201, text: '{"run":1}' });
    expect(isReplay(await post('/endless'))).toBe(true);
    expect(ended).toEqual([1]);
  });
});
