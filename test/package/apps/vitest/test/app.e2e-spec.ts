import {
  FastifyAdapter,
  type NestFastifyApplication,
} from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import {
  expectOnce,
  expectProtected,
  IdempotencyTesting,
  IdempotencyTestingModule,
} from 'nestjs-idempotency/testing';
import { leads, LeadsController, LeadsModule } from './../src/leads.module.js';

describe('LeadsModule (e2e)', () => {
  let app: NestFastifyApplication;
  const effects = { leads: () => leads.length };

  beforeEach(async () => {
    const moduleFixture = await Test.createTestingModule({
      imports: [IdempotencyTestingModule.forRoot(), LeadsModule],
    }).compile();
    app = moduleFixture.createNestApplication<NestFastifyApplication>(
      new FastifyAdapter(),
    );
    await app.init();
  });

  afterEach(async () => {
    await app.close();
  });

  it('creates one lead', async () => {
    const answer = await expectOnce(
      app,
      { path: '/leads', body: { id: 'lead-1', name: 'Ada' } },
      { effects },
    );
    expect(answer.status).toBe(201);
    expect(IdempotencyTesting.of(app).records()).toEqual([]);
  });

  it('creates one lead, sent with inject()', async () => {
    const payload = { id: 'lead-2', name: 'Grace' };
    const answer = await expectOnce(
      app,
      () => app.inject({ method: 'POST', url: '/leads', payload }),
      { effects, duplicates: 5 },
    );
    expect(answer.statusCode).toBe(201);
  });

  it('bills once', async () => {
    await expectOnce(app, () => app.get(LeadsController).bill('invoice-1'), {
      effects,
    });
  });

  it('has these routes protected', () => {
    expect(expectProtected(app)).toMatchInlineSnapshot(`
      [
        {
          "handler": "LeadsController.create",
          "options": {
            "key": "fromBody('id')",
            "onOrphan": "reject",
            "required": true,
          },
          "route": "POST /leads",
        },
      ]
    `);
  });

  it('is healthy while the store answers', async () => {
    const health = () => app.inject({ url: '/health' });
    expect((await health()).statusCode).toBe(200);
    IdempotencyTesting.of(app).storeDown();
    expect((await health()).statusCode).toBe(503);
  });
});
