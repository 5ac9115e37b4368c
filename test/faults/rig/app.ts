import { RedisModule, type RedisModuleOptions } from '@nestjs-modules/ioredis';
import { Controller, Get, Headers, HttpException, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Cluster, Redis } from 'ioredis';
import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { register } from 'prom-client';
import {
  CreateIdempotencyCache1764000000015,
  Idempotent,
  IdempotencyClaim,
  IdempotencyHealth,
  IdempotencyModule,
  type IdempotencyContext,
  type IdempotencyModuleOptions,
} from 'nestjs-idempotency';
import { DataSource } from 'typeorm';
import type { FromApp } from '../../support/processes';
import type { Execution } from './ledger';

/*
 * One of the rig's application processes. DATABASE_URL, REDIS_URL (none: without Redis; `cluster://…,…` and
 * `sentinel://…,…/name` have any number of addresses), OPTIONS (the module's, as JSON) and LEDGER (the file that
 * executions are written to). It tells its parent over IPC when it listens and when a handler runs; a handler that is
 * told to `hold` goes on when the parent says so.
 */
const { DATABASE_URL = '', REDIS_URL = '', OPTIONS = '{}', LEDGER = '', INSTANCE = '' } = process.env;

/** What a handler is told to do, in the header `x-work`: unlike the body it is no part of the fingerprint. */
export interface Work {
  /** Milliseconds that the handler takes. */
  readonly takes?: number;
  /** The handler ends when the parent lets it. */
  readonly hold?: boolean;
  /** The handler fails with this status. */
  readonly fails?: number;
  /** The handler holds a connection of the application's own pool meanwhile. */
  readonly holdsConnection?: boolean;
  /** The ledger is not flushed, which takes many handlers at once seconds: for scenarios that kill no process. */
  readonly unsynced?: boolean;
  /** Length of the response's filling. */
  readonly size?: number;
}

export interface ToInstance {
  readonly finish: string;
}

const held = new Map<string, () => void>();
const finished = new Set<string>();
process.on('message', ({ finish }: ToInstance) => {
  finished.add(finish);
  held.get(finish)?.();
});

/** On disk before the handler goes on, so that no fault can make an execution unseen. */
function write(execution: Execution, unsynced: boolean): void {
  const file = openSync(LEDGER, 'a');
  writeSync(file, `${JSON.stringify(execution)}\n`);
  if (!unsynced) fsyncSync(file);
  closeSync(file);
}

@Controller()
class WorkController {
  constructor(
    private readonly idempotency: IdempotencyHealth,
    private readonly dataSource: DataSource,
  ) {}

  @Post('retry')
  @Idempotent({ required: true, onOrphan: 'retry' })
  retry(@Headers('x-work') work: string, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.work('retry', work, claim);
  }

  @Post('reject')
  @Idempotent({ required: true, onOrphan: 'reject' })
  reject(@Headers('x-work') work: string, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.work('reject', work, claim);
  }

  @Post('fast')
  @Idempotent({ required: true, durability: 'fast' })
  fast(@Headers('x-work') work: string, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.work('fast', work, claim);
  }

  @Get('health')
  health(): Promise<unknown> {
    return this.idempotency.check();
  }

  @Get('metrics')
  metrics(): Promise<string> {
    return register.metrics();
  }

  private async work(
    scope: string,
    told: string,
    { key, attempt, fence }: IdempotencyContext,
  ): Promise<unknown> {
    const {
      takes = 0,
      hold = false,
      fails,
      holdsConnection = false,
      unsynced = false,
      size = 0,
    } = JSON.parse(told) as Work;
    const nonce = randomUUID();
    // The monotonic clock is one for all processes of a machine, whatever their wall clocks say.
    const at = Number(process.hrtime.bigint() / 1_000n) / 1_000;
    write(
      {
        scope,
        key,
        instance: INSTANCE,
        pid: process.pid,
        attempt,
        fence,
        nonce,
        at,
        failed: fails !== undefined,
        takes,
      },
      unsynced,
    );
    process.send?.({ handling: key } satisfies FromApp);
    const runner = this.dataSource.createQueryRunner();
    if (holdsConnection) await runner.connect();
    if (takes > 0) await delay(takes);
    if (hold && !finished.has(key)) await new Promise<void>((resolve) => held.set(key, resolve));
    await runner.release();
    if (fails) throw new HttpException('told to fail', fails);
    return { nonce, filling: 'x'.repeat(size) };
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
    IdempotencyModule.forRoot({
      ...(REDIS_URL ? {} : { redis: false }),
      ...(JSON.parse(OPTIONS) as IdempotencyModuleOptions),
    }),
  ],
  controllers: [WorkController],
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
