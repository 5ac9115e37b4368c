import {
  Controller,
  Injectable,
  Module,
  Post,
  SetMetadata,
  Sse,
  type DynamicModule,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { NEVER } from 'rxjs';
import {
  fromBody,
  Idempotent,
  IdempotencyModule,
  IdempotencyService,
  type Duration,
  type IdempotencyModuleOptions,
} from '../../lib';
import { IdempotencyBoardModule } from '../../lib/board';
import { moduleOptions } from '../../lib/options/specification/module';
import { policyOptions } from '../../lib/options/specification/policy';
import { redisOptions } from '../../lib/options/specification/redis';
import { routeOptions } from '../../lib/options/specification/route';
import { IdempotencyTestingModule } from '../../lib/testing';
import { call } from '../support/http';
import { KeptLog } from '../support/log';

const OF_ROUTES = Object.keys(routeOptions).join(', ');
const OF_THE_MODULE = Object.keys({ ...routeOptions, ...moduleOptions }).join(', ');
const OF_REDIS = Object.keys(redisOptions).join(', ');

@Module({})
class RootModule {}

class Settings {
  readonly lease = '9s';
}

class Maker {
  createIdempotencyOptions(): IdempotencyModuleOptions {
    return undefined as never;
  }
}

interface Parts {
  readonly imports?: (DynamicModule | Type)[];
  readonly controllers?: Type[];
  readonly providers?: Type[];
}

const memory = (options: IdempotencyModuleOptions = {}): DynamicModule =>
  IdempotencyModule.forRoot({ store: 'memory', ...options });

/** Starts the application, as its main.ts does, and ends it. */
const start = async (parts: () => Parts): Promise<void> => {
  const module = { module: RootModule, ...parts() };
  const app = await NestFactory.create(module, { logger: false, abortOnError: false });
  try {
    await app.init();
  } finally {
    await app.close();
  }
};

/** What JavaScript, or a cast, lets through. */
const orders = (options: object): Type => {
  @Controller('orders')
  class OrdersController {
    @Post()
    @Idempotent(options)
    create(): void {
      return;
    }
  }
  return OrdersController;
};

const MISTAKES: [mistake: string, parts: () => Parts, message: string][] = [
  [
    'an option of a tier at the top',
    () => ({ imports: [memory({ ttl: '1h' } as object)] }),
    `IdempotencyModule options: option "ttl" is unknown (did you mean "redis.ttl"?): known are ${OF_THE_MODULE}`,
  ],
  [
    'an option that several parts have',
    () => ({ imports: [memory({ timeout: '1h' } as object)] }),
    'IdempotencyModule options: option "timeout" is unknown (did you mean "legacy.timeout", "transaction.timeout", ' +
      `"redis.timeout" or "postgres.timeout"?): known are ${OF_THE_MODULE}`,
  ],
  [
    'a misspelt option of the module',
    () => ({ imports: [memory({ nameSpace: 'orders' } as object)] }),
    `IdempotencyModule options: option "nameSpace" is unknown (did you mean "namespace"?): known are ${OF_THE_MODULE}`,
  ],
  [
    'a misspelt option within another',
    () => ({ imports: [IdempotencyModule.forRoot({ redis: { tll: '1h' } as object })] }),
    `IdempotencyModule options: option "redis.tll" is unknown (did you mean "redis.ttl"?): known are ${OF_REDIS}`,
  ],
  [
    'a URL in place of the options of a store, which may have a password',
    () => ({ imports: [IdempotencyModule.forRoot({ redis: 'redis://:secret@host' as never })] }),
    'IdempotencyModule options: option "redis" is not valid (its value is not shown), but must be false, or an object of options',
  ],
  [
    'a misspelt option from a factory',
    () => ({
      imports: [
        IdempotencyModule.forRootAsync({
          useFactory: () => Promise.resolve({ store: 'memory', lese: '30s' } as IdempotencyModuleOptions),
        }),
      ],
    }),
    `IdempotencyModule options: option "lese" is unknown (did you mean "lease"?): known are ${OF_THE_MODULE}`,
  ],
  [
    'a factory that gives nothing',
    () => ({ imports: [IdempotencyModule.forRootAsync({ useFactory: () => undefined as never })] }),
    'IdempotencyModule options: must be an object, not undefined',
  ],
  [
    'no factory',
    () => ({ imports: [IdempotencyModule.forRootAsync({})] }),
    'IdempotencyModule.forRootAsync: one of useFactory, useClass and useExisting is needed',
  ],
  [
    'no options for a factory at all',
    () => ({ imports: [IdempotencyModule.forRootAsync(undefined as never)] }),
    'IdempotencyModule.forRootAsync: must be an object, not undefined',
  ],
  [
    'a factory that is no function',
    () => ({ imports: [IdempotencyModule.forRootAsync({ useFactory: {} as never })] }),
    'IdempotencyModule.forRootAsync: option "useFactory" is {}, but must be a function',
  ],
  [
    'two sources of options',
    () => ({ imports: [IdempotencyModule.forRootAsync({ useFactory: () => ({}), useClass: Maker })] }),
    'IdempotencyModule.forRootAsync: useFactory and useClass exclude each other: remove one of the two',
  ],
  [
    'a misspelt option of forRootAsync()',
    () => ({ imports: [IdempotencyModule.forRootAsync({ useFactory: () => ({}), injects: [] } as object)] }),
    'IdempotencyModule.forRootAsync: option "injects" is unknown (did you mean "inject"?): known are imports, inject, ' +
      'useFactory, useClass, useExisting',
  ],
  [
    'an option of the module beside its factory',
    () => ({ imports: [IdempotencyModule.forRootAsync({ useFactory: () => ({}), lease: '9s' } as object)] }),
    'IdempotencyModule.forRootAsync: option "lease" is unknown here: it belongs to what the factory gives',
  ],
  [
    'a factory in forRoot()',
    () => ({ imports: [IdempotencyModule.forRoot({ useFactory: () => ({}) } as object)] }),
    'IdempotencyModule options: option "useFactory" is unknown here: it belongs to IdempotencyModule.forRootAsync()',
  ],
  [
    'an object in place of its class',
    () => ({ imports: [IdempotencyModule.forRootAsync({ useClass: new Maker() as never })] }),
    'IdempotencyModule.forRootAsync: option "useClass" is an instance of a class, but must be a class',
  ],
  [
    'a class that makes no options',
    () => ({ imports: [IdempotencyModule.forRootAsync({ useClass: Settings as never })] }),
    'IdempotencyModule: Settings has no method createIdempotencyOptions(), which `useClass` of forRootAsync() needs. Have ' +
      'it implement IdempotencyOptionsFactory.',
  ],
  [
    'an existing provider that makes no options',
    () => ({
      imports: [
        IdempotencyModule.forRootAsync({
          imports: [{ module: RootModule, providers: [Settings], exports: [Settings] }],
          useExisting: Settings as never,
        }),
      ],
    }),
    'IdempotencyModule: Settings has no method createIdempotencyOptions(), which `useExisting` of forRootAsync() needs. ' +
      'Have it implement IdempotencyOptionsFactory.',
  ],
  [
    'a class whose options are missing',
    () => ({ imports: [IdempotencyModule.forRootAsync({ useClass: Maker })] }),
    'IdempotencyModule options: must be an object, not undefined',
  ],
  [
    'a factory that fails for want of what it should get',
    () => ({
      imports: [
        IdempotencyModule.forRootAsync({ useFactory: ({ lease }: { lease: Duration }) => ({ lease }) }),
      ],
    }),
    'IdempotencyModule: useFactory of IdempotencyModule.forRootAsync() takes more arguments than `inject` has providers: name ' +
      "one for each. It failed with TypeError: Cannot destructure property 'lease' of 'undefined' as it is undefined.",
  ],
  [
    'a factory that rejects with an error, which stays as it is',
    () => ({
      imports: [IdempotencyModule.forRootAsync({ useFactory: () => Promise.reject(new Error('no SECRET')) })],
    }),
    'no SECRET',
  ],
  [
    'a factory that rejects with nothing',
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- it is the mistake
    () => ({ imports: [IdempotencyModule.forRootAsync({ useFactory: () => Promise.reject() })] }),
    'IdempotencyModule: useFactory of IdempotencyModule.forRootAsync() failed with undefined, which is not an Error. Throw one ' +
      'that says why.',
  ],
  [
    'a factory of the board that rejects with nothing',
    () => ({
      imports: [
        memory(),
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- it is the mistake
        IdempotencyBoardModule.forRootAsync({ useFactory: () => Promise.reject() }),
      ],
    }),
    'IdempotencyModule: useFactory of IdempotencyBoardModule.forRootAsync() failed with undefined, which is not an Error. ' +
      'Throw one that says why.',
  ],
  [
    'a factory of the board that gives nothing',
    () => ({
      imports: [memory(), IdempotencyBoardModule.forRootAsync({ useFactory: () => undefined as never })],
    }),
    'IdempotencyBoardModule.forRootAsync: must be an object, not undefined',
  ],
  ...[
    [IdempotencyModule, 'forRoot'] as const,
    [IdempotencyModule, 'forRootAsync'] as const,
    [IdempotencyTestingModule, 'forRoot'] as const,
    [IdempotencyBoardModule, 'forRoot'] as const,
    [IdempotencyBoardModule, 'forRootAsync'] as const,
  ].map<(typeof MISTAKES)[number]>(([type, method]) => [
    `${type.name}.${method} without its call`,
    () => ({ imports: [Reflect.get(type, method) as never] }),
    `IdempotencyModule: ${type.name}.${method} stands among imports without parentheses. Call it: ${type.name}.${method}().`,
  ]),
  [
    'the class of the testing module',
    () => ({ imports: [IdempotencyTestingModule] }),
    'IdempotencyModule: the class IdempotencyTestingModule itself was imported. Import IdempotencyTestingModule.forRoot().',
  ],
  [
    'the class of the board',
    () => ({ imports: [memory(), IdempotencyBoardModule] }),
    'IdempotencyModule: the class IdempotencyBoardModule itself was imported. Import IdempotencyBoardModule.forRoot() or ' +
      'forRootAsync(): `access` says who may look.',
  ],
  [
    'a misspelt option of a route',
    () => ({ imports: [memory()], controllers: [orders({ requierd: true })] }),
    `@Idempotent() on OrdersController.create: option "requierd" is unknown (did you mean "required"?): known are ${OF_ROUTES}`,
  ],
  [
    'an option of the module on a route',
    () => ({ imports: [memory()], controllers: [orders({ namespace: 'orders' })] }),
    '@Idempotent() on OrdersController.create: option "namespace" is unknown here: it belongs to IdempotencyModule.forRoot()',
  ],
  [
    'an option of a tier on a route',
    () => ({ imports: [memory()], controllers: [orders({ retention: '7d' })] }),
    '@Idempotent() on OrdersController.create: option "retention" is unknown (did you mean "postgres.retention" of ' +
      `IdempotencyModule.forRoot()?): known are ${OF_ROUTES}`,
  ],
  [
    'a value of a route that is none',
    () => ({ imports: [memory()], controllers: [orders({ inFlight: 'queue' })] }),
    "@Idempotent() on OrdersController.create: option \"inFlight\" is 'queue', but must be one of 'wait', 'reject'",
  ],
  [
    'options of a route that contradict each other',
    () => ({ imports: [memory()], controllers: [orders({ transaction: true, lease: '1m' })] }),
    '@Idempotent() on OrdersController.create: option "lease" contradicts "transaction": it claims nothing before its ' +
      'commit, so there is no lease. Remove one of the two',
  ],
  [
    'a misspelt option of a class',
    () => {
      @Controller()
      @Idempotent({ header: [] })
      class InvoicesController {}
      return { imports: [memory()], controllers: [InvoicesController] };
    },
    '@Idempotent() on InvoicesController: option "header" is [], but must be a header name or a list of them',
  ],
  [
    'a duration without a unit that there is',
    () => ({ imports: [memory({ lease: 'thirty seconds' as Duration })] }),
    'IdempotencyModule options: option "lease" is \'thirty seconds\', but must be a duration from 50 ms to 24 days, as ' +
      "milliseconds or a string such as '250ms', '30s' or '24h'",
  ],
  [
    'the class without forRoot()',
    () => ({ imports: [IdempotencyModule] }),
    'IdempotencyModule: the class itself was imported. Import IdempotencyModule.forRoot() or forRootAsync(), once, in ' +
      'the root module. It is global, so other modules can inject IdempotencyService without it.',
  ],
  [
    'the class without forRoot() beside the module with it',
    () => ({ imports: [memory(), IdempotencyModule] }),
    'IdempotencyModule: the class itself was imported. Import IdempotencyModule.forRoot() or forRootAsync(), once, in ' +
      'the root module. It is global, so other modules can inject IdempotencyService without it.',
  ],
  [
    'the module twice',
    () => ({ imports: [memory(), memory({ lease: '9s' })] }),
    'IdempotencyModule: it is imported twice. Import it once, in the root module: it is global. Options that hold for ' +
      'some routes only belong in @Idempotent() on their class or method.',
  ],
  [
    'no store at all',
    () => ({ imports: [IdempotencyModule.forRoot({ redis: false, postgres: false })] }),
    'IdempotencyModule options: redis and postgres are both disabled, so nothing could be recorded: enable at least one of them',
  ],
  [
    'the decorator on a property',
    () => {
      class PaymentsController {
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-assertion -- the compiler refuses it without
        @(Idempotent() as PropertyDecorator)
        create = (): void => undefined;
      }
      return { imports: [memory()], controllers: [PaymentsController] };
    },
    'IdempotencyModule: @Idempotent() stands on PaymentsController.create, which is not a method. Put it on the method that ' +
      'handles the route, or on its class.',
  ],
  [
    'the decorator on a static method',
    () => {
      @Controller()
      class PaymentsController {
        @Post()
        @Idempotent()
        static create(): void {
          return;
        }
      }
      return { imports: [memory()], controllers: [PaymentsController] };
    },
    'IdempotencyModule: @Idempotent() stands on PaymentsController.create, which Nest never calls as a route: it is static, ' +
      'or named by a symbol. Make it an ordinary method.',
  ],
  [
    'the decorator on a method that a symbol names',
    () => {
      const create = Symbol('create');
      @Controller()
      class PaymentsController {
        @Post()
        @Idempotent()
        [create](): void {
          return;
        }
      }
      return { imports: [memory()], controllers: [PaymentsController] };
    },
    'IdempotencyModule: @Idempotent() stands on PaymentsController.Symbol(create), which Nest never calls as a route: it is ' +
      'static, or named by a symbol. Make it an ordinary method.',
  ],
  [
    'the decorator on a helper of a controller',
    () => {
      @Controller()
      class PaymentsController {
        @Post()
        create(): void {
          this.pay();
        }

        @Idempotent()
        private pay(): void {
          return;
        }
      }
      return { imports: [memory()], controllers: [PaymentsController] };
    },
    'IdempotencyModule: PaymentsController.pay has @Idempotent(), but is not an HTTP route of a controller, so it would run ' +
      'unprotected. Protect its work with IdempotencyService.execute().',
  ],
  ...['@Mutation', '@SubscribeMessage'].map<(typeof MISTAKES)[number]>((decorator) => [
    `the decorator beside ${decorator}() of a provider`,
    () => {
      @Injectable()
      class Payments {
        // As both leave it there: metadata of the method.
        @SetMetadata(decorator, 'pay')
        @Idempotent()
        pay(): void {
          return;
        }
      }
      return { imports: [memory()], providers: [Payments] };
    },
    'IdempotencyModule: Payments.pay has @Idempotent(), but is not an HTTP route of a controller, so it would run unprotected. ' +
      'Protect its work with IdempotencyService.execute().',
  ]),
  [
    'the decorator on a class with a message handler',
    () => {
      @Controller()
      @Idempotent()
      class PaymentsController {
        @Post()
        create(): void {
          return;
        }

        @SetMetadata('microservices:pattern', ['pay'])
        pay(): void {
          return;
        }
      }
      return { imports: [memory()], controllers: [PaymentsController] };
    },
    'IdempotencyModule: PaymentsController.pay handles messages, and @Idempotent() on it or on its class protects HTTP ' +
      'requests alone. Decorate methods that handle no messages, and protect what messages do with ' +
      'IdempotencyService.execute().',
  ],
  [
    'the decorator without parentheses on a method',
    () => {
      class PaymentsController {
        @(Idempotent as unknown as MethodDecorator)
        create(): void {
          return;
        }
      }
      return { imports: [memory()], controllers: [PaymentsController] };
    },
    'IdempotencyModule: @Idempotent stands without parentheses. Write @Idempotent().',
  ],
  [
    'the decorator without parentheses on a class',
    () => {
      @(Idempotent as unknown as ClassDecorator)
      class PaymentsController {}
      return { imports: [memory()], controllers: [PaymentsController] };
    },
    'IdempotencyModule: @Idempotent stands without parentheses. Write @Idempotent().',
  ],
  [
    'the decorator on a service',
    () => {
      @Injectable()
      class PaymentsService {
        @Idempotent()
        pay(): void {
          return;
        }
      }
      return { imports: [memory()], providers: [PaymentsService] };
    },
    'IdempotencyModule: PaymentsService.pay has @Idempotent(), but is not an HTTP route of a controller, so it would run ' +
      'unprotected. Protect its work with IdempotencyService.execute().',
  ],
  [
    'the decorator on an event stream',
    () => {
      @Controller()
      class NewsController {
        @Sse('news')
        @Idempotent()
        news(): unknown {
          return NEVER;
        }
      }
      return { imports: [memory()], controllers: [NewsController] };
    },
    'IdempotencyModule: NewsController.news is an @Sse() route: an event stream has no end at which it could be ' +
      'recorded, so no retry could get it again. Remove @Idempotent() from it, and start what it reports with a POST route.',
  ],
];

describe('a mistake at start', () => {
  it.each(MISTAKES)('is told with its cause and its remedy: %s', async (_, parts, message) => {
    await expect(start(parts)).rejects.toThrow(expect.objectContaining({ message }) as Error);
  });

  it.each<[string, Record<string, string>, string]>([
    [
      'a value',
      { DISABLE_DB_IDEMPOTENCY_FALLBACK: 'ture' },
      "The environment: variable DISABLE_DB_IDEMPOTENCY_FALLBACK is 'ture', expected true, 1, yes or on, or false, 0, " +
        'no, off or nothing',
    ],
    [
      'a name',
      { DISABLE_DB_IDEMPOTENCY_FALBACK: 'true' },
      'The environment: variable DISABLE_DB_IDEMPOTENCY_FALBACK is unknown (did you mean ' +
        'DISABLE_DB_IDEMPOTENCY_FALLBACK?): correct its name, or remove it',
    ],
  ])('of the environment is told likewise: %s', async (_, environment, message) => {
    Object.assign(process.env, environment);
    try {
      await expect(start(() => ({ imports: [memory()] }))).rejects.toThrow(
        expect.objectContaining({ message }) as Error,
      );
    } finally {
      for (const name of Object.keys(environment)) Reflect.deleteProperty(process.env, name);
    }
  });

  it('is not found where there is none', async () => {
    await start(() => ({ imports: [memory()], controllers: [orders({ required: true })] }));
  });
});

describe('a mistake in execute()', () => {
  const OF_EXECUTE = [...Object.keys(policyOptions), 'scope', 'fingerprint', 'legacy'].join(', ');

  it.each<[string, object, string]>([
    [
      'a misspelt option',
      { fingerPrint: '' },
      `option "fingerPrint" is unknown (did you mean "fingerprint"?): known are ${OF_EXECUTE}`,
    ],
    [
      'an option of routes',
      { required: true },
      'option "required" is unknown here: it belongs to HTTP routes and the module',
    ],
    [
      'a value that is none',
      { legacy: { lookup: 'redis' } },
      'option "legacy.lookup" is \'redis\', but must be a function',
    ],
  ])('is told likewise: %s', async (_, options, message) => {
    const module = { module: RootModule, imports: [memory()] };
    const app = await NestFactory.createApplicationContext(module, { logger: false, abortOnError: false });
    try {
      await expect(app.get(IdempotencyService).execute('key', () => 1, options)).rejects.toThrow(
        expect.objectContaining({ message: `IdempotencyService.execute options: ${message}` }) as Error,
      );
    } finally {
      await app.close();
    }
  });
});

describe('a mistake that a request finds', () => {
  const log = new KeptLog();
  const answerOf = async (controller: Type, imports: DynamicModule[]): Promise<number> => {
    log.lines.length = 0;
    const app = await NestFactory.create(
      { module: RootModule, imports, controllers: [controller] },
      { logger: log },
    );
    try {
      await app.listen(0, '127.0.0.1');
      const url = (await app.getUrl()).replace('localhost', '127.0.0.1');
      const { status } = await call(`${url}/orders`, {
        headers: { 'idempotency-key': 'a' },
        body: { id: 7 },
      });
      return status;
    } finally {
      await app.close();
    }
  };

  it.each<[string, object, string]>([
    [
      'a key that is no string',
      { key: () => 7 },
      'The `key` option of OrdersController.create failed TypeError: The `key` option must return a string, or undefined ' +
        'where there is no key, not a number',
    ],
    [
      'a key whose source is not called, which would log the request',
      { key: fromBody },
      "The `key` option of OrdersController.create failed InvalidOptionsError: fromBody(): a value of type object is not a path, such as 'id' or 'data.id'",
    ],
    [
      'a key that throws',
      {
        key: () => {
          throw new Error('no event');
        },
      },
      'The `key` option of OrdersController.create failed Error: no event',
    ],
    [
      'a scope that names no caller',
      { scope: () => ({ tenant: 1 }) },
      'The `scope` option of OrdersController.create failed TypeError: The `scope` option must return a non-empty ' +
        'string, a number below 2^53, or a non-empty list of them; or undefined for callers that share their keys',
    ],
    [
      'a fingerprint that is no string',
      { fingerprint: () => undefined },
      'The `fingerprint` option of OrdersController.create failed TypeError: The `fingerprint` option must return a ' +
        'string (what must be equal in a retry), not undefined',
    ],
  ])('is a 500, and the log names class, method and option: %s', async (_, options, line) => {
    expect(await answerOf(orders(options), [memory()])).toBe(500);
    expect(log.lines.find((each) => each.includes('option of'))).toContain(line);
  });

  it('is a 500, and the log says what to import, where the module is missing', async () => {
    expect(await answerOf(orders({}), [])).toBe(500);
    expect(log.lines.join()).toContain(
      'OrdersController.create has @Idempotent(), but this application has no IdempotencyModule before its routes, so it ' +
        'would run unprotected. Import IdempotencyModule.forRoot() in the root module; it cannot be loaded lazily, ' +
        'nor come from another installed copy of this package than the decorator. In a test, import ' +
        'IdempotencyTestingModule.forRoot() of nestjs-idempotency/testing.',
    );
  });

  it('is a 500, and the log names the cause, where decorator and module come from two copies of the package', async () => {
    let another = Idempotent;
    jest.isolateModules(() => {
      another = jest.requireActual<{ Idempotent: typeof Idempotent }>('../../lib').Idempotent;
    });
    expect(another).not.toBe(Idempotent);
    @Controller('orders')
    class OrdersController {
      @Post()
      @another()
      create(): void {
        return;
      }
    }
    expect(await answerOf(OrdersController, [memory()])).toBe(500);
    expect(log.lines.join()).toContain(
      'nor come from another installed copy of this package than the decorator',
    );
  });
});
