import { register } from 'prom-client';
import { startApp } from '../support/app';

describe('gauges', () => {
  it('of what is counted in the process are 0 from the start, as no sample looks like no scrape', async () => {
    const app = await startApp({ inMemory: true });
    try {
      const lines = (await register.metrics()).split('\n');
      for (const name of ['in_flight', 'pending_writes', 'waiting_requests', 'waiting_bytes'])
        expect(lines).toContain(`idempotency_${name} 0`);
    } finally {
      await app.close();
    }
  });
});
