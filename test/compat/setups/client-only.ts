import { Module } from '@nestjs/common';
import { Redis } from 'ioredis';
import { IdempotencyModule } from 'nestjs-idempotency';
import { LeadsController } from './leads.controller.js';

const client = new Redis(process.env.REDIS_URL ?? '', { lazyConnect: true });

@Module({
  imports: [IdempotencyModule.forRoot({ redis: { client }, postgres: false })],
  controllers: [LeadsController],
})
export class AppModule {}
