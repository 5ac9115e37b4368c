import { Controller, Get, Res } from '@nestjs/common';
import type { Response } from 'express';
import { IdempotencyHealth, type HealthReport } from 'nestjs-idempotency';

@Controller('health')
export class HealthController {
  constructor(private readonly health: IdempotencyHealth) {}

  /** Without Redis the service works on; without Postgres it cannot take new webhooks. */
  @Get()
  async check(@Res({ passthrough: true }) response: Response): Promise<{ status: string } & HealthReport> {
    const report = await this.health.check();
    const usable = report.postgres === 'up' || (report.postgres === 'disabled' && report.redis === 'up');
    response.status(usable ? 200 : 503);
    return { status: usable ? 'ok' : 'error', ...report };
  }
}
