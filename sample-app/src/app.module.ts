import { RedisModule } from '@nestjs-modules/ioredis';
import { Module, type DynamicModule } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { CreateIdempotencyCache1764000000015, IdempotencyModule } from 'nestjs-idempotency';
import { HealthController } from './health.controller';
import { CreateLeads1764000000001 } from './create-leads.migration';
import { Lead } from './lead.entity';
import { LeadsController } from './leads.controller';
import { MetricsController } from './metrics.controller';
import { SameOriginGuard } from './same-origin.guard';

export interface Stores {
  readonly databaseUrl: string;
  /** Undefined: no Redis can be had, so Postgres does everything. */
  readonly redisUrl: string | undefined;
}

@Module({})
export class AppModule {
  static with({ databaseUrl, redisUrl }: Stores): DynamicModule {
    const redis = redisUrl
      ? [
          RedisModule.forRoot({
            type: 'single',
            url: redisUrl,
            // Without it, this client waits for a frozen Redis without end, at shutdown too.
            options: { commandTimeout: 1_000 },
            // The idempotency module says when Redis is gone; this client, its model, would repeat it every second.
            onClientReady: (client) => client.on('error', () => undefined),
          }),
        ]
      : [];
    return {
      module: AppModule,
      imports: [
        ...redis,
        TypeOrmModule.forRoot({
          type: 'postgres',
          url: databaseUrl,
          autoLoadEntities: true,
          migrations: [CreateLeads1764000000001, CreateIdempotencyCache1764000000015],
          migrationsRun: true,
        }),
        TypeOrmModule.forFeature([Lead]),
        PrometheusModule.register({ controller: MetricsController }),
        IdempotencyModule.forRoot(redisUrl ? {} : { redis: false }),
      ],
      controllers: [LeadsController, HealthController],
      providers: [{ provide: APP_GUARD, useClass: SameOriginGuard }],
    };
  }
}
