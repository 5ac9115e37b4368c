import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import {
  Catch,
  Controller,
  HttpException,
  Post,
  Res,
  UseFilters,
  type ArgumentsHost,
  type ExceptionFilter,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { of } from 'rxjs';
import { Idempotent, IdempotencyException } from '../../../lib';
import { startPostgres, type RunningPostgres } from '../../../servers';
import { startApp, type Platform, type TestApp } from '../../support/app';
import { comparable, isReplay, type Answer } from '../../support/http';

let runs = 0;

/** Answers in the application's own form. */
@Catch(IdempotencyException)
class OwnFormFilter implements ExceptionFilter {
  constructor(private readonly host: HttpAdapterHost) {}

  catch(exception: IdempotencyException, host: ArgumentsHost): void {
    const body = { error: exception.code, again: exception.retryAfter };
    this.host.httpAdapter.reply(host.switchToHttp().getResponse(), body, exception.getStatus());
  }
}

function failing(): never {
  throw new Error('an option of the application failed');
}

const raw = (response: ServerResponse | { raw: ServerResponse }): ServerResponse =>
  'raw' in response ? response.raw : response;

@Controller()
class CaptureController {
  @Post('failing-headers')
  @Idempotent({ replayHeaders: failing })
  failingHeaders(): number {
    return ++runs;
  }

  @Post('failing-record')
  @Idempotent({ record: failing })
  failingRecord(): number {
    return ++runs;
  }

  @Post('failing-scope')
  @Idempotent({ scope: () => ({ tenant: 1 }) as unknown as string })
  failingScope(): number {
    return ++runs;
  }

  @Post('late-writes')
  @Idempotent()
  lateWrites(@Res() response: ServerResponse | { raw: ServerResponse }): void {
    const res = raw(response);
    res.statusCode = 202;
    res.write('first ');
    res.end(`run ${++runs}`);
    res.statusCode = 500;
    res.write('too late');
    res.end('much too late');
    expect(() => res.setHeader('X-Late', 'yes')).toThrow(/after they are sent/);
    expect(res.headersSent && res.writableEnded).toBe(true);
  }

  @Post('waits-for-each-write')
  @Idempotent({ maxBodySize: 100 })
  async waitsForEachWrite(@Res() response: ServerResponse | { raw: ServerResponse }): Promise<void> {
    runs += 1;
    const res = raw(response);
    for (let i = 0; i < 5; i++) {
      await new Promise<void>((resolve) => res.write('x'.repeat(50), () => resolve()));
    }
    res.end();
  }

  @Post('cookies')
  @Idempotent()
  cookies(@Res({ passthrough: true }) response: ServerResponse | { raw: ServerResponse }): string {
    raw(response).setHeader('Set-Cookie', ['session=secret', 'theme=dark']);
    raw(response).setHeader('WWW-Authenticate', 'Basic');
    raw(response).setHeader('X-Kept', ['a', 'b']);
    return `run ${++runs}`;
  }

  @Post('observable')
  @Idempotent()
  observable() {
    return of(`run ${++runs}`);
  }

  @Post('own-form')
  @UseFilters(OwnFormFilter)
  @Idempotent({ required: true })
  ownForm(): number {
    return ++runs;
  }

  @Post('thrown')
  @Idempotent()
  thrown(): never {
    throw new HttpException({ run: ++runs, at: randomUUID() }, 409);
  }
}

describe.each<Platform>(['express', 'fastify'])('a captured response on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let key: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({ platform, databaseUrl: postgres.url, controllers: [CaptureController] });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    runs = 0;
    key = randomUUID();
  });

  const post = (path: string, body: unknown = {}): Promise<Answer> =>
    app.call(path, { body, headers: { 'idempotency-key': key } });
  const twice = async (path: string): Promise<[Answer, Answer]> => [await post(path), await post(path)];

  it.each(['/observable', '/thrown', '/late-writes'])('replays as it was sent: %s', async (path) => {
    const [first, second] = await twice(path);
    expect(isReplay(second)).toBe(true);
    expect(comparable(second)).toEqual(comparable(first));
    expect(runs).toBe(1);
  });

  it('ends where its writer ended it: what is written later is in no response', async () => {
    const [first] = await twice('/late-writes');
    expect(first).toMatchObject({ status: 202, text: 'first run 1' });
    expect(first.headers['x-late']).toBeUndefined();
  });

  it('lets a writer that waits for each write go on, past the largest size too', async () => {
    const [first, second] = await twice('/waits-for-each-write');
    expect(first.text).toBe('x'.repeat(250));
    expect(second.status).toBe(409);
    expect(runs).toBe(1);
  });

  it('never gives cookies or challenges of the first caller to another request', async () => {
    const [first, second] = await twice('/cookies');
    expect(first.headers['set-cookie']).toEqual(['session=secret', 'theme=dark']);
    expect(isReplay(second)).toBe(true);
    expect(second.headers['set-cookie']).toBeUndefined();
    expect(second.headers['www-authenticate']).toBeUndefined();
    expect(second.rawHeaders.filter((_, i, all) => i % 2 === 1 && all[i - 1] === 'X-Kept')).toEqual([
      'a',
      'b',
    ]);
  });

  it('is sent although `replayHeaders` fails, and its retry is told that it was not stored', async () => {
    const [first, second] = await twice('/failing-headers');
    expect(first).toMatchObject({ status: 201, text: '1' });
    expect(second.status).toBe(409);
    expect(runs).toBe(1);
  });

  it('is recorded although `record` fails', async () => {
    const [first, second] = await twice('/failing-record');
    expect(comparable(second)).toEqual(comparable(first));
    expect(runs).toBe(1);
  });

  it('is never made for a `scope` that names no caller: all would share it', async () => {
    expect((await post('/failing-scope')).status).toBe(500);
    expect(runs).toBe(0);
  });

  it('is never made for a body that cannot be compared', async () => {
    const answer = await post('/observable', '['.repeat(30_000) + ']'.repeat(30_000));
    expect(answer.status).toBe(400);
    expect(runs).toBe(0);
  });

  it('is a problem document where the application has no filter of its own, and in its form where it has', async () => {
    const own = await app.call('/own-form');
    expect(own.headers['content-type']).toMatch(/^application\/json/);
    expect(own).toMatchObject({ status: 400, text: '{"error":"key_missing"}' });
    await post('/thrown');
    const mismatch = await post('/thrown', { other: true });
    expect(mismatch.headers['content-type']).toMatch(/^application\/problem\+json/);
    expect(mismatch.status).toBe(422);
  });
});
