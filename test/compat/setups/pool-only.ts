import { Module } from '@nestjs/common';
import { IdempotencyModule } from 'nestjs-idempotency';
import { Pool } from 'pg';
import { LeadsController } from './leads.controller.js';

const pool = new Pool({ connectionString: process.env.DATABASE_URL });

@Module({
  imports: [IdempotencyModule.forRoot({ redis: false, postgres: { pool } })],
  controllers: [LeadsController],
})
export class AppModule {}
