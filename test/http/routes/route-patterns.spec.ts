import { All, Controller, Module, Post, Put, VersioningType, type DynamicModule } from '@nestjs/common';
import { RouterModule } from '@nestjs/core';
import { register } from 'prom-client';
import { Idempotent } from '../../../lib';
import { startApp, type TestApp, type TestAppOptions } from '../../support/app';
import { metric } from '../../support/metrics';

@Controller({ path: 'leads', version: ['1', '2'] })
@Idempotent()
class LeadsController {
  @Post(':id')
  create(): string {
    return 'created';
  }

  @Put(['first', 'second'])
  put(): string {
    return 'put';
  }

  @All('all/:name')
  all(): string {
    return 'all';
  }
}

@Controller('notes')
class NotesController {
  @Post()
  @Idempotent()
  create(): string {
    return 'created';
  }

  @Put()
  unprotected(): string {
    return 'put';
  }
}

@Module({ controllers: [NotesController] })
class NotesModule {}

@Module({})
class RootModule {}

const withNotes: DynamicModule = {
  module: RootModule,
  imports: [NotesModule, RouterModule.register([{ path: 'office', module: NotesModule }])],
};

const NAME = 'idempotency_requests_total';
const labels = async (): Promise<Set<string>> => {
  const { values } = await register.getSingleMetric(NAME)!.get();
  return new Set(values.flatMap(({ labels: { route } }) => (route === undefined ? [] : [String(route)])));
};
const executed = (route: string): Promise<number> => metric(NAME, { outcome: 'executed', route });

describe('the label `route`', () => {
  let app: TestApp;
  let keys = 0;
  const start = async (options: TestAppOptions): Promise<void> => {
    app = await startApp({
      ...options,
      options: { store: 'memory', ...options.options },
      configure: (nest) => {
        nest.setGlobalPrefix('api');
        nest.enableVersioning({ type: VersioningType.URI, defaultVersion: '1' });
      },
    });
  };
  const send = async (method: string, path: string): Promise<void> => {
    const headers = { 'Idempotency-Key': `route-${++keys}` };
    expect((await app.call(path, { method, headers })).status).toBeLessThan(300);
  };
  afterEach(() => app.close());

  it.each(['express', 'fastify'] as const)('is there before the first request, on %s', async (platform) => {
    await start({ platform, controllers: [LeadsController], imports: [withNotes] });
    const routes = {
      'POST /api/v1/leads/:id': ['POST', '/api/v1/leads/17'],
      'POST /api/v2/leads/:id': ['POST', '/api/v2/leads/18'],
      'PUT /api/v1/leads/second': ['PUT', '/api/v1/leads/second'],
      'POST /api/v1/office/notes': ['POST', '/api/v1/office/notes'],
    } as const;
    const before = await labels();
    expect([...before]).toEqual(expect.arrayContaining(Object.keys(routes)));
    expect(before).not.toContain('PUT /api/v1/office/notes');
    for (const [route, [method, path]] of Object.entries(routes)) {
      const count = await executed(route);
      await send(method, path);
      expect(await executed(route)).toBe(count + 1);
    }
    expect(await labels()).toEqual(before);
  });

  it('has the method of the request for a route of all methods', async () => {
    await start({ controllers: [LeadsController] });
    await send('PATCH', '/api/v1/leads/all/alice');
    expect(await executed('PATCH /api/v1/leads/all/:name')).toBe(1);
    expect(await register.metrics()).not.toContain('alice');
  });

  it('is left out where an option says so', async () => {
    await start({ controllers: [LeadsController], options: { routeLabel: false } });
    const count = await executed('POST /api/v1/leads/:id');
    const all = await metric(NAME, { outcome: 'executed' });
    await send('POST', '/api/v1/leads/17');
    expect(await executed('POST /api/v1/leads/:id')).toBe(count);
    expect(await metric(NAME, { outcome: 'executed' })).toBe(all + 1);
  });

  it('has 200 values at most; what is past them shares one', async () => {
    class ManyController {
      readonly routes = 210;
    }
    Controller('many')(ManyController);
    for (let each = 0; each < 210; each++) {
      const descriptor = { value: (): string => 'done', configurable: true, writable: true };
      Object.defineProperty(ManyController.prototype, `route${each}`, descriptor);
      Post(`${each}`)(ManyController.prototype, `route${each}`, descriptor);
      Idempotent()(ManyController.prototype, `route${each}`, descriptor);
    }
    await start({ controllers: [ManyController] });
    await send('POST', '/api/v1/many/0');
    await send('POST', '/api/v1/many/208');
    await send('POST', '/api/v1/many/209');
    expect(await executed('POST /api/v1/many/0')).toBe(1);
    expect(await executed('other')).toBe(2);
    expect((await labels()).size).toBe(201);
  });
});
