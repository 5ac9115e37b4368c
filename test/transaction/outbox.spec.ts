import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Body, Controller, Injectable, Post } from '@nestjs/common';
import { InjectRepository, TypeOrmModule } from '@nestjs/typeorm';
import { Repository } from 'typeorm';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { Lead } from '../fixtures/outbox/lead.entity';
import { LeadsController } from '../fixtures/outbox/leads.controller';
import { OutboxMessage } from '../fixtures/outbox/outbox-message.entity';
import { OutboxRelay, Publisher } from '../fixtures/outbox/outbox.relay';
import { startApp, type TestApp } from '../support/app';
import { sql } from '../support/database';
import { call, isReplay } from '../support/http';

/** The outbox as docs/guide/transactions.md makes it. */
const OUTBOX = /```sql\n(CREATE TABLE outbox .*?)```/s.exec(
  readFileSync(join(__dirname, '../../docs/guide/transactions.md'), 'utf8'),
)![1]!;
const TABLES = `CREATE TABLE outbox_leads (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL); ${OUTBOX}`;

/** The other service: what it does for a message is done once for the message's id. */
@Controller('welcome')
class WelcomeController {
  static readonly welcomed: string[] = [];

  @Post()
  @Idempotent({ required: true })
  welcome(@Body() { name }: { name: string }): { welcomed: string } {
    WelcomeController.welcomed.push(name);
    return { welcomed: name };
  }
}

@Injectable()
class HttpPublisher extends Publisher {
  url = '';
  readonly sent: string[] = [];
  /** What happens to the relay's process once the message is with the other service. */
  afterSent = (): void => undefined;

  override async publish({ id, payload }: OutboxMessage): Promise<void> {
    await call(`${this.url}/welcome`, { headers: { 'idempotency-key': id }, body: payload });
    this.sent.push(id);
    this.afterSent();
  }
}

@Controller('failing-leads')
class FailingController extends LeadsController {
  constructor(
    @InjectRepository(Lead) leads: Repository<Lead>,
    @InjectRepository(OutboxMessage) outbox: Repository<OutboxMessage>,
  ) {
    super(leads, outbox);
  }

  @Post()
  @Idempotent({ required: true, transaction: true })
  override async create(body: { name: string }): Promise<Lead> {
    await super.create(body);
    throw new Error('failed after its effects');
  }
}

describe('an outbox row in the transaction of the request', () => {
  let server: RunningPostgres;
  let app: TestApp;
  let publisher: HttpPublisher;
  let relay: OutboxRelay;
  beforeAll(async () => {
    server = await startPostgres();
    await sql(server.url, TABLES);
    app = await startApp({
      databaseUrl: server.url,
      imports: [TypeOrmModule.forFeature([Lead, OutboxMessage])],
      controllers: [LeadsController, FailingController, WelcomeController],
      providers: [OutboxRelay, { provide: Publisher, useClass: HttpPublisher }],
    });
    publisher = app.app.get<HttpPublisher>(Publisher);
    publisher.url = app.url;
    relay = app.app.get(OutboxRelay);
  });
  afterAll(async () => {
    await app.close();
    await server.stop();
  });
  beforeEach(async () => {
    await sql(server.url, 'DELETE FROM outbox');
    WelcomeController.welcomed.length = 0;
    publisher.sent.length = 0;
    publisher.afterSent = () => undefined;
  });
  const create = (key: string, path = '/leads'): ReturnType<typeof call> =>
    app.call(path, { headers: { 'idempotency-key': key }, body: { name: `lead of ${key}` } });

  it('is there once for a request and all its retries, and its message is sent once', async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => create('retried')));
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201, 201]);
    expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1);
    await relay.relay();
    await relay.relay();
    expect(publisher.sent).toHaveLength(1);
    expect(WelcomeController.welcomed).toEqual(['lead of retried']);
  });

  it('is not there if the handler fails after it has written it', async () => {
    expect((await create('failing', '/failing-leads')).status).toBe(500);
    await relay.relay();
    expect(publisher.sent).toEqual([]);
  });

  it('is sent again by the next relay if one ends between the sending and the commit; the receiver knows its id', async () => {
    await create('crash');
    publisher.afterSent = () => {
      throw new Error('the relay has ended');
    };
    await expect(relay.relay()).rejects.toThrow('the relay has ended');
    publisher.afterSent = () => undefined;
    await relay.relay();
    expect(publisher.sent).toHaveLength(2);
    expect(new Set(publisher.sent).size).toBe(1);
    expect(WelcomeController.welcomed).toEqual(['lead of crash']);
  });

  it('is sent once by many relays at once', async () => {
    await Promise.all(Array.from({ length: 8 }, (_, index) => create(`many ${index}`)));
    await Promise.all([relay.relay(), relay.relay(), relay.relay()]);
    expect(publisher.sent).toHaveLength(8);
    expect(WelcomeController.welcomed).toHaveLength(8);
  });
});
