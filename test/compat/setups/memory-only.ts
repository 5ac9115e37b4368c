import { Module } from '@nestjs/common';
import { IdempotencyModule } from 'nestjs-idempotency';
import { LeadsController } from './leads.controller.js';

@Module({
  imports: [IdempotencyModule.forRoot({ store: 'memory' })],
  controllers: [LeadsController],
})
export class AppModule {}
