import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { register } from 'prom-client';
import { startApp, type TestApp } from '../support/app';

const ALERTS = readFileSync(join(__dirname, '../../monitoring/alerts.yml'), 'utf8');
const TESTS = readFileSync(join(__dirname, 'alerts.test.yml'), 'utf8');

const named = (text: string): string[] => [...new Set(text.match(/\bidempotency_[a-z_]+/g))];

describe('monitoring/alerts.yml', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ options: { store: 'memory' } });
  });
  afterAll(() => app.close());

  it.each([
    ['the rules', ALERTS],
    ['their tests', TESTS],
  ])('names no metric that the module lacks: %s', (_, text) => {
    expect(named(text).length).toBeGreaterThan(3);
    expect(named(text).filter((name) => !register.getSingleMetric(name))).toEqual([]);
  });

  it('has a test of each alert', () => {
    const alerts = [...ALERTS.matchAll(/- alert: (\w+)/g)].map(([, alert]) => alert!);
    expect(alerts.length).toBeGreaterThan(10);
    expect(alerts.filter((alert) => !TESTS.includes(`alertname: ${alert}\n`))).toEqual([]);
  });

  it('aggregates for each job alone, so that no application hides another', () => {
    const expressions = [...ALERTS.matchAll(/expr: (.+)/g)].map(([, expression]) => expression!);
    expect(expressions.filter((each) => each.includes(' by (job'))).not.toEqual([]);
    const overAll = /\b(?:sum|min|max|avg|count)\b(?! by \(job\b)/;
    expect(expressions.filter((each) => overAll.test(each))).toEqual([]);
  });

  it('has the alert of a fallback as it was asked for', () => {
    expect(ALERTS).toContain('alert: IdempotencyRedisFallbackActive');
    expect(ALERTS).toContain("description: '{{ $value }} requests/sec using DB fallback instead of Redis'");
  });
});
