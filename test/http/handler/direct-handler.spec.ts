import {
  Controller,
  HttpException,
  Injectable,
  Post,
  Scope,
  SetMetadata,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { INTERCEPTORS_METADATA } from '@nestjs/common/constants';
import { from, mergeMap, race, throwError, type Observable } from 'rxjs';
import { randomUUID } from 'node:crypto';
import { Idempotent } from '../../../lib';
import { callDirectly } from '../../../lib/http/handler/direct-handler';
import { startApp, type Platform, type TestApp, type TestAppOptions } from '../../support/app';
import { eventually } from '../../support/eventually';
import { gate, type Gate } from '../../support/gate';
import type { Answer } from '../../support/http';

let called: ReturnType<ExecutionContext['getHandler']>[] = [];
let runs = 0;
let handler: Gate;
let impatience: Gate;

/** Guards come before interceptors, and see the handler that Nest will call. */
@Injectable()
class SeeingGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    called.push(context.getHandler());
    return true;
  }
}

@Injectable()
class PassingInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

@Injectable({ scope: Scope.REQUEST })
class RequestInterceptor extends PassingInterceptor {}

/** Answers 408 in the handler's place when a test says so. */
@Injectable()
class TimeoutInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    const timedOut = from(impatience.pass()).pipe(
      mergeMap(() => throwError(() => new HttpException('Too slow', 408))),
    );
    return race(next.handle(), timedOut);
  }
}

@Controller('alone')
@UseGuards(SeeingGuard)
@Idempotent({ waitTimeout: 0 })
class AloneController {
  private readonly own = 'own';

  @Post()
  @SetMetadata('kept', 'metadata')
  create(): string {
    return `${this.own} ${++runs}`;
  }

  @Post('intercepted')
  @UseInterceptors(PassingInterceptor)
  intercepted(): number {
    return ++runs;
  }

  @Post('slow')
  async slow(): Promise<number> {
    await handler.pass();
    return ++runs;
  }
}

@Controller('intercepted')
@UseGuards(SeeingGuard)
@UseInterceptors(PassingInterceptor)
@Idempotent()
class InterceptedController {
  @Post()
  create(): number {
    return ++runs;
  }
}

@Controller({ path: 'scoped', scope: Scope.REQUEST })
@UseGuards(SeeingGuard)
@Idempotent()
class ScopedController {
  @Post()
  create(): number {
    return ++runs;
  }
}

const CONTROLLERS: Type[] = [AloneController, InterceptedController, ScopedController];

describe.each<Platform>(['express', 'fastify'])('a handler on %s', (platform) => {
  let open: TestApp[];
  beforeEach(() => {
    open = [];
    called = [];
    runs = 0;
    handler = gate();
    impatience = gate();
  });
  afterEach(() => Promise.all(open.map((app) => app.close())));

  const start = async (options: TestAppOptions = {}): Promise<TestApp> => {
    const app = await startApp({
      platform,
      controllers: CONTROLLERS,
      options: { store: 'memory' },
      ...options,
    });
    open.push(app);
    return app;
  };
  const post = (app: TestApp, path: string, key: string = randomUUID()): Promise<Answer> =>
    app.call(path, { headers: { 'idempotency-key': key } });
  /** How many interceptors Nest has put around the handler by its own metadata. */
  const interceptors = async (app: TestApp, path: string): Promise<number> => {
    called = [];
    expect((await post(app, path)).status).toBe(201);
    return (Reflect.getMetadata(INTERCEPTORS_METADATA, called[0]!) as unknown[]).length;
  };

  it('has no interceptor that watches it where there is no other one', async () => {
    const app = await start();
    expect(await interceptors(app, '/alone')).toBe(0);
    expect((await post(app, '/alone')).text).toBe('own 2');
    expect(await interceptors(app, '/alone/intercepted')).toBe(2);
    expect(await interceptors(app, '/intercepted')).toBe(1);
    expect(await interceptors(app, '/scoped')).toBe(1);
  });

  it.each<[string, TestAppOptions]>([
    [
      'useGlobalInterceptors()',
      { configure: (app) => void app.useGlobalInterceptors(new PassingInterceptor()) },
    ],
    ['APP_INTERCEPTOR', { providers: [{ provide: APP_INTERCEPTOR, useClass: PassingInterceptor }] }],
    [
      'APP_INTERCEPTOR for each request',
      { providers: [{ provide: APP_INTERCEPTOR, useClass: RequestInterceptor }] },
    ],
  ])('is watched beneath one of %s', async (_, options) => {
    const app = await start(options);
    expect(await interceptors(app, '/alone')).toBe(1);
  });

  it('keeps its key beneath a time-out, also while another application calls it directly', async () => {
    const direct = await start();
    const app = await start({
      configure: (nest) => void nest.useGlobalInterceptors(new TimeoutInterceptor()),
    });
    expect(await interceptors(direct, '/alone')).toBe(0);
    runs = 0;
    const key = randomUUID();
    const first = post(app, '/alone/slow', key);
    await handler.reached();
    impatience.open();
    expect((await first).status).toBe(408);
    expect((await post(app, '/alone/slow', key)).text).toContain('in-flight');
    handler.open();
    await eventually(async () =>
      expect((await post(app, '/alone/slow', key)).text).toContain('outcome-not-stored'),
    );
    expect(runs).toBe(1);
  });
});

describe('a controller whose handler is called directly', () => {
  class Plain {
    readonly own = 'own';

    @SetMetadata('kept', 'metadata')
    create(...args: unknown[]): unknown {
      return [this.own, ...args];
    }
  }

  it('has a method of its own, which does what that of its class does', () => {
    const [one, other] = [new Plain(), new Plain()];
    callDirectly(one, 'create');
    expect(one.create(1, 2)).toEqual(['own', 1, 2]);
    expect([one.create.name, Reflect.getMetadata('kept', one.create)]).toEqual(['create', 'metadata']);
    expect(Object.keys(one)).toEqual(['own']);
    expect(one.create).not.toBe(Plain.prototype.create);
    expect(other.create).toBe(Plain.prototype.create);
  });

  it('is left as it is where it has such a method already, or cannot have one', () => {
    const mocked = Object.assign(new Plain(), { create: () => 'mocked' });
    const frozen = Object.freeze(new Plain());
    for (const each of [mocked, frozen]) {
      const { create } = each;
      callDirectly(each, 'create');
      expect(each.create).toBe(create);
    }
  });
});
