import { randomUUID } from 'node:crypto';
import {
  Body,
  Controller,
  HttpException,
  Injectable,
  Post,
  Res,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { from, mergeMap, Observable, race, take, throwError } from 'rxjs';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { isReplay, type Answer } from '../support/http';

let runs = 0;
let handler: Gate;
let impatience: Gate;

/** Answers 408 in the handler's place, as the time-out of Nest's documentation does; here when a test says so. */
@Injectable()
class TimeoutInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    const timeout = from(impatience.pass()).pipe(
      mergeMap(() => throwError(() => new HttpException('Too slow', 408))),
    );
    return race(next.handle(), timeout);
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

describe.each<Platform>(['express', 'fastify'])('a handler that outlasts its answer on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let key: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({ platform, databaseUrl: postgres.url, controllers: [SlowController] });
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
  });

  const post = (path: string, body: unknown = {}): Promise<Answer> =>
    app.call(path, { body, headers: { 'idempotency-key': key } });
  const timedOut = async (path: string, body?: unknown): Promise<void> => {
    const first = post(path, body);
    await handler.reached();
    impatience.open();
    expect((await first).status).toBe(408);
  };

  it.each(['/slow', '/slow-observable'])('keeps its key while it runs: %s', async (path) => {
    await timedOut(path);
    const retry = await post(path);
    expect(retry.status).toBe(409);
    expect(retry.text).toContain('in-flight');
    expect(runs).toBe(1);
    handler.open();
  });

  it.each(['/slow', '/slow-observable'])('is not executed again once it has succeeded: %s', async (path) => {
    await timedOut(path);
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
    await timedOut(path, { fails: true });
    impatience = gate();
    handler.open();
    await eventually(async () => expect((await post(path, { fails: true })).status).toBe(500));
    expect(runs).toBe(2);
  });

  it('gives its key back when it ends, where it has answered by itself', async () => {
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
