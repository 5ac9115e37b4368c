import {
  Controller,
  Get,
  Injectable,
  Post,
  RequestMethod,
  SetMetadata,
  Sse,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EMPTY } from 'rxjs';
import { Idempotent } from '../../../lib';
import { appModule, type TestAppOptions } from '../../support/app';

/** Starts an application as far as the module looks at its routes; no store is asked before that. */
async function created(options: Pick<TestAppOptions, 'controllers' | 'providers'>): Promise<void> {
  const module = appModule({ redisUrl: 'redis://127.0.0.1:1', ...options });
  await NestFactory.create(module, { logger: false, abortOnError: false });
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

/** What `@MessagePattern()` leaves on a method. */
@Controller()
@Idempotent()
class MessagesController {
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
  ])('is refused at start: %s', async (_, controller, message) => {
    await expect(created({ controllers: [controller] })).rejects.toThrow(message);
  });

  it.each<[string, Type, RegExp]>([
    ['a method of a provider', Consumer, /Consumer\.consume has @Idempotent.*IdempotencyService\.execute/],
    ['a provider', Resolver, /Resolver has @Idempotent/],
  ])('is refused at start: %s', async (_, provider, message) => {
    await expect(created({ providers: [provider] })).rejects.toThrow(message);
  });

  it('starts where a decorated class has a stream by GET, which is left alone as every GET is', async () => {
    await created({ controllers: [SafeStreamController, InheritingController] });
  });

  it('starts where a provider extends a decorated controller, which is refused on a provider itself', async () => {
    await created({ controllers: [SafeStreamController], providers: [ExtendingProvider] });
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
