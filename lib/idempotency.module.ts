import {
  Inject,
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type ModuleMetadata,
  type NestModule,
  type OnApplicationShutdown,
  type OnModuleInit,
  type Provider,
} from '@nestjs/common';
import { ApplicationConfig } from '@nestjs/core';
import { AuditLog } from './admin/audit-log';
import { IdempotencyAdmin } from './admin/idempotency-admin';
import { RecordAdmin } from './admin/record-admin';
import { Digest } from './core/digest';
import { IdempotencySetupError } from './core/errors';
import { IdempotencyService } from './idempotency.service';
import type { Metrics, RequestObserver } from './core/ports';
import { Protocol } from './core/protocol';
import { ProtocolService } from './protocol.service';
import { observeStart } from './http/handler/handler-start';
import { callDirectly } from './http/handler/direct-handler';
import { dropModuleDemand, isWatchedAlone, watchHandler } from './http/handler/handler-interceptors';
import { Explainer } from './http/explainer';
import { IdempotencyInterceptor } from './http/idempotency.interceptor';
import { document } from './http/routes/openapi';
import { RouteExplorer, type ProtectedRoute } from './http/routes/route-explorer';
import { RoutePatterns } from './http/routes/route-patterns';
import { RouteOptionsReader } from './http/routes/route-options';
import { RouteSelectors } from './http/request/caller/route-selectors';
import { ScopeResolver } from './http/request/caller/scope';
import { IdempotencyHealth, ReportedHealth } from './observability/health';
import { metricProviders } from './observability/metric-providers';
import { channelObserver } from './observability/channels';
import { IdempotencyMetrics } from './observability/metrics';
import { RequestObservers } from './observability/observers';
import { tracedProtocol, tracedStore, tracedTransactions } from './observability/traced';
import { openTracing, Tracing } from './observability/tracing';
import { asyncOptionProviders, type IdempotencyModuleAsyncOptions } from './options/async-options';
import type { IdempotencyModuleOptions } from './options/idempotency.options';
import { MODULE_SETTINGS } from './options/module-settings';
import { refuseUncalled } from './options/refused-imports';
import { resolveModuleOptions, type ModuleSettings } from './options/resolve';
import { OwnStoreProvider } from './store/own-store.provider';
import { PostgresProvider } from './store/postgres/postgres.provider';
import { RedisProvider } from './store/redis/redis.provider';
import { TransactionProvider } from './transaction/transaction.provider';
import { TieredStoreService } from './store/tiered-store.service';

const MODULE_OPTIONS = Symbol('nestjs-idempotency:options');

/** In-flight requests get this long (ms) to be recorded at shutdown, and the background writes a last try after it. */
const DRAIN_TIMEOUT = 2_500;
const LAST_WRITES_TIMEOUT = 500;

/** What the module's constructor takes. */
const PARTS = [IdempotencyInterceptor, Protocol, TieredStoreService, TransactionProvider, RouteExplorer];

/** The providers of the bare class. Those of `forRoot()` come after them, and take their place. */
const withoutOptions: Provider[] = PARTS.map((provide) => ({
  provide,
  useFactory: () => {
    throw new IdempotencySetupError(
      'the class itself was imported. Import IdempotencyModule.forRoot() or forRootAsync(), once, in the root module. ' +
        'It is global, so other modules can inject IdempotencyService without it.',
    );
  },
}));

/**
 * Makes routes marked with `@Idempotent()` safe to retry. Import it once, in the root module, beside
 * `RedisModule` (`@nestjs-modules/ioredis`) and `TypeOrmModule`, or with clients of your own: `redis: { client }` and
 * `postgres: { pool }`.
 */
@Module({ providers: withoutOptions })
export class IdempotencyModule
  implements NestModule, OnModuleInit, BeforeApplicationShutdown, OnApplicationShutdown
{
  private readonly protectedRoutes: readonly ProtectedRoute[];

  /** @internal */
  constructor(
    @Inject(ApplicationConfig) private readonly application: ApplicationConfig,
    @Inject(IdempotencyInterceptor) private readonly interceptor: IdempotencyInterceptor,
    @Inject(Protocol) private readonly protocol: Protocol,
    @Inject(TieredStoreService) private readonly store: TieredStoreService,
    @Inject(TransactionProvider) private readonly transactions: TransactionProvider,
    @Inject(RouteExplorer) private readonly explorer: RouteExplorer,
    @Inject(RoutePatterns) private readonly patterns: RoutePatterns,
    @Inject(IdempotencyMetrics) private readonly metrics: Metrics,
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
  ) {
    // Here, as there is no later moment that is early enough: applications make their OpenAPI document before they listen.
    this.protectedRoutes = explorer.explore().map((route) => {
      const handler = observeStart(route.type, route.handler);
      watchHandler(handler);
      dropModuleDemand(route.type);
      document({ ...route, handler });
      return { ...route, handler };
    });
  }

  /**
   * @throws InvalidOptionsError, naming the option, its value and what is allowed; at start
   * IdempotencySetupError if the Redis connection, the DataSource, the table or a package is missing
   */
  static forRoot(options: IdempotencyModuleOptions = {}): DynamicModule {
    resolveModuleOptions(options); // fails here, where the caller stands, rather than inside Nest's container
    return moduleWith([{ provide: MODULE_OPTIONS, useValue: options }]);
  }

  /**
   * As {@link forRoot}, with options from a factory, or from a class that has `createIdempotencyOptions()`.
   * @throws InvalidOptionsError for what is given here; at start for what the factory gives, and IdempotencySetupError as
   * {@link forRoot}
   */
  static forRootAsync(options: IdempotencyModuleAsyncOptions): DynamicModule {
    return moduleWith(asyncOptionProviders(MODULE_OPTIONS, options), options.imports);
  }

  /** Puts our interceptor before all others: a replay must not pass through those that shaped the response already. */
  configure(): void {
    const interceptors = this.application.getGlobalInterceptors();
    if (interceptors.some((each) => each instanceof IdempotencyInterceptor)) {
      throw new IdempotencySetupError(
        'it is imported twice. Import it once, in the root module: it is global. Options that hold for some routes ' +
          'only belong in @Idempotent() on their class or method.',
      );
    }
    interceptors.unshift(this.interceptor);
    const isAlone = interceptors.length === 1 && this.application.getGlobalRequestInterceptors().length === 0;
    if (isAlone) this.callHandlersDirectly();
  }

  async onModuleInit(): Promise<void> {
    this.explorer.refuseMade();
    if (this.settings.metrics.routeLabel)
      this.metrics.labelRoutes(this.protectedRoutes.flatMap((route) => this.patterns.of(route)));
    await this.store.open();
    this.transactions.watch();
    if (this.protectedRoutes.every(({ options }) => options.policy.transaction === false)) return;
    await this.transactions.open().catch(async (error: unknown) => {
      await this.store.close(0);
      throw error;
    });
  }

  /** Those that have no other interceptors around them. */
  private callHandlersDirectly(): void {
    for (const { type, name, handler } of this.protectedRoutes)
      if (isWatchedAlone(type, handler))
        for (const controller of this.explorer.controllersOf(type)) callDirectly(controller, name);
  }

  beforeApplicationShutdown(): void {
    this.protocol.stopWaiting();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.protocol.drain(DRAIN_TIMEOUT);
    await this.store.close(LAST_WRITES_TIMEOUT);
  }
}

function moduleWith(optionProviders: Provider[], imports: ModuleMetadata['imports'] = []): DynamicModule {
  return {
    module: IdempotencyModule,
    global: true,
    imports,
    providers: [
      ...optionProviders,
      {
        provide: MODULE_SETTINGS,
        inject: [MODULE_OPTIONS],
        useFactory: (options: IdempotencyModuleOptions) => resolveModuleOptions(options, process.env),
      },
      {
        provide: Digest,
        inject: [MODULE_SETTINGS],
        useFactory: (settings: ModuleSettings) => new Digest(settings),
      },
      ...metricProviders(),
      {
        provide: Tracing,
        inject: [MODULE_SETTINGS],
        useFactory: ({ tracing }: ModuleSettings) => openTracing(tracing),
      },
      {
        provide: RequestObservers,
        inject: [IdempotencyMetrics, Tracing],
        useFactory: (metrics: Partial<RequestObserver>, tracing: Tracing | undefined) =>
          new RequestObservers([metrics, channelObserver, ...(tracing ? [tracing] : [])]),
      },
      RedisProvider,
      PostgresProvider,
      OwnStoreProvider,
      TieredStoreService,
      TransactionProvider,
      {
        provide: Protocol,
        inject: [TieredStoreService, RequestObservers, MODULE_SETTINGS, TransactionProvider, Tracing],
        useFactory: (
          store: TieredStoreService,
          observers: RequestObservers,
          { bounds }: ModuleSettings,
          transactions: TransactionProvider,
          tracing: Tracing | undefined,
        ) =>
          tracing
            ? new Protocol(
                tracedStore(store, tracing),
                observers,
                bounds,
                tracedTransactions(transactions, tracing),
              )
            : new Protocol(store, observers, bounds, transactions),
      },
      {
        provide: IdempotencyService,
        inject: [Protocol, TieredStoreService, MODULE_SETTINGS, Digest, Tracing],
        useFactory: (
          protocol: Protocol,
          store: TieredStoreService,
          settings: ModuleSettings,
          digest: Digest,
          tracing: Tracing | undefined,
        ) =>
          new ProtocolService(
            tracing ? tracedProtocol(protocol, tracing) : protocol,
            store,
            settings,
            digest,
          ),
      },
      {
        provide: IdempotencyAdmin,
        inject: [TieredStoreService, Digest, MODULE_SETTINGS, Protocol, Explainer],
        useFactory: (
          store: TieredStoreService,
          digest: Digest,
          { audit }: ModuleSettings,
          { traffic }: Protocol,
          explainer: Explainer,
        ) =>
          new RecordAdmin({
            store,
            digest,
            audit: new AuditLog(audit),
            traffic,
            explain: (request) => explainer.explain(request),
          }),
      },
      RouteOptionsReader,
      RouteExplorer,
      RoutePatterns,
      RouteSelectors,
      ScopeResolver,
      Explainer,
      IdempotencyInterceptor,
      {
        provide: IdempotencyHealth,
        inject: [TieredStoreService],
        useFactory: (store: TieredStoreService) => new ReportedHealth(() => store.health()),
      },
    ],
    exports: [IdempotencyService, IdempotencyAdmin, IdempotencyHealth],
  };
}

refuseUncalled(IdempotencyModule, 'forRoot', 'forRootAsync');
