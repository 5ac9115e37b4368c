import { RedisModule } from '@nestjs-modules/ioredis';
import {
  Body,
  Controller,
  Get,
  Injectable,
  Module,
  Post,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { ExternalContextCreator, LazyModuleLoader, NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { Observable } from 'rxjs';
import { IdempotencyModule, Idempotent } from '../../lib';
import { startRedis, type RunningRedis } from '../../servers';
import { startApp } from '../support/app';
import { call, type Answer } from '../support/http';
import { KeptLog } from '../support/log';

let runs: string[] = [];

@Injectable()
class Passing implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

@Controller('method')
class MethodController {
  @Post('above')
  @Idempotent()
  @UseInterceptors(Passing)
  above(): void {
    runs.push('above');
  }

  @UseInterceptors(Passing)
  @Idempotent()
  @Post('below')
  below(@Body() body: unknown): unknown {
    runs.push('below');
    return body;
  }

  @Get('get')
  @Idempotent()
  get(): void {
    runs.push('get');
  }

  @Post('plain')
  plain(): void {
    runs.push('plain');
  }
}

@Idempotent()
abstract class Base {
  @Post('inherited')
  inherited(): void {
    runs.push('inherited');
  }

  @Post('overridden')
  overridden(): void {
    runs.push('base');
  }
}

@Controller('class')
@UseInterceptors(Passing)
class ClassController extends Base {
  @Post('own')
  own(): void {
    runs.push('own');
  }

  @Post('overridden')
  override overridden(): void {
    runs.push('overridden');
  }

  @Get('safe')
  safe(): void {
    runs.push('safe');
  }
}

@Idempotent()
@Controller('direct')
class DirectController {
  @Post('own')
  own(): void {
    runs.push('direct');
  }
}

const CONTROLLERS: Type[] = [MethodController, ClassController, DirectController];
const DECORATED = ['POST method/above', 'POST method/below', 'GET method/get', 'POST direct/own'];
const BY_BASE = ['POST class/inherited', 'POST class/overridden', 'POST class/own'];
const PLAIN = ['POST method/plain', 'GET class/safe'];

@Module({ controllers: CONTROLLERS })
class RoutesModule {}

@Module({})
class LazyModule {}

/** As GraphQL, transporters, gateways and others call: by Nest, and by no HTTP request. */
@Injectable()
class Worker {
  @Idempotent()
  work(): void {
    runs.push('work');
  }

  rest(): void {
    runs.push('rest');
  }
}

@Injectable()
class Rester {
  rest(): void {
    runs.push('rest');
  }
}

describe('a call that is no HTTP request', () => {
  beforeEach(() => {
    runs = [];
  });

  it.each(['graphql', 'rpc', 'ws', 'http'])(
    'never runs unprotected where its method is decorated, without the module: %s',
    async (kind) => {
      const app = await NestFactory.createApplicationContext(
        { module: LazyModule, providers: [Worker] },
        { logger: false },
      );
      try {
        const worker = app.get(Worker);
        const call = (name: 'work' | 'rest'): Promise<unknown> =>
          app
            .get(ExternalContextCreator)

            .create(
              worker,
              worker[name],
              name,
              undefined,
              undefined,
              undefined,
              undefined,
              undefined,
              kind,
            )();
        await expect(call('work')).rejects.toThrow(
          `Worker.work has @Idempotent(), which protects HTTP requests alone, and this call (of type '${kind}') is not one`,
        );
        await call('rest');
        expect(runs).toEqual(['rest']);
      } finally {
        await app.close();
      }
    },
  );

  it('is left alone by the module where it is not decorated, also if its caller says it is an HTTP request', async () => {
    const app = await NestFactory.create(
      { module: LazyModule, imports: [IdempotencyModule.forRoot({ store: 'memory' })], providers: [Rester] },
      { logger: false },
    );
    try {
      await app.init();
      const rester = app.get(Rester);

      const call = app.get(ExternalContextCreator).create(rester, rester.rest, 'rest');
      await call();
      await call('an argument');
      expect(runs).toEqual(['rest', 'rest']);
    } finally {
      await app.close();
    }
  });
});

describe.each(['express', 'fastify'] as const)('an application without the module (%s)', (platform) => {
  let app: INestApplication | undefined;
  let log: KeptLog;

  beforeEach(() => {
    runs = [];
    log = new KeptLog();
  });
  afterEach(async () => {
    await app?.close();
    app = undefined;
  });

  async function start(): Promise<INestApplication> {
    const options = { logger: log, abortOnError: false };
    app =
      platform === 'express'
        ? await NestFactory.create(RoutesModule, options)
        : await NestFactory.create(RoutesModule, new FastifyAdapter(), options);
    await app.listen(0, '127.0.0.1');
    return app;
  }
  const send = async (to: INestApplication, route: string, key?: string): Promise<Answer> => {
    const [method, path] = route.split(' ') as [string, string];
    const headers = key ? { 'Idempotency-Key': key } : undefined;
    return call(`${(await to.getUrl()).replace('localhost', '127.0.0.1')}/${path}`, { method, headers });
  };

  it.each([...DECORATED, ...BY_BASE])(
    'runs no handler of a decorated route, and says why: %s',
    async (route) => {
      const opened = await start();
      expect((await send(opened, route, 'key')).status).toBe(500);
      expect((await send(opened, route)).status).toBe(500);
      expect(runs).toEqual([]);
      expect(log.lines.join()).toMatch(
        /Controller\.\w+ has @Idempotent\(\), but this application has no IdempotencyModule.*Import IdempotencyModule\.forRoot\(\)/,
      );
    },
  );

  it.each(PLAIN)('leaves what is not decorated alone: %s', async (route) => {
    expect((await send(await start(), route)).status).toBeLessThan(300);
    expect(runs).toHaveLength(1);
  });

  describe('with Redis', () => {
    let redis: RunningRedis;
    beforeAll(async () => {
      redis = await startRedis();
    });
    afterAll(() => redis.stop());

    it('a module that is loaded lazily protects nothing, and no handler runs', async () => {
      const opened = await start();
      const lazy = {
        module: LazyModule,
        imports: [
          RedisModule.forRoot({ type: 'single', url: redis.url, options: { lazyConnect: true } }),
          IdempotencyModule.forRoot({ postgres: false }),
        ],
      };
      await opened
        .get(LazyModuleLoader)
        .load(() => lazy)
        .catch(() => undefined);
      for (const route of [...DECORATED, ...BY_BASE])
        expect((await send(opened, route, 'key')).status).toBe(500);
      expect(runs).toEqual([]);
    });

    it('beside one that has it, in one process: each is judged alone', async () => {
      const protecting = await startApp({ platform, redisUrl: redis.url, controllers: CONTROLLERS });
      try {
        for (const route of [...DECORATED, ...BY_BASE]) {
          const before = runs.length;
          for (const key of [`${platform} ${route}`, `${platform} ${route}`, undefined])
            expect((await send(protecting.app, route, key)).status).toBeLessThan(300);
          expect(runs.length - before).toBe(2);
        }
        for (const route of PLAIN) expect((await send(protecting.app, route)).status).toBeLessThan(300);
        runs = [];
        const opened = await start();
        for (const route of [...DECORATED, ...BY_BASE])
          expect((await send(opened, route, 'key')).status).toBe(500);
        expect(runs).toEqual([]);
      } finally {
        await protecting.close();
      }
    });
  });
});
