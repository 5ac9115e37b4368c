import { RedisModule, type RedisModuleOptions } from '@nestjs-modules/ioredis';
import { Controller, Get, Headers, Module, Post, UseInterceptors } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Cluster, Redis } from 'ioredis';
import { register } from 'prom-client';
import {
  CreateIdempotencyCache1764000000015,
  httpScope,
  IdempotencyAdmin,
  Idempotent,
  IdempotencyClaim,
  IdempotencyHealth,
  IdempotencyModule,
  type IdempotencyContext,
  type IdempotencyModuleOptions,
} from 'nestjs-idempotency';
import { RecordFirstInterceptor, RecordLastInterceptor } from '../../fixtures/marks';
import type { FromApp } from '../../support/processes';
import { Effect } from './effect';
import { Worker, type Deletion } from './worker';

/*
 * One of the rig's application processes. DATABASE_URL, REDIS_URL (none: without Redis; `cluster://…,…` and
 * `sentinel://…,…/name` have any number of addresses), OPTIONS (the module's, as JSON) and LEDGER (the file that
 * executions are written to). It tells its parent over IPC when it listens and when a handler runs; a handler that is
 * told to `hold` goes on when the parent says so. CHANGED is the mode of one route.
 */
const { DATABASE_URL = '', REDIS_URL = '', OPTIONS = '{}', CHANGED = 'lease' } = process.env;

/** Less than a client waits for, and more than any handler takes. */
const TRANSACTION_TIMEOUT = '6s';

@Controller()
class WorkController {
  constructor(
    private readonly idempotency: IdempotencyHealth,
    private readonly worker: Worker,
    private readonly admin: IdempotencyAdmin,
  ) {}

  @Post('retry')
  @Idempotent({ required: true, onOrphan: 'retry' })
  retry(@Headers('x-work') work: string, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.worker.work('retry', work, claim);
  }

  @Post('reject')
  @Idempotent({ required: true, onOrphan: 'reject' })
  reject(@Headers('x-work') work: string, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.worker.work('reject', work, claim);
  }

  @Post('fast')
  @Idempotent({ required: true, durability: 'fast' })
  fast(@Headers('x-work') work: string, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.worker.work('fast', work, claim);
  }

  @Post('transaction')
  @Idempotent({ required: true, transaction: { timeout: TRANSACTION_TIMEOUT } })
  transaction(
    @Headers('x-work') work: string,
    @IdempotencyClaim() claim: IdempotencyContext,
  ): Promise<unknown> {
    return this.worker.work('transaction', work, claim, 'transaction');
  }

  @Post('serializable')
  @Idempotent({ required: true, transaction: { timeout: TRANSACTION_TIMEOUT, isolation: 'SERIALIZABLE' } })
  serializable(
    @Headers('x-work') work: string,
    @IdempotencyClaim() claim: IdempotencyContext,
  ): Promise<unknown> {
    return this.worker.work('serializable', work, claim, 'transaction');
  }

  /** A route that is changed from one mode to the other, one process after the other. */
  @Post('changing')
  @Idempotent({ required: true, transaction: CHANGED === 'transaction' })
  changing(@Headers('x-work') work: string, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.worker.work('changing', work, claim, CHANGED === 'transaction' ? 'transaction' : 'other');
  }

  /** A route without protection that needs a connection of the application's pool. */
  @Get('query')
  query(): Promise<unknown> {
    return this.worker.query();
  }

  @Post('record-first')
  @UseInterceptors(RecordFirstInterceptor)
  recordFirst(@Headers('x-work') work: string, @Headers('idempotency-key') key: string): Promise<unknown> {
    return this.worker.work('record-first', work, { key, attempt: 1, fence: 0 }, 'other');
  }

  @Post('record-last')
  @UseInterceptors(RecordLastInterceptor)
  recordLast(@Headers('x-work') work: string, @Headers('idempotency-key') key: string): Promise<unknown> {
    return this.worker.work('record-last', work, { key, attempt: 1, fence: 0 }, 'other');
  }

  /**
   * As an operator has it done. True if the record is deleted, and no process replays it; false if it is left; undefined
   * if the operator is not told, as is where this throws.
   */
  @Post('operator')
  async operator(@Headers('x-work') told: string): Promise<{ readonly deleted: boolean | undefined }> {
    const { key, route, by } = JSON.parse(told) as Deletion;
    const change = { by: 'rig', reason: by };
    if (by === 'forget')
      return { deleted: await this.admin.forget({ key, scope: httpScope('POST', `/${route}`) }, change) };
    const { purged, unreachable } = await this.admin.purge({ key, route: `POST /${route}` }, change);
    if (purged > 0) return { deleted: true };
    return { deleted: unreachable.arbiter > 0 ? undefined : false };
  }

  @Get('health')
  health(): Promise<unknown> {
    return this.idempotency.check();
  }

  @Get('metrics')
  metrics(): Promise<string> {
    return register.metrics();
  }
}

function redisAt(url: string): RedisModuleOptions {
  const options = { maxRetriesPerRequest: 0, commandTimeout: 1_000, lazyConnect: true };
  const [, kind, addresses = '', name] = /^(cluster|sentinel):\/\/([^/]+)\/?(.*)$/.exec(url) ?? [];
  const nodes = addresses.split(',').map((address) => {
    const [host = '', port] = address.split(':');
    return { host, port: Number(port) };
  });
  if (kind === 'cluster')
    return { type: 'cluster', nodes, options: { lazyConnect: true, redisOptions: options } };
  if (kind === 'sentinel') return { type: 'single', options: { ...options, sentinels: nodes, name } };
  return { type: 'single', url, options };
}

@Module({
  imports: [
    ...(REDIS_URL
      ? [
          RedisModule.forRoot({
            ...redisAt(REDIS_URL),
            onClientReady: (client: Redis | Cluster) => client.on('error', () => undefined),
          }),
        ]
      : []),
    TypeOrmModule.forRoot({
      type: 'postgres',
      url: DATABASE_URL,
      autoLoadEntities: true,
      migrations: [CreateIdempotencyCache1764000000015],
      retryAttempts: 100,
      retryDelay: 200,
    }),
    TypeOrmModule.forFeature([Effect]),
    IdempotencyModule.forRoot({
      ...(REDIS_URL ? {} : { redis: false }),
      ...(JSON.parse(OPTIONS) as IdempotencyModuleOptions),
    }),
  ],
  controllers: [WorkController],
  providers: [Worker],
})
class AppModule {}

async function main(): Promise<void> {
  const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
  app.enableShutdownHooks();
  await app.listen(0, '127.0.0.1');
  process.send?.({ url: (await app.getUrl()).replace('localhost', '127.0.0.1') } satisfies FromApp);
  process.once('disconnect', () => process.exit(1));
}

void main();
