import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import {
  BadRequestException,
  Body,
  Catch,
  ConflictException,
  Controller,
  Get,
  Headers,
  HttpException,
  Injectable,
  NotFoundException,
  Param,
  PayloadTooLargeException,
  Post,
  Query,
  Req,
  Res,
  Scope,
  SetMetadata,
  UseFilters,
  UseInterceptors,
  type ArgumentsHost,
  type CallHandler,
  type ExceptionFilter,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
  type PipeTransform,
  type Type,
} from '@nestjs/common';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { Observable, of, throwError } from 'rxjs';
import { Idempotent } from '../../../lib';
import { startPostgres, type RunningPostgres } from '../../../servers';
import { startApp, type Platform, type TestApp } from '../../support/app';
import { gate, type Gate } from '../../support/gate';
import { comparable, isReplay, type Answer } from '../../support/http';
import { raw, type AnyResponse } from '../../e2e/responses/runs';

let handled: unknown[][] = [];
let refuses = false;
let held: Gate | undefined;

/** Looks something up, and does not find it. */
@Injectable()
class FindPipe implements PipeTransform {
  async transform(value: unknown): Promise<unknown> {
    await held?.pass();
    if (refuses) throw new NotFoundException(`nothing is called ${String(value)}`);
    return value;
  }
}

@Injectable()
class RefusingInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return refuses ? throwError(() => new PayloadTooLargeException()) : next.handle();
  }
}

@Injectable()
class CachingInterceptor implements NestInterceptor {
  intercept(): Observable<unknown> {
    return of({ cached: randomUUID() });
  }
}

/** Answers every error in a form of its own, with 200. */
@Catch(HttpException)
class EnvelopeFilter implements ExceptionFilter {
  catch({ message }: HttpException, host: ArgumentsHost): void {
    const response = raw(host.switchToHttp().getResponse<AnyResponse>());
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ ok: false, message }));
  }
}

const run = (...args: unknown[]): { run: number; nonce: string } => ({
  run: handled.push(args),
  nonce: randomUUID(),
});

function generated(path: string): Type {
  @Controller(path)
  @Idempotent()
  class Generated {
    @Post(':id')
    create(@Param('id', FindPipe) id: string): unknown {
      return run(id);
    }
  }
  return Generated;
}

abstract class Base {
  readonly own = 'own';

  @Post(':id')
  @SetMetadata('kept', 'metadata')
  create(@Param('id', FindPipe) id: string): unknown {
    return run(this.own, id);
  }
}

@Controller('inherited')
@Idempotent()
class Inherited extends Base {}

@Controller('inherited-too')
@Idempotent()
class InheritedToo extends Base {}

@Controller('unprotected')
class Unprotected extends Base {}

@Controller({ path: 'scoped', scope: Scope.REQUEST })
@Idempotent()
class Scoped {
  @Post(':id')
  create(@Param('id', FindPipe) id: string, @Req() request: { readonly method: string }): unknown {
    return run(id, request.method);
  }
}

@Controller('plain')
@Idempotent()
class Plain {
  @Post('value/:id')
  value(@Param('id', FindPipe) id: string, @Query('q') q?: string): unknown {
    return run(id, q);
  }

  @Post('observable/:id')
  observable(@Param('id', FindPipe) id: string): Observable<unknown> {
    return of(run(id));
  }

  @Post('res/:id')
  res(@Param('id', FindPipe) id: string, @Res() response: AnyResponse): void {
    const answer: ServerResponse = raw(response);
    answer.setHeader('Content-Type', 'application/json');
    answer.end(JSON.stringify(run(id)));
  }

  @Post('body')
  body(@Body(FindPipe) body: unknown, @Headers('x-extra') extra = 'default', ...rest: unknown[]): unknown {
    return run(body, extra, rest.length);
  }

  @Post('interceptor')
  @UseInterceptors(RefusingInterceptor)
  interceptor(): unknown {
    return run();
  }

  @Post('enveloped/:id')
  @UseFilters(EnvelopeFilter)
  enveloped(@Param('id', FindPipe) id: string): unknown {
    return run(id);
  }

  @Post('cached')
  @UseInterceptors(CachingInterceptor)
  cached(): unknown {
    return run();
  }

  @Post('itself/:id')
  itself(@Param('id', FindPipe) id: string): never {
    run(id);
    throw new ConflictException({ id, nonce: randomUUID() });
  }

  @Post('itself-without')
  itselfWithout(): never {
    run();
    throw new NotFoundException({ nonce: randomUUID() });
  }

  @Get('read/:id')
  @Idempotent()
  read(@Param('id', FindPipe) id: string): unknown {
    return run(id);
  }

  @Post('invalid/:id')
  @Idempotent({ record: () => true })
  invalid(@Param('id', FindPipe) id: string): never {
    run(id);
    throw new BadRequestException({ nonce: randomUUID() });
  }
}

const CONTROLLERS = [Plain, Inherited, InheritedToo, Unprotected, Scoped, generated('generated')];

const ROUTES = [
  '/plain/value/7',
  '/plain/observable/7',
  '/plain/res/7',
  '/plain/body',
  '/plain/interceptor',
  '/inherited/7',
  '/inherited-too/7',
  '/scoped/7',
  '/generated/7',
];

describe.each<Platform>(['express', 'fastify'])('a handler that has not begun, on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let key: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({ platform, databaseUrl: postgres.url, controllers: CONTROLLERS });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    handled = [];
    refuses = false;
    held = undefined;
    key = randomUUID();
  });

  const post = (path: string, method = 'POST'): Promise<Answer> =>
    app.call(path, {
      method,
      headers: { 'idempotency-key': key },
      body: method === 'POST' ? { a: 1 } : undefined,
    });

  it.each(ROUTES)('leaves no record of a refusal before it, and one of its answer: %s', async (path) => {
    refuses = true;
    for (let time = 0; time < 2; time++) {
      const refused = await post(path);
      expect(refused.status).toBe(path.endsWith('interceptor') ? 413 : 404);
      expect(isReplay(refused)).toBe(false);
    }
    expect(handled).toEqual([]);
    refuses = false;
    const [first, retry] = [await post(path), await post(path)];
    expect([first.status < 300, isReplay(first), isReplay(retry)]).toEqual([true, false, true]);
    expect(comparable(retry)).toEqual(comparable(first));
    expect(handled).toHaveLength(1);
  });

  it('leaves no record of a refusal to which a filter gives another status', async () => {
    refuses = true;
    const refused = await post('/plain/enveloped/7');
    expect([refused.status, refused.text]).toEqual([200, expect.stringContaining('"ok":false')]);
    refuses = false;
    const [first, retry] = [await post('/plain/enveloped/7'), await post('/plain/enveloped/7')];
    expect([first.status, isReplay(first), isReplay(retry)]).toEqual([201, false, true]);
    expect(handled).toHaveLength(1);
  });

  it.each(['/plain/itself/7', '/plain/itself-without', '/plain/invalid/7'])(
    'is no handler that refuses, which is recorded: %s',
    async (path) => {
      const [first, retry] = [await post(path), await post(path)];
      expect(isReplay(retry)).toBe(true);
      expect(comparable(retry)).toEqual(comparable(first));
      expect(handled).toHaveLength(1);
    },
  );

  it('may have an interceptor that answers in its place, which is recorded', async () => {
    const [first, retry] = [await post('/plain/cached'), await post('/plain/cached')];
    expect(comparable(retry)).toEqual(comparable(first));
    expect(isReplay(retry)).toBe(true);
    expect(handled).toEqual([]);
  });

  it('is so for GET, too', async () => {
    refuses = true;
    expect((await post('/plain/read/7', 'GET')).status).toBe(404);
    refuses = false;
    expect((await post('/plain/read/7', 'GET')).status).toBe(200);
  });

  it('is not confused with one of another request that runs meanwhile', async () => {
    const first = gate();
    held = first;
    const pending = post('/plain/value/7');
    await first.reached();
    held = undefined;
    const own = key;
    key = randomUUID();
    expect((await post('/plain/value/7')).status).toBe(201);
    refuses = true;
    first.open();
    expect((await pending).status).toBe(404);
    refuses = false;
    key = own;
    const retry = await post('/plain/value/7');
    expect([retry.status, isReplay(retry)]).toEqual([201, false]);
  });

  it('gets the arguments that it would get otherwise, and nothing more', async () => {
    for (const headers of [{}, { 'idempotency-key': key }] as Record<string, string>[]) {
      handled = [];
      await app.call('/plain/body', { headers, body: { a: 1 } });
      await app.call('/plain/value/7?q=8', { headers });
      await app.call('/inherited/7', { headers });
      await app.call('/scoped/7', { headers });
      await app.call('/unprotected/7', { headers });
      expect(handled).toEqual([
        [{ a: 1 }, 'default', 0],
        ['7', '8'],
        ['own', '7'],
        ['7', 'POST'],
        ['own', '7'],
      ]);
    }
    handled = [];
    const direct = app.app.get(Plain);
    direct.body({ b: 2 }, 'x', 3, 4);
    direct.value('8');
    expect(handled).toEqual([
      [{ b: 2 }, 'x', 2],
      ['8', undefined],
    ]);
  });

  it('keeps its name, its metadata and its description', () => {
    const { create } = Inherited.prototype as unknown as Record<string, () => unknown>;
    expect([create!.name, create!.length]).toEqual(['create', 1]);
    expect(Reflect.getMetadata('kept', create!)).toBe('metadata');
    const nest: INestApplication = app.app;
    const { paths } = SwaggerModule.createDocument(nest, new DocumentBuilder().build());
    const described = paths['/plain/value/{id}']?.post?.parameters ?? [];
    const names = described.map((parameter) => ('name' in parameter ? parameter.name : ''));
    expect(names.filter((name) => !/idempotency/i.test(name)).sort()).toEqual(['id', 'q']);
  });
});
