import { Module, type INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  expectOnce,
  expectProtected,
  IdempotencyTesting,
} from 'nestjs-idempotency/testing';
import request from 'supertest';
import type { App } from 'supertest/types';
import { AppModule, StoresModule } from './../src/app.module';
import { LeadsService } from './../src/leads.service';

@Module({})
class NoStoresModule {}

describe('AppModule (e2e)', () => {
  let app: INestApplication<App>;
  let idempotency: IdempotencyTesting;
  const leads = () => app.get(LeadsService).leads.length;

  beforeAll(async () => {
    const moduleFixture = await IdempotencyTesting.replaceIn(
      Test.createTestingModule({ imports: [AppModule] })
        .overrideModule(StoresModule)
        .useModule(NoStoresModule),
    ).compile();
    app = moduleFixture.createNestApplication({ rawBody: true });
    app.setGlobalPrefix('api');
    await app.init();
    idempotency = IdempotencyTesting.of(app);
  });

  afterAll(() => app.close());
  beforeEach(() => idempotency.reset());

  it('creates one lead, however often the request comes', async () => {
    const answer = await expectOnce(
      app,
      {
        path: '/api/leads',
        headers: { Authorization: 'acme:7', 'Idempotency-Key': 'lead-1' },
        body: { name: 'Ada' },
      },
      { duplicates: 3, effects: { leads } },
    );
    expect(answer.status).toBe(201);
    expect(JSON.parse(answer.text)).toMatchObject({ name: 'Ada' });
  });

  it('keeps the keys of users apart', async () => {
    const send = (user: string) =>
      request(app.getHttpServer())
        .post('/api/leads')
        .set({ Authorization: user, 'Idempotency-Key': 'lead-2' })
        .send({ name: 'Grace' })
        .expect(201);
    const [one, other, again] = [
      await send('acme:7'),
      await send('acme:8'),
      await send('acme:7'),
    ];
    expect(other.text).not.toBe(one.text);
    expect(again.text).toBe(one.text);
    expect(again.headers['idempotent-replayed']).toBe('true');
  });

  it('takes the event id of a webhook, sent with supertest', async () => {
    const answer = await expectOnce(
      app,
      () =>
        request(app.getHttpServer())
          .post('/api/webhooks/stripe')
          .send({ id: 'evt_1', name: 'Ada' }),
      { effects: leads },
    );
    expect(answer.status).toBe(201);
  });

  it('takes the delivery id of a webhook', async () => {
    await expectOnce(
      app,
      {
        path: '/api/webhooks/github',
        headers: { 'X-GitHub-Delivery': '72d3162e' },
        body: { name: 'Ada' },
      },
      { scenarios: ['twice', 'at once', 'after a lost reply'] },
    );
  });

  it('finds a crash that doubles an effect', async () => {
    await expect(
      expectOnce(
        app,
        {
          path: '/api/webhooks/github',
          headers: { 'X-GitHub-Delivery': '72d3162e' },
          body: { name: 'Ada' },
        },
        { effects: { leads } },
      ),
    ).rejects.toThrow('`leads` happened 2 times');
  });

  it('finds a route that was forgotten', async () => {
    await expect(
      expectOnce(app, {
        path: '/api/webhooks/forgotten',
        headers: { 'Idempotency-Key': 'k' },
      }),
    ).rejects.toThrow('lacks @Idempotent()');
  });

  it('has these routes protected', () => {
    expect(expectProtected(app)).toMatchInlineSnapshot(`
[
  {
    "handler": "LeadsController.create",
    "options": {
      "required": true,
      "scope": "byUser",
      "transaction": true,
    },
    "route": "POST /api/leads",
  },
  {
    "handler": "WebhooksController.github",
    "options": {
      "key": "fromHeader('X-GitHub-Delivery')",
      "required": true,
    },
    "route": "POST /api/webhooks/github",
  },
  {
    "handler": "WebhooksController.stripe",
    "options": {
      "fingerprint": "rawBody",
      "key": "fromBody('id')",
      "onOrphan": "reject",
      "required": true,
      "scope": "scope",
    },
    "route": "POST /api/webhooks/stripe",
  },
]
`);
  });

  it('is healthy while the store answers', async () => {
    const { body } = (await request(app.getHttpServer())
      .get('/api/health')
      .expect(200)) as { body: unknown };
    expect(body).toMatchObject({
      status: 'ok',
      info: { idempotency: { status: 'up', store: 'up' } },
    });
    idempotency.storeDown();
    const { body: down } = (await request(app.getHttpServer())
      .get('/api/health')
      .expect(503)) as { body: unknown };
    expect(down).toMatchObject({ error: { idempotency: { status: 'down' } } });
  });
});
