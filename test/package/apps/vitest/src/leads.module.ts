import { Body, Controller, Get, Module, Post } from '@nestjs/common';
import {
  HealthCheck,
  HealthCheckService,
  TerminusModule,
  type HealthCheckResult,
} from '@nestjs/terminus';
import {
  fromBody,
  IdempotencyHealth,
  IdempotencyService,
  Idempotent,
} from 'nestjs-idempotency';

export const leads: string[] = [];

@Controller()
export class LeadsController {
  constructor(
    private readonly idempotency: IdempotencyService,
    private readonly health: HealthCheckService,
    private readonly idempotencyHealth: IdempotencyHealth,
  ) {}

  @Post('leads')
  @Idempotent({ key: fromBody('id'), required: true, onOrphan: 'reject' })
  create(@Body('name') name: string): { number: number } {
    return { number: leads.push(name) };
  }

  @Get('health')
  @HealthCheck()
  check(): Promise<HealthCheckResult> {
    return this.health.check([() => this.idempotencyHealth.isHealthy()]);
  }

  /** Called by a job. */
  bill(invoice: string): Promise<number> {
    return this.idempotency.execute(invoice, () => leads.push(invoice), {
      onOrphan: 'reject',
    });
  }
}

@Module({ imports: [TerminusModule], controllers: [LeadsController] })
export class LeadsModule {}
