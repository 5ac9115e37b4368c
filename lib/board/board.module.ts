import {
  Inject,
  Logger,
  Module,
  type DynamicModule,
  type InjectionToken,
  type OnApplicationBootstrap,
  type Provider,
} from '@nestjs/common';
import { HttpAdapterHost, type AbstractHttpAdapter } from '@nestjs/core';
import { IdempotencyAdmin } from '../admin/idempotency-admin';
import { IdempotencySetupError } from '../core/errors';
import { IdempotencyHealth } from '../observability/health';
import { AccessGuard, BOARD_OPTIONS } from './access.guard';
import { Board } from './board';
import { boardController } from './board.controller';
import {
  checkAsyncModuleOptions,
  checkModuleOptions,
  checkOptions,
  type BoardOptions,
  type BoardPlace,
  type IdempotencyBoardModuleAsyncOptions,
  type IdempotencyBoardModuleOptions,
} from './board.options';
import { factoryProvider } from '../options/factory-provider';
import { refuseUncalled } from '../options/refused-imports';
import { FORM_TYPE } from './form';
import { HotKeys } from './hot-keys';
import { ProcessCounts } from './process-counts';

/** Fastify's, as far as it is asked. Express has no such method, and the board reads the form. */
interface WithParsers {
  hasContentTypeParser?(type: string): boolean;
}

/** The providers of the bare class, in whose place those of `forRoot()` come. */
const withoutOptions: Provider[] = [
  {
    provide: Board,
    useFactory: () => {
      throw new IdempotencySetupError(
        'the class IdempotencyBoardModule itself was imported. Import IdempotencyBoardModule.forRoot() or forRootAsync(): ' +
          '`access` says who may look.',
      );
    },
  },
];

/**
 * A board in the browser, beside `IdempotencyModule`: records, orphans and how this process fares, for operators. Put it
 * behind the guards of your application, and say in `access` who may look and who may change records.
 */
@Module({ providers: withoutOptions })
export class IdempotencyBoardModule implements OnApplicationBootstrap {
  private readonly logger = new Logger('Idempotency');

  /** @internal */
  constructor(
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
    // eslint-disable-next-line @typescript-eslint/no-unused-vars -- the bare class fails by it
    @Inject(Board) _board: Board,
  ) {}

  /** @throws InvalidOptionsError, also without `access` */
  static forRoot(options: IdempotencyBoardModuleOptions): DynamicModule {
    checkModuleOptions(options);
    return moduleWith(options, { provide: BOARD_OPTIONS, useValue: options });
  }

  /**
   * As {@link forRoot}, with `access` and the others from a factory. Nest has to know path and guards before it.
   * @throws InvalidOptionsError; at start for what the factory gives
   */
  static forRootAsync(options: IdempotencyBoardModuleAsyncOptions): DynamicModule {
    checkAsyncModuleOptions(options);
    return moduleWith(
      options,
      factoryProvider('IdempotencyBoardModule.forRootAsync', BOARD_OPTIONS, options, checkOptions),
    );
  }

  onApplicationBootstrap(): void {
    // An application context without a server has none.
    const adapter = this.host.httpAdapter as AbstractHttpAdapter | undefined;
    const framework = adapter?.getInstance<WithParsers | undefined>();
    if (framework?.hasContentTypeParser?.(FORM_TYPE) === false)
      this.logger.warn(
        'Fastify parses no forms in this application, so the board shows records and cannot change them. Leave ' +
          'bodyParser on, or register @fastify/formbody.',
      );
  }
}

function moduleWith(place: BoardPlace, optionsProvider: Provider): DynamicModule {
  const optional = (token: InjectionToken) => ({ token, optional: true });
  return {
    module: IdempotencyBoardModule,
    imports: place.imports,
    controllers: [boardController(place)],
    providers: [
      optionsProvider,
      AccessGuard,
      ProcessCounts,
      HotKeys,
      {
        provide: Board,
        inject: [
          optional(IdempotencyAdmin),
          optional(IdempotencyHealth),
          ProcessCounts,
          HotKeys,
          BOARD_OPTIONS,
        ],
        useFactory: (
          admin: IdempotencyAdmin | undefined,
          health: IdempotencyHealth | undefined,
          counts: ProcessCounts,
          hotKeys: HotKeys,
          options: BoardOptions,
        ) => {
          if (admin && health) return new Board(admin, health, counts, hotKeys, options);
          throw new IdempotencySetupError(
            'IdempotencyBoardModule shows what IdempotencyModule does. Import IdempotencyModule.forRoot() or ' +
              'forRootAsync() in the root module as well.',
          );
        },
      },
    ],
  };
}

refuseUncalled(IdempotencyBoardModule, 'forRoot', 'forRootAsync');
