import { Injectable, type ExecutionContext, type Type } from '@nestjs/common';
import { HOST_METADATA } from '@nestjs/common/constants';
import { ApplicationConfig, HttpAdapterHost } from '@nestjs/core';
import type { IncomingMessage } from 'node:http';
import { rawRequest, type PlatformRequest } from '../../platform';
import { requestedVersion } from '../requested-version';
import type { Handler } from '../../platform';
import type { ScopeSelectors } from './scope-text';

/** Where `@RouteConstraints()` of `@nestjs/platform-fastify` leaves them: the package is not always there. */
const CONSTRAINTS_METADATA = '__fastify_route_constraints__';

type Constraints = readonly (readonly [name: string, matched: unknown])[];

/** How Fastify reads a constraint's value from a request. A third parameter means that it answers later. */
interface ConstraintStrategy {
  deriveConstraint(request: IncomingMessage, context?: unknown): unknown;
}

type Strategies = Readonly<Record<string, ConstraintStrategy | undefined>>;

interface FastifyConfig {
  readonly constraints?: Strategies;
  readonly routerOptions?: { readonly constraints?: Strategies };
}

/** Finds what led a request to its handler besides method and path. Routes that differ in it are different resources. */
@Injectable()
export class RouteSelectors {
  private readonly hosted = new WeakMap<Type, boolean>();
  private readonly constrained = new WeakMap<Handler, Constraints>();

  constructor(
    private readonly adapterHost: HttpAdapterHost,
    private readonly application: ApplicationConfig,
  ) {}

  of(context: ExecutionContext, request: PlatformRequest): ScopeSelectors {
    const raw = rawRequest(request);
    const version = requestedVersion(raw, this.application.getVersioning());
    const constraints = this.constraintsOf(context.getHandler());
    return {
      host: this.hostOf(context.getClass(), request, constraints),
      version,
      constraints: constraints.length > 0 ? this.derived(constraints, raw, version !== undefined) : undefined,
    };
  }

  private hostOf(type: Type, request: PlatformRequest, constraints: Constraints): string | undefined {
    const { headers } = rawRequest(request);
    if (constraints.some(([name]) => name === 'host'))
      return headers.host ?? (headers[':authority'] as string | undefined) ?? '';
    if (!this.isHosted(type)) return undefined;
    return (this.adapterHost.httpAdapter.getRequestHostname(request) as string | undefined) ?? '';
  }

  private isHosted(type: Type): boolean {
    let hosted = this.hosted.get(type);
    // Nest sets it on every controller, most often to undefined.
    if (hosted === undefined)
      this.hosted.set(type, (hosted = Reflect.getMetadata(HOST_METADATA, type) !== undefined));
    return hosted;
  }

  private constraintsOf(handler: Handler): Constraints {
    let constraints = this.constrained.get(handler);
    if (!constraints) {
      const metadata = Reflect.getMetadata(CONSTRAINTS_METADATA, handler) as object | undefined;
      this.constrained.set(handler, (constraints = Object.entries(metadata ?? {})));
    }
    return constraints;
  }

  private derived(
    constraints: Constraints,
    raw: IncomingMessage,
    versioned: boolean,
  ): Record<string, unknown> | undefined {
    const values: Record<string, unknown> = {};
    for (const [name, matched] of constraints) {
      if (name === 'host' || (name === 'version' && versioned)) continue;
      values[name] = this.derive(name, raw) ?? matched;
    }
    return Object.keys(values).length > 0 ? values : undefined;
  }

  /** Undefined where the value is not a plain one, or where Fastify does not say how it is derived. */
  private derive(name: string, raw: IncomingMessage): unknown {
    const { initialConfig } = this.adapterHost.httpAdapter.getInstance<{ initialConfig?: FastifyConfig }>();
    const { constraints, routerOptions } = initialConfig ?? {};
    const strategy = routerOptions?.constraints?.[name] ?? constraints?.[name];
    if (!strategy) return name === 'version' ? raw.headers['accept-version'] : undefined;
    const value = strategy.deriveConstraint.length > 2 ? undefined : strategy.deriveConstraint(raw);
    return ['string', 'number', 'bigint', 'boolean'].includes(typeof value) || Array.isArray(value)
      ? value
      : undefined;
  }
}
