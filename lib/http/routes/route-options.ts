import { Inject, Injectable, type ExecutionContext, type Type } from '@nestjs/common';
import type { IdempotencyOptions } from '../../options/idempotency.options';
import { MODULE_SETTINGS } from '../../options/module-settings';
import {
  assertPostgres,
  merge,
  resolveRouteOptions,
  type ModuleSettings,
  type RouteOptions,
} from '../../options/resolve';
import { optionsOf } from '../handler/idempotent-metadata';
import { SAFE_METHODS } from '../handler/unprotected';
import { requestOf, type Handler } from '../platform';

/** The options of one handler, by the kind of HTTP method that it is called with. */
interface Resolved {
  readonly safe?: RouteOptions;
  readonly others?: RouteOptions;
}

/** Reads what `@Idempotent()` says of a route, and resolves it once per handler and class. */
@Injectable()
export class RouteOptionsReader {
  private readonly resolved = new WeakMap<Handler, WeakMap<Type, Resolved>>();

  constructor(@Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings) {}

  /** The module's, for routes that are not protected. */
  get documentation(): string | undefined {
    return this.settings.defaults.documentation;
  }

  /** Undefined if the route of this request is not protected. */
  read(context: ExecutionContext): RouteOptions | undefined {
    const { method } = requestOf(context);
    return this.of(context.getClass(), context.getHandler(), method);
  }

  /**
   * Undefined if the handler is not protected when it is called with this HTTP method.
   * @throws InvalidOptionsError
   */
  of(type: Type, handler: Handler, method: string): RouteOptions | undefined {
    let byClass = this.resolved.get(handler);
    if (!byClass) this.resolved.set(handler, (byClass = new WeakMap()));
    let resolved = byClass.get(type);
    if (!resolved) byClass.set(type, (resolved = this.resolve(type, handler)));
    return SAFE_METHODS.has(method) ? resolved.safe : resolved.others;
  }

  /** What method, class and module set for a handler, by option, each as the nearest of them has it. */
  given(type: Type, handler: Handler): IdempotencyOptions {
    return merge([optionsOf(handler) ?? {}, optionsOf(type) ?? {}, this.settings.defaults]);
  }

  private resolve(type: Type, handler: Handler): Resolved {
    const onMethod = optionsOf(handler);
    const onClass = optionsOf(type);
    if (!onMethod && !onClass) return {};
    const where = `@Idempotent() on ${type.name}.${handler.name}`;
    const others = resolveRouteOptions(where, onMethod ?? {}, onClass ?? {}, this.settings.defaults);
    assertPostgres(where, others.policy, this.settings);
    return onMethod ? { safe: others, others } : { others };
  }
}
