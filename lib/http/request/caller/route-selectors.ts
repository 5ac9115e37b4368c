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
  readonly name: string;
  deriveConstraint(request: IncomingMessage, context?: unknown): unknown;
}

/** Their own names count for the router, and not those that they have here. */
type Strategies = Readonly<Record<string, ConstraintStrategy>>;

interface FastifyConfig {
  readonly constraints?: Strategies;
  readonly routerOptions?: { readonly constraints?: Strategies };
}

/** Finds what led a request to its handler besides method and path. Routes that differ in it are different resources. */
@Injectable()
export class RouteSelectors {
  private readonly hosted = new WeakMap<Type, boolean>();
  private readonly constrained = new WeakMap<Handler, Constraints>();
  private strategies: ReadonlyMap<string, ConstraintStrategy> | undefined;

  constructor(
    private readonly adapterHost: HttpAdapterHost,
    private readonly application: ApplicationConfig,
  ) {}

  of(context: ExecutionContext, request: PlatformRequest): ScopeSelectors {
    const raw = rawRequest(request);
    const version = requestedVersion(raw, this.application.getVersioning());
    const constraints = this.valuesOf(context.getHandler(), raw, version !== undefined);
    // Where a controller has a host and its handler a constraint on one, they may be read from different headers.
    if (this.isHosted(context.getClass())) {
      const host = this.adapterHost.httpAdapter.getRequestHostname(request) as string | undefined;
      return { host: host ?? '', version, constraints };
    }
    if (typeof constraints?.host !== 'string' || this.strategyOf('host')) return { version, constraints };
    const { host, ...others } = constraints;
    return { host, version, constraints: others };
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

  private valuesOf(
    handler: Handler,
    raw: IncomingMessage,
    versioned: boolean,
  ): Record<string, unknown> | undefined {
    const constraints = this.constraintsOf(handler);
    if (constraints.length === 0) return undefined;
    const values: Record<string, unknown> = {};
    for (const [name, matched] of constraints)
      if (name !== 'version' || !versioned) values[name] = this.derive(name, matched, raw);
    return values;
  }

  /** What the route says, where Fastify does not say how the value is derived, or where it is known only later. */
  private derive(name: string, matched: unknown, raw: IncomingMessage): unknown {
    const strategy = this.strategyOf(name);
    if (strategy) return strategy.deriveConstraint.length > 2 ? matched : strategy.deriveConstraint(raw);
    return name === 'host' ? (raw.headers.host ?? raw.headers[':authority'] ?? '') : matched;
  }

  private strategyOf(name: string): ConstraintStrategy | undefined {
    if (!this.strategies) {
      const { initialConfig } = this.adapterHost.httpAdapter.getInstance<{ initialConfig?: FastifyConfig }>();
      const { constraints, routerOptions } = initialConfig ?? {};
      const all = Object.values({ ...constraints, ...routerOptions?.constraints });
      this.strategies = new Map(all.map((each) => [each.name, each]));
    }
    return this.strategies.get(name);
  }
}
