import { Injectable, Logger, RequestMethod, type Type } from '@nestjs/common';
import { METHOD_METADATA, PATH_METADATA, SSE_METADATA } from '@nestjs/common/constants';
import { MetadataScanner, ModulesContainer } from '@nestjs/core';
import { IdempotencySetupError } from '../../core/errors';
import type { RouteOptions } from '../../options/resolve';
import { optionsOf, ownOptionsOf } from '../handler/idempotent-metadata';
import type { Handler } from '../platform';
import { RouteOptionsReader } from './route-options';

/** A route that `@Idempotent()` protects, as it is known before the first request. */
export interface ProtectedRoute {
  readonly type: Type;
  /** What its method is called in the class. */
  readonly name: string;
  readonly handler: Handler;
  readonly options: RouteOptions;
}

/** What `@MessagePattern()` and `@EventPattern()` of @nestjs/microservices leave on a method. */
const PATTERN_METADATA = 'microservices:pattern';

/** Finds the protected routes of the application, so that what cannot be protected is refused at start. */
@Injectable()
export class RouteExplorer {
  private readonly scanner = new MetadataScanner();
  private readonly logger = new Logger('Idempotency');

  constructor(
    private readonly modules: ModulesContainer,
    private readonly reader: RouteOptionsReader,
  ) {}

  /**
   * @throws IdempotencySetupError for an event stream, for a decorated method that is not an HTTP route, for a decorated
   * class that has none, and for a message handler that is decorated, or is in a decorated class
   * @throws InvalidOptionsError
   */
  explore(): ProtectedRoute[] {
    const modules = [...this.modules.values()];
    const controllers = new Set(modules.flatMap(({ controllers: each }) => classesIn(each)));
    const others = modules
      .flatMap(({ providers }) => classesIn(providers))
      .filter((type) => !controllers.has(type));
    for (const type of others) this.refuse(type);
    return [...controllers].flatMap((type) => this.routesOf(type));
  }

  /**
   * Of providers that a factory makes, or that are given as values, the class is not known before they are there.
   * @throws IdempotencySetupError as {@link explore}
   */
  refuseMade(): void {
    const modules = [...this.modules.values()];
    const explored = new Set(
      modules.flatMap(({ controllers, providers }) => [...classesIn(controllers), ...classesIn(providers)]),
    );
    const made = modules
      .flatMap(({ providers }) => [...providers.values()])
      .map(({ instance }) => classOf(instance))
      .filter((type) => type !== undefined);
    for (const type of new Set(made)) if (!explored.has(type) && this.isReadable(type)) this.refuse(type);
  }

  /** The controllers of a class, unless Nest makes one for each request. */
  controllersOf(type: Type): object[] {
    return [...this.modules.values()]
      .flatMap(({ controllers }) => [...controllers.values()])
      .filter((wrapper) => wrapper.metatype === type && wrapper.isDependencyTreeStatic())
      .map(({ instance }) => instance);
  }

  private routesOf(type: Type): ProtectedRoute[] {
    const methods = this.methodsOf(type);
    const isDecorated = ownOptionsOf(type) !== undefined;
    if (isDecorated && !methods.some(({ handler }) => isRoute(handler))) throw noRoute(type.name);
    const routes = methods.flatMap(({ name, handler }) => {
      if (Reflect.hasMetadata(PATTERN_METADATA, handler) && (optionsOf(handler) ?? optionsOf(type)))
        throw messageHandler(`${type.name}.${handler.name}`);
      if (!isRoute(handler)) {
        if (optionsOf(handler)) throw noRoute(`${type.name}.${handler.name}`);
        return [];
      }
      const method = Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod;
      const options = this.reader.of(type, handler, RequestMethod[method]);
      if (!options) return [];
      if (Reflect.hasMetadata(SSE_METADATA, handler)) throw eventStream(`${type.name}.${handler.name}`);
      return [{ type, name, handler, options }];
    });
    if (isDecorated && routes.length === 0) this.logger.warn(onlySafe(type.name));
    return routes;
  }

  /**
   * A resolver, gateway or service does not pass through here: taken for protected, it would run unprotected. A controller
   * that is a provider, as in the test of a unit, or a class that extends one, is meant for HTTP, where it has no route.
   */
  private refuse(type: Type): void {
    const methods = this.methodsOf(type);
    const isController = methods.some(({ handler }) => isRoute(handler));
    if (ownOptionsOf(type) && !isController) throw noRoute(type.name);
    const decorated = methods.find(({ handler }) => optionsOf(handler) && !isRoute(handler));
    if (decorated) throw noRoute(`${type.name}.${decorated.name}`);
  }

  /** False for a class of which a proxy hides the methods: an application may provide anything. */
  private isReadable(type: Type): boolean {
    try {
      this.methodsOf(type);
      return true;
    } catch {
      return false;
    }
  }

  private methodsOf({ prototype }: Type): Pick<ProtectedRoute, 'name' | 'handler'>[] {
    const methods = prototype as Record<string, Handler>;
    return this.scanner.getAllMethodNames(methods).flatMap((name) => {
      const handler = methods[name];
      return handler ? [{ name, handler }] : [];
    });
  }
}

function isRoute(method: Handler): boolean {
  return Reflect.hasMetadata(PATH_METADATA, method);
}

function classesIn(wrappers: ReadonlyMap<unknown, { readonly metatype: unknown }>): Type[] {
  return [...wrappers.values()].map(({ metatype }) => metatype).filter(isClass);
}

/** Providers may also be values, or made by functions that have no prototype. */
function isClass(metatype: unknown): metatype is Type {
  return (
    typeof metatype === 'function' && typeof metatype.prototype === 'object' && metatype.prototype !== null
  );
}

/** Undefined for what is not an instance of a class, and for a proxy that tells nothing of it. */
function classOf(instance: unknown): Type | undefined {
  if (typeof instance !== 'object' || instance === null) return undefined;
  try {
    const prototype = Object.getPrototypeOf(instance) as { readonly constructor?: unknown } | null;
    const type = prototype?.constructor;
    return isClass(type) && type.prototype === prototype ? type : undefined;
  } catch {
    return undefined;
  }
}

function messageHandler(where: string): IdempotencySetupError {
  return new IdempotencySetupError(
    `${where} handles messages, and @Idempotent() on it or on its class protects HTTP requests alone. Decorate methods ` +
      'that handle no messages, and protect what messages do with IdempotencyService.execute().',
  );
}

function eventStream(where: string): IdempotencySetupError {
  return new IdempotencySetupError(
    `${where} is an @Sse() route: an event stream has no end at which it could be recorded, so no retry could get ` +
      'it again. Remove @Idempotent() from it, and start what it reports with a POST route.',
  );
}

function onlySafe(where: string): string {
  return (
    `@Idempotent() on ${where} protects nothing: on a class it protects POST, PUT, PATCH and DELETE, and this one has ` +
    'GET routes only. Remove it, or put it on the methods that are to run once.'
  );
}

function noRoute(where: string): IdempotencySetupError {
  return new IdempotencySetupError(
    `${where} has @Idempotent(), but is not an HTTP route of a controller, so it would run unprotected. Protect its work ` +
      'with IdempotencyService.execute().',
  );
}
