import { ReportedHealth, type HealthReport } from '../../lib/observability/health';

describe('the indicator for a health endpoint', () => {
  it.each<[HealthReport, 'up' | 'down']>([
    [{ redis: 'up', postgres: 'up' }, 'up'],
    [{ redis: 'down', postgres: 'up' }, 'up'],
    [{ redis: 'disabled', postgres: 'up' }, 'up'],
    [{ redis: 'up', postgres: 'down' }, 'down'],
    [{ redis: 'disabled', postgres: 'down' }, 'down'],
    [{ redis: 'up', postgres: 'disabled' }, 'up'],
    [{ redis: 'down', postgres: 'disabled' }, 'down'],
    [{ redis: 'disabled', postgres: 'disabled', store: 'up' }, 'up'],
    [{ redis: 'disabled', postgres: 'disabled', store: 'down' }, 'down'],
  ])('of %j is %s: what decides has to answer', async (report, status) => {
    const health = new ReportedHealth(async () => report);
    expect(await health.isHealthy()).toEqual({ idempotency: { status, ...report } });
    expect(await health.isHealthy('retries')).toEqual({ retries: { status, ...report } });
  });
});
