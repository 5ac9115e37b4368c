import { Module, type OnApplicationShutdown } from '@nestjs/common';
import { Redis } from 'ioredis';
import { IdempotencyModule } from 'nestjs-idempotency';
import { Pool } from 'pg';
import { LeadsController } from './leads.controller.js';

/** As an application with Prisma, Drizzle or Knex has them. */
@Module({
  providers: [
    { provide: Pool, useFactory: () => new Pool({ connectionString: process.env.DATABASE_URL }) },
    { provide: Redis, useFactory: () => new Redis(process.env.REDIS_URL ?? '', { commandTimeout: 1_000 }) },
  ],
  exports: [Pool, Redis],
})
class ClientsModule implements OnApplicationShutdown {
  constructor(
    private readonly pool: Pool,
    private readonly redis: Redis,
  ) {}

  async onApplicationShutdown(): Promise<void> {
    this.redis.disconnect();
    await this.pool.end();
  }
}

@Module({
  imports: [
    IdempotencyModule.forRootAsync({
      imports: [ClientsModule],
      inject: [Redis, Pool],
      useFactory: (client: Redis, pool: Pool) => ({ redis: { client }, postgres: { pool } }),
    }),
  ],
  controllers: [LeadsController],
})
export class AppModule {}
