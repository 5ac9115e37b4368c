import {
  Controller,
  Get,
  Module,
  Patch,
  Post,
  RequestMethod,
  Version,
  VERSION_NEUTRAL,
  VersioningType,
  type DynamicModule,
  type INestApplication,
} from '@nestjs/common';
import { RouterModule } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { fromBody, Idempotent } from 'nestjs-idempotency';
import { expectProtected, IdempotencyTestingModule } from 'nestjs-idempotency/testing';
import { call } from '../support/http';

@Controller('leads')
@Idempotent({ lease: '1m' })
class LeadsController {
  @Get()
  list(): string {
    return 'list';
  }

  @Post()
  @Idempotent({ required: true, onOrphan: 'reject' })
  create(): string {
    return 'create';
  }

  @Patch([':id', ':id/name'])
  change(): string {
    return 'change';
  }
}

@Controller({ path: ['hooks', 'callbacks'], version: ['1', VERSION_NEUTRAL] })
class HooksController {
  @Post('stripe')
  @Idempotent({ key: fromBody('id'), record: (status) => status === 200 })
  stripe(): string {
    return 'stripe';
  }

  @Post('other')
  other(): string {
    return 'unprotected';
  }

  @Version('2')
  @Post('paypal')
  @Idempotent()
  paypal(): string {
    return 'paypal';
  }
}

@Controller({ path: 'tenant', host: 'acme.example' })
class TenantController {
  @Post()
  @Idempotent({ transaction: { timeout: '5s' } })
  create(): string {
    return 'tenant';
  }
}

@Controller('ping')
class PingController {
  @Post()
  @Idempotent()
  ping(): string {
    return 'ping';
  }
}

@Module({})
class GeneratedModule {
  static register(): DynamicModule {
    return { module: GeneratedModule, controllers: [TenantController] };
  }
}

@Module({ controllers: [HooksController] })
class HooksModule {}

@Module({
  imports: [
    IdempotencyTestingModule.forRoot({ maxKeyLength: 64 }),
    HooksModule,
    GeneratedModule.register(),
    RouterModule.register([{ path: 'partners', module: HooksModule }]),
  ],
  controllers: [PingController, LeadsController],
})
class AppModule {}

type Configure = (app: INestApplication) => void;

const inUri: Configure = (app) => {
  app.setGlobalPrefix('api', { exclude: [{ path: 'ping', method: RequestMethod.POST }] });
  app.enableVersioning({ type: VersioningType.URI, defaultVersion: '3' });
};
const inHeader: Configure = (app) => {
  app.setGlobalPrefix('/api/');
  app.enableVersioning({ type: VersioningType.HEADER, header: 'X-Version', defaultVersion: '3' });
};

describe.each(['express', 'fastify'])('the protected routes of an application on %s', (platform) => {
  let app: INestApplication;
  const start = async (configure: Configure): Promise<void> => {
    const built = await Test.createTestingModule({ imports: [AppModule] }).compile();
    app =
      platform === 'fastify'
        ? built.createNestApplication(new FastifyAdapter(), { logger: false })
        : built.createNestApplication({ logger: false });
    configure(app);
    await app.init();
  };
  afterEach(() => app.close());

  const routes = (): string[] => expectProtected(app).map(({ route }) => route);

  it('are listed by path, with what method, class and module set', async () => {
    await start(() => undefined);
    const module = { maxKeyLength: 64 };
    const stripe = { ...module, key: "fromBody('id')", record: 'record' };
    const [leads, tenant] = [
      { ...module, lease: '1m' },
      { ...module, transaction: { timeout: '5s' } },
    ];
    expect(expectProtected(app)).toEqual([
      {
        route: 'POST /leads',
        handler: 'LeadsController.create',
        options: { ...leads, required: true, onOrphan: 'reject' },
      },
      { route: 'PATCH /leads/:id', handler: 'LeadsController.change', options: leads },
      { route: 'PATCH /leads/:id/name', handler: 'LeadsController.change', options: leads },
      { route: 'POST /partners/callbacks/paypal', handler: 'HooksController.paypal', options: module },
      { route: 'POST /partners/callbacks/stripe', handler: 'HooksController.stripe', options: stripe },
      { route: 'POST /partners/hooks/paypal', handler: 'HooksController.paypal', options: module },
      { route: 'POST /partners/hooks/stripe', handler: 'HooksController.stripe', options: stripe },
      { route: 'POST /ping', handler: 'PingController.ping', options: module },
      {
        route: 'POST /tenant',
        host: 'acme.example',
        handler: 'TenantController.create',
        options: tenant,
      },
    ]);
    expect(expectProtected(app)).toEqual(expectProtected(app));
  });

  it('have the global prefix and the versions that are in the path', async () => {
    await start(inUri);
    expect(routes()).toEqual([
      'POST /api/partners/callbacks/stripe',
      'POST /api/partners/hooks/stripe',
      'POST /api/v1/partners/callbacks/stripe',
      'POST /api/v1/partners/hooks/stripe',
      'POST /api/v2/partners/callbacks/paypal',
      'POST /api/v2/partners/hooks/paypal',
      'POST /api/v3/leads',
      'PATCH /api/v3/leads/:id',
      'PATCH /api/v3/leads/:id/name',
      'POST /api/v3/tenant',
      'POST /v3/ping',
    ]);
  });

  it('have the versions that are not in the path beside it', async () => {
    await start(inHeader);
    const versions = expectProtected(app).map(({ route, version }) => [route, version]);
    expect(versions).toContainEqual(['POST /api/partners/hooks/stripe', '1, neutral']);
    expect(versions).toContainEqual(['POST /api/partners/hooks/paypal', '2']);
    expect(versions).toContainEqual(['POST /api/leads', '3']);
  });

  it.each([
    ['in the path', inUri],
    ['in a header', inHeader],
  ])('are where Nest serves them: versions %s', async (_, configure) => {
    await start(configure);
    await app.listen(0, '127.0.0.1');
    const url = await app.getUrl();
    for (const { route, version, host } of expectProtected(app)) {
      const [method, path = ''] = route.split(' ');
      const headers = {
        'idempotency-key': 'k',
        ...(version ? { 'x-version': version.split(', ')[0]! } : {}),
        ...(host ? { host } : {}),
      };
      const { status } = await call(url + path.replace(':id', '7'), { method, headers, body: { id: route } });
      expect([route, status]).toEqual([route, method === 'POST' ? 201 : 200]);
    }
  });
});

it('an application without the module has no protected routes to list', async () => {
  const app = await Test.createTestingModule({ controllers: [PingController] }).compile();
  expect(() => expectProtected(app)).toThrow(/the application under test does not import it/);
});
