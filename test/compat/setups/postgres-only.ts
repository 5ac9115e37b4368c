import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { IdempotencyModule } from 'nestjs-idempotency';
import { CreateIdempotencyCache1764000000015, IdempotencyCache } from 'nestjs-idempotency/typeorm';
import { LeadsController } from './leads.controller.js';

@Module({
  imports: [
    TypeOrmModule.forRoot({
      type: 'postgres',
      url: process.env.DATABASE_URL,
      autoLoadEntities: true,
      migrations: [CreateIdempotencyCache1764000000015],
      migrationsRun: true,
    }),
    TypeOrmModule.forFeature([IdempotencyCache]),
    PrometheusModule.register(),
    IdempotencyModule.forRoot({ redis: false }),
  ],
  controllers: [LeadsController],
})
export class AppModule {}
