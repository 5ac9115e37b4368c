import { RedisModule } from '@nestjs-modules/ioredis';
import { Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { TypeOrmModule } from '@nestjs/typeorm';
import { IdempotencyModule } from 'nestjs-idempotency';
import { HealthController } from './health.controller';
import { LeadsController } from './leads.controller';
import { LeadsService } from './leads.service';
import { WebhooksController } from './webhooks.controller';

/** Apart, so that a test can replace it. */
@Module({
  imports: [
    // Not forRoot(), which connects when this file is loaded, also in tests that replace it.
    RedisModule.forRootAsync({
      useFactory: () => ({ type: 'single', url: process.env.REDIS_URL }),
    }),
    TypeOrmModule.forRoot({ type: 'postgres', url: process.env.DATABASE_URL }),
  ],
})
export class StoresModule {}

@Module({
  imports: [StoresModule, IdempotencyModule.forRoot(), TerminusModule],
  controllers: [LeadsController, WebhooksController, HealthController],
  providers: [LeadsService],
})
export class AppModule {}
