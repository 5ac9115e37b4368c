import { RedisModule } from '@nestjs-modules/ioredis';
import { Body, Controller, Module, Post, type DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { CreateIdempotencyCache1764000000015, Idempotent, IdempotencyModule } from 'nestjs-idempotency';
import { DataSource } from 'typeorm';
import { place, type Answer, type Order } from './host';
import { start } from './nest';
import { dataSourceOptions } from './rows';

/** This module, or with MODE=bare the same application without it. Also from the environment: PLATFORM and the stores. */
const { MODE = 'bare', PLATFORM = 'express', DATABASE_URL = '', REDIS_URL = '' } = process.env;

const POLICY =
  MODE === 'transaction'
    ? { transaction: true }
    : ({ durability: MODE === 'fast' ? 'fast' : 'durable' } as const);

@Controller()
class BareController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('orders')
  place(@Body() order: Order): Answer | Promise<Answer> {
    return place(order, this.dataSource);
  }
}

@Controller()
class ProtectedController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('orders')
  @Idempotent({ required: true, ...POLICY })
  place(@Body() order: Order): Answer | Promise<Answer> {
    return place(order, this.dataSource);
  }
}

@Module({})
class BenchModule {}

function bareModule(): DynamicModule {
  return {
    module: BenchModule,
    imports: [TypeOrmModule.forRoot(dataSourceOptions(DATABASE_URL))],
    controllers: [BareController],
  };
}

function protectedModule(): DynamicModule {
  const withRedis = MODE !== 'postgres only';
  const withPostgres = MODE !== 'redis only';
  return {
    module: BenchModule,
    imports: [
      ...(withRedis
        ? [
            RedisModule.forRoot({
              type: 'single',
              url: REDIS_URL,
              onClientReady: (client) => client.on('error', () => undefined),
            }),
          ]
        : []),
      TypeOrmModule.forRoot({
        ...dataSourceOptions(DATABASE_URL),
        autoLoadEntities: true,
        ...(withPostgres ? { migrations: [CreateIdempotencyCache1764000000015], migrationsRun: true } : {}),
      }),
      IdempotencyModule.forRoot({
        ...(withRedis ? {} : { redis: false }),
        ...(withPostgres ? {} : { postgres: false }),
      }),
    ],
    controllers: [ProtectedController],
  };
}

void start(MODE === 'bare' ? bareModule() : protectedModule(), PLATFORM);
