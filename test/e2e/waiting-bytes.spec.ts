import { Controller, Delete, Post } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { randomUUID } from 'node:crypto';
import { Agent, request } from 'node:http';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { gate, type Gate } from '../support/gate';

const BOUND = 1_000_000;
let held: Gate | undefined;

@Controller('held')
@Idempotent()
class HeldController {
  @Post()
  async post(): Promise<void> {
    await held?.pass();
  }

  @Delete()
  async remove(): Promise<void> {
    await held?.pass();
  }
}

describe.each<Platform>(['express', 'fastify'])('the bytes that waiting requests hold, on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [HeldController],
      options: { maxWaitingBytes: BOUND },
      configure: (nest) => {
        if (platform === 'express')
          (nest as NestExpressApplication).useBodyParser('json', { limit: 5_000_000 });
      },
      fastify: { bodyLimit: 5_000_000 },
    });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => (held = undefined));

  /** Without a length announced, unless there is no body: then Node sends neither header. */
  function send(method: string, key: string, { agent, body }: { agent?: Agent; body?: string } = {}) {
    return new Promise<number>((resolve, reject) => {
      const headers = { 'idempotency-key': key, ...(body && { 'content-type': 'application/json' }) };
      const sent = request(`${app.url}/held`, { method, agent, headers }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0));
      });
      sent.on('error', reject);
      if (body) sent.write(body); // in chunks
      sent.end();
    });
  }

  it('are none for a request without a body, however much its connection has brought before', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    await send('POST', randomUUID(), { agent, body: JSON.stringify({ filling: 'x'.repeat(2 * BOUND) }) });
    held = gate();
    const key = randomUUID();
    const first = send('DELETE', key);
    await held.reached();
    const second = send('DELETE', key, { agent });
    await app.service.execute(randomUUID(), () => 1); // by then it waits
    held.open();
    expect(await Promise.all([first, second])).toEqual([200, 200]);
    agent.destroy();
  });

  it('are those of a body that came in chunks', async () => {
    held = gate();
    const key = randomUUID();
    const body = JSON.stringify({ filling: 'x'.repeat(0.3 * BOUND) });
    const first = send('POST', key, { body });
    await held.reached();
    const others = [1, 2, 3, 4].map(() => send('POST', key, { body }));
    expect(await Promise.race(others)).toBe(503);
    held.open();
    expect((await Promise.all([first, ...others])).sort()).toEqual([201, 201, 201, 201, 503]);
  });
});
