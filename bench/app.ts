import { RedisModule } from '@nestjs-modules/ioredis';
import { Body, Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { CreateIdempotencyCache1764000000015, Idempotent, IdempotencyModule } from 'nestjs-idempotency';

/** One subject of the benchmark, in a process of its own: SUBJECT, DATABASE_URL, REDIS_URL. It tells its URL by IPC. */
const { SUBJECT = 'bare', DATABASE_URL = '', REDIS_URL = '' } = process.env;

@Controller()
class LeadsController {
  @Post('bare')
  bare(@Body() lead: unknown): unknown {
    return { id: 1, lead };
  }

  @Post('protected')
  @Idempotent({ required: true, durability: SUBJECT === 'fast' ? 'fast' : 'durable' })
  protected(@Body() lead: unknown): unknown {
    return { id: 1, lead };
  }
}

const withRedis = SUBJECT !== 'postgres only';
const withPostgres = SUBJECT !== 'redis only';

@Module({
  imports:
    SUBJECT === 'bare'
      ? []
      : [
          ...(withRedis ? [RedisModule.forRoot({ type: 'single', url: REDIS_URL })] : []),
          ...(withPostgres
            ? [
                TypeOrmModule.forRoot({
                  type: 'postgres',
                  url: DATABASE_URL,
                  autoLoadEntities: true,
                  migrations: [CreateIdempotencyCache1764000000015],
                  migrationsRun: true,
                }),
              ]
            : []),
          IdempotencyModule.forRoot({
            ...(withRedis ? {} : { redis: false }),
            ...(withPostgres ? {} : { postgres: false }),
          }),
        ],
  controllers: [LeadsController],
})
class BenchModule {}

async function main(): Promise<void> {
  const app = await NestFactory.create(BenchModule, { logger: ['error'] });
  await app.listen(0, '127.0.0.1');
  process.send?.((await app.getUrl()).replace('localhost', '127.0.0.1'));
  process.once('disconnect', () => process.exit(0));
}

void main();
