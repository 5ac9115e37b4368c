import { RedisModule } from '@nestjs-modules/ioredis';
import { Module } from '@nestjs/common';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { IdempotencyModule } from 'nestjs-idempotency';
import { LeadsController } from './leads.controller.js';

@Module({
  imports: [
    RedisModule.forRoot({
      type: 'single',
      url: process.env.REDIS_URL,
      options: { commandTimeout: 1_000 },
    }),
    PrometheusModule.register(),
    IdempotencyModule.forRoot({ postgres: false }),
  ],
  controllers: [LeadsController],
})
export class AppModule {}
