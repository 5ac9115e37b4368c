import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import {
  Body,
  ConflictException,
  Controller,
  Inject,
  Post,
  RequestTimeoutException,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { catchError, throwError, timeout, type Observable } from 'rxjs';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../lib';
import type { Platform } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';

let held: Gate | undefined;
let refused: unknown[] = [];

class Impatient implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      timeout(50),
      catchError(() => throwError(() => new RequestTimeoutException())),
    );
  }
}

@Controller()
@Idempotent({ transaction: true })
class OrdersController {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  @Post('orders')
  async create(@Body() { fails }: { fails?: boolean }): Promise<void> {
    await this.dataSource.query('SELECT 1');
    await held?.pass();
    if (fails) throw new ConflictException();
  }

  @Post('slow')
  @Idempotent({ transaction: { timeout: 300 } })
  async slow(): Promise<void> {
    await this.create({});
  }

  @Post('impatient')
  @UseInterceptors(Impatient)
  async impatient(): Promise<void> {
    await this.create({});
  }
}

/** A log of all requests, which nothing awaits. */
function logsAccess(dataSource: DataSource) {
  return (_: unknown, response: ServerResponse, next: () => void): void => {
    for (const event of ['finish', 'close'])
      response.on(event, () => {
        dataSource
          .query('INSERT INTO access (event) VALUES ($1)', [event])
          .catch((error: unknown) => refused.push(error));
      });
    next();
  };
}

describe.each<Platform>(['express', 'fastify'])(
  'middleware that writes once the response has gone, on %s',
  (platform) => {
    const servers = appOnServers({
      platform,
      controllers: [OrdersController],
      configure: (nest) => void nest.use(logsAccess(nest.get(DataSource))),
    });
    beforeAll(() => sql(servers.postgres.url, 'CREATE TABLE access (event text)'));
    beforeEach(async () => {
      refused = [];
      held = undefined;
      await sql(servers.postgres.url, 'TRUNCATE access');
    });
    afterEach(() => held?.open());

    it.each([
      ['ends well', '/orders', {}, 201],
      ['fails', '/orders', { fails: true }, 409],
      ['takes longer than its transaction may', '/slow', {}, 503],
      ['is answered for by a time-out', '/impatient', {}, 408],
    ])('is outside of the transaction of a handler that %s', async (_, path, body, status) => {
      if (status === 503 || status === 408) held = gate();
      const headers = { 'Idempotency-Key': randomUUID() };
      expect((await servers.app.call(path, { headers, body })).status).toBe(status);
      await eventually(async () => {
        const events = await sql(servers.postgres.url, 'SELECT event FROM access ORDER BY event');
        expect([refused, events]).toEqual([[], [{ event: 'close' }, { event: 'finish' }]]);
      });
    });
  },
);
