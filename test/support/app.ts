import { getRedisConnectionToken, RedisModule } from '@nestjs-modules/ioredis';
import {
  Module,
  type DynamicModule,
  type INestApplication,
  type NestApplicationOptions,
  type Provider,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Redis } from 'ioredis';
import {
  CreateIdempotencyCache1764000000015,
  IdempotencyModule,
  IdempotencyService,
  type IdempotencyModuleOptions,
} from '../../lib';
import { IdempotencyTestingModule } from '../../lib/testing';
import { call, type Answer, type Call } from './http';

export type Platform = 'express' | 'fastify';

export interface TestAppOptions {
  readonly platform?: Platform;
  readonly databaseUrl?: string;
  readonly redisUrl?: string;
  /** Records in memory, as an application's own tests have them. */
  readonly inMemory?: boolean;
  readonly imports?: DynamicModule[];
  readonly controllers?: Type[];
  readonly providers?: Provider[];
  readonly options?: IdempotencyModuleOptions;
  readonly settings?: NestApplicationOptions;
  /** What Fastify itself is given. */
  readonly fastify?: Record<string, unknown>;
  readonly configure?: (app: INestApplication) => void | Promise<void>;
}

/** An application on a port of its own, as a user would write it. */
export interface TestApp {
  readonly app: INestApplication;
  readonly url: string;
  readonly service: IdempotencyService;
  call(path: string, options?: Call): Promise<Answer>;
  close(): Promise<void>;
}

/** It connects when it is used, and its end leaves no timer for 2 s. */
export const REDIS_OPTIONS = { lazyConnect: true, disconnectTimeout: 100 };

/** On a busy machine a healthy Redis takes longer than it may by default, and a copy that comes too late is not written. */
const REDIS_TIMEOUT = '1500ms';

@Module({})
class TestAppModule {}

export function appModule({
  databaseUrl,
  redisUrl,
  inMemory = false,
  imports = [],
  controllers,
  providers,
  options = {},
}: TestAppOptions): DynamicModule {
  return {
    module: TestAppModule,
    imports: [
      ...(redisUrl ? [RedisModule.forRoot({ type: 'single', url: redisUrl, options: REDIS_OPTIONS })] : []),
      ...(databaseUrl
        ? [
            TypeOrmModule.forRoot({
              type: 'postgres',
              url: databaseUrl,
              autoLoadEntities: true,
              migrations: [CreateIdempotencyCache1764000000015],
              migrationsRun: true,
            }),
          ]
        : []),
      inMemory
        ? IdempotencyTestingModule.forRoot(options)
        : IdempotencyModule.forRoot({
            ...(redisUrl ? {} : { redis: false }),
            ...(databaseUrl ? {} : { postgres: false }),
            ...options,
            ...(redisUrl && options.redis !== false
              ? { redis: { timeout: REDIS_TIMEOUT, ...options.redis } }
              : {}),
          }),
      ...imports,
    ],
    controllers,
    providers,
  };
}

/** Closes an application and its client of Redis, which `RedisModule` leaves to connect again and again. */
export async function closeWithRedis(app: INestApplication): Promise<void> {
  await app.close();
  app.get<Redis>(getRedisConnectionToken(), { strict: false }).disconnect();
}

export async function startApp(options: TestAppOptions): Promise<TestApp> {
  const module = appModule(options);
  const settings = { logger: false as const, abortOnError: false, ...options.settings };
  const app =
    options.platform === 'fastify'
      ? await NestFactory.create(module, new FastifyAdapter(options.fastify), settings)
      : await NestFactory.create(module, settings);
  await options.configure?.(app);
  await app.listen(0, '127.0.0.1');
  const url = (await app.getUrl()).replace('localhost', '127.0.0.1');
  return {
    app,
    url,
    service: app.get(IdempotencyService),
    call: (path, request) => call(url + path, request),
    close: () => (options.redisUrl ? closeWithRedis(app) : app.close()),
  };
}
