import { Body, Controller, Get, Post } from '@nestjs/common';
import { Idempotent, IdempotencyHealth, type HealthReport } from 'nestjs-idempotency';
import { randomUUID } from 'node:crypto';

interface LeadRequest {
  readonly name: string;
}

interface Lead extends LeadRequest {
  readonly id: string;
}

@Controller()
export class LeadsController {
  constructor(private readonly health: IdempotencyHealth) {}

  @Post('leads')
  @Idempotent({ required: true })
  create(@Body() { name }: LeadRequest): Lead {
    return { id: randomUUID(), name };
  }

  @Get('health')
  check(): Promise<HealthReport> {
    return this.health.check();
  }
}
