import {
  Controller,
  Get,
  Injectable,
  Module,
  Post,
  RequestMethod,
  SetMetadata,
  Sse,
  type Provider,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EMPTY } from 'rxjs';
import { IdempotencyModule, Idempotent } from '../../../lib';
import { KeptLog } from '../../support/log';
import { appModule, type TestAppOptions } from '../../support/app';

/** Starts an application as far as the module looks at its routes; no store is asked before that. */
async function created(options: Pick<TestAppOptions, 'controllers' | 'providers'>): Promise<void> {
  const module = appModule({ redisUrl: 'redis://127.0.0.1:1', ...options });
  await NestFactory.create(module, { logger: false, abortOnError: false });
}

@Module({})
class RootModule {}

/** Starts one as far as `onModuleInit()` goes, when all its providers are there. */
async function started(providers: Provider[], controllers: Type[] = []): Promise<void> {
  const imports = [IdempotencyModule.forRoot({ store: 'memory' })];
  const app = await NestFactory.create(
    { module: RootModule, imports, providers, controllers },
    { logger: false, abortOnError: false },
  );
  try {
    await app.init();
  } finally {
    await app.close();
  }
}

@Controller()
class StreamController {
  @Sse('stream')
  @Idempotent()
  stream() {
    return EMPTY;
  }
}

/** Nest lets an event stream be a POST. */
@Controller()
@Idempotent()
class PostedStreamController {
  @Sse('stream', { method: RequestMethod.POST })
  stream() {
    return EMPTY;
  }
}

@Controller()
@Idempotent()
class OnlyGetController {
  @Get()
  read(): number {
    return 1;
  }
}

@Controller()
@Idempotent()
class OnlyStreamController {
  @Sse('stream')
  stream() {
    return EMPTY;
  }
}

@Controller()
@Idempotent()
class SafeStreamController {
  @Sse('stream')
  stream() {
    return EMPTY;
  }

  @Post()
  create(): void {
    return;
  }
}

abstract class BaseController {
  @Get('base')
  @Idempotent()
  create(): void {
    return;
  }
}

@Controller()
class InheritingController extends BaseController {
  @Sse('own')
  own() {
    return EMPTY;
  }
}

@Controller()
class HelperController {
  @Idempotent()
  helper(): void {
    return;
  }
}

@Injectable()
class Consumer {
  @Idempotent()
  consume(): void {
    return;
  }
}

@Injectable()
@Idempotent()
class Resolver {}

/** Shares the code of a controller whose class is decorated, as a provider. */
@Injectable()
class ExtendingProvider extends SafeStreamController {}

/** The same of a base whose method is decorated. */
@Injectable()
class ExtendingByMethod extends BaseController {}

/** What `@MessagePattern()` leaves on a method. */
@Controller()
@Idempotent()
class MessagesController {
  @SetMetadata('microservices:pattern', ['lead'])
  consume(): void {
    return;
  }
}

@Controller()
@Idempotent()
class HybridController {
  @Post()
  create(): void {
    return;
  }

  @SetMetadata('microservices:pattern', ['lead'])
  consume(): void {
    return;
  }
}

/** Inherits what protects its route, and nothing that protects its messages. */
@Controller()
class InheritingHybridController extends SafeStreamController {
  @SetMetadata('microservices:pattern', ['lead'])
  consume(): void {
    return;
  }
}

@Controller()
class BothController {
  @Post()
  @SetMetadata('microservices:pattern', ['lead'])
  @Idempotent()
  consume(): void {
    return;
  }
}

@Controller()
class PlainHybridController {
  @Post()
  @Idempotent()
  create(): void {
    return;
  }

  @SetMetadata('microservices:pattern', ['lead'])
  consume(): void {
    return;
  }
}

@Idempotent()
abstract class DecoratedBase {}

@Controller()
class RoutelessController extends DecoratedBase {}

@Controller()
@Idempotent()
class OnlyInheritingController extends BaseController {}

describe('an application with @Idempotent() where it cannot hold', () => {
  it.each<[string, Type, RegExp]>([
    [
      'an @Sse() route',
      StreamController,
      /StreamController\.stream is an @Sse\(\) route.*Remove @Idempotent/,
    ],
    [
      'an @Sse() route by POST, by its class',
      PostedStreamController,
      /PostedStreamController\.stream is an @Sse/,
    ],
    [
      'a method that is no route',
      HelperController,
      /HelperController\.helper has @Idempotent\(\), but is not an HTTP route/,
    ],
    [
      'a controller that has no route',
      MessagesController,
      /MessagesController has @Idempotent\(\), but is not an HTTP route/,
    ],
    [
      'a message handler, by its class',
      HybridController,
      /HybridController\.consume handles messages.*HTTP requests alone.*IdempotencyService\.execute/,
    ],
    [
      'a message handler, by a base class',
      InheritingHybridController,
      /Controller\.consume handles messages/,
    ],
    ['a message handler that is a route as well', BothController, /BothController\.consume handles messages/],
  ])('is refused at start: %s', async (_, controller, message) => {
    await expect(created({ controllers: [controller] })).rejects.toThrow(message);
  });

  it.each<[string, Type, RegExp]>([
    ['a method of a provider', Consumer, /Consumer\.consume has @Idempotent.*IdempotencyService\.execute/],
    ['a provider', Resolver, /Resolver has @Idempotent/],
  ])('is refused at start: %s', async (_, provider, message) => {
    await expect(created({ providers: [provider] })).rejects.toThrow(message);
  });

  it.each<[string, Provider]>([
    ['a factory', { provide: 'consumer', useFactory: () => new Consumer() }],
    ['a factory that takes its time', { provide: 'consumer', useFactory: async () => new Consumer() }],
    ['a value', { provide: 'consumer', useValue: new Consumer() }],
  ])('is refused at start where a class is known by its instance alone: %s', async (_, provider) => {
    await expect(started([provider])).rejects.toThrow(/Consumer\.consume has @Idempotent/);
  });

  it('starts where a provider is a controller, a plain object or a proxy that tells nothing of its class', async () => {
    const silent = new Proxy(new Consumer(), {
      getPrototypeOf: () => {
        throw new Error('not in a request');
      },
    });
    await started(
      [
        InheritingController,
        { provide: 'same', useExisting: InheritingController },
        { provide: 'plain', useValue: { consume: () => undefined } },
        { provide: 'bare', useValue: Object.create(null) as object },
        { provide: 'silent', useFactory: () => silent },
      ],
      [InheritingController],
    );
  });

  it('starts where a controller has messages beside decorated routes', async () => {
    await created({ controllers: [PlainHybridController] });
  });

  it('starts where a decorated class has a stream by GET, which is left alone as every GET is', async () => {
    await created({ controllers: [SafeStreamController, InheritingController] });
  });

  it.each<[string, Type]>([
    ['GET', OnlyGetController],
    ['a stream by GET', OnlyStreamController],
  ])('warns of a decorated class whose only route is %s', async (_, controller) => {
    const log = new KeptLog();
    await NestFactory.create(
      {
        module: RootModule,
        imports: [IdempotencyModule.forRoot({ store: 'memory' })],
        controllers: [controller],
      },
      { logger: log, abortOnError: false },
    );
    expect(log.lines.join()).toContain(`@Idempotent() on ${controller.name} protects nothing`);
  });

  it('starts where a provider extends a decorated controller, by its class or by its method', async () => {
    await created({
      controllers: [SafeStreamController],
      providers: [ExtendingProvider, ExtendingByMethod],
    });
  });

  it('starts where a controller is a provider alone, as in the test of a unit: it has no route to run unprotected', async () => {
    await started([SafeStreamController, InheritingController]);
    await started([
      { provide: SafeStreamController, useValue: new SafeStreamController() },
      { provide: InheritingController, useFactory: () => new (class extends InheritingController {})() },
    ]);
  });

  it('starts where a value hides the methods of its class', async () => {
    function Hiding(): void {
      return;
    }
    const refuse = (): never => {
      throw new Error('not in a request');
    };
    Hiding.prototype = new Proxy({ constructor: Hiding }, { ownKeys: refuse });
    await started([{ provide: 'hiding', useValue: Object.create(Hiding.prototype) as object }]);
  });

  it('starts where a decorated controller has its routes from its base, or its base is decorated', async () => {
    await created({ controllers: [OnlyInheritingController, RoutelessController] });
  });

  it('starts where a controller is also a provider, and where providers are made in any way', async () => {
    const providers = [
      InheritingController,
      { provide: 'value', useValue: null },
      { provide: 'factory', useFactory: () => undefined },
      {
        provide: 'function',
        useFactory: function made(): unknown {
          return undefined;
        },
      },
    ];
    await created({ controllers: [InheritingController], providers });
  });
});
