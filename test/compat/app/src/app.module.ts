import { RedisModule } from '@nestjs-modules/ioredis';
import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { CreateIdempotencyCache1764000000015, IdempotencyModule } from 'nestjs-idempotency';
import { Arrivals } from './arrivals.js';
import { interceptors } from './interceptors.js';
import { CreateLeads1764000000020, Lead } from './lead.js';
import { LeadsController, ScopedController } from './leads.controller.js';

@Module({
  imports: [
    RedisModule.forRoot({
      type: 'single',
      url: process.env.REDIS_URL,
      options: { commandTimeout: 1_000 },
    }),
    TypeOrmModule.forRoot({
      type: 'postgres',
      url: process.env.DATABASE_URL,
      autoLoadEntities: true,
      migrations: [CreateIdempotencyCache1764000000015, CreateLeads1764000000020],
      migrationsRun: true,
    }),
    TypeOrmModule.forFeature([Lead]),
    PrometheusModule.register(),
    IdempotencyModule.forRoot(),
  ],
  controllers: [LeadsController, ScopedController],
  providers: [Arrivals, ...interceptors],
})
export class AppModule {}
