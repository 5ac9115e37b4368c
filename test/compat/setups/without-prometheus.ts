import { RedisModule } from '@nestjs-modules/ioredis';
import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { IdempotencyModule } from 'nestjs-idempotency';
import { CreateIdempotencyCache1764000000015 } from 'nestjs-idempotency/typeorm';
import { LeadsController } from './leads.controller.js';

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
      migrations: [CreateIdempotencyCache1764000000015],
      migrationsRun: true,
    }),
    IdempotencyModule.forRoot(),
  ],
  controllers: [LeadsController],
})
export class AppModule {}
