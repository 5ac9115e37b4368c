import { NestFactory } from '@nestjs/core';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { INestApplication, Type } from '@nestjs/common';
import { startPostgres, startRedis, type RunningPostgres, type RunningRedis } from '../../servers';
import { call } from '../support/http';
import { snippetsIn } from './snippets';

const CACHE = join(__dirname, '../../.cache');

/** Writes the files that README names, as its reader does. */
function write(folder: string): void {
  for (const { code } of snippetsIn('README.md')) {
    const [, file] = /^\/\/ (\S+\.ts)\n/.exec(code) ?? [];
    if (file !== undefined) writeFileSync(join(folder, file), code);
  }
}

describe('the quick start of README, as it stands there', () => {
  let servers: readonly [RunningPostgres, RunningRedis];
  let folder: string;
  let app: INestApplication;

  beforeAll(async () => {
    servers = await Promise.all([startPostgres(), startRedis()]);
    [process.env.DATABASE_URL, process.env.REDIS_URL] = [servers[0].url, servers[1].url];
    mkdirSync(CACHE, { recursive: true });
    folder = mkdtempSync(join(CACHE, 'quick-start-'));
    write(folder);
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- a file that this test has just written
    const { AppModule } = require(join(folder, 'app.module.ts')) as { AppModule: Type };
    app = await NestFactory.create(AppModule, { logger: false });
    await app.listen(0);
  });
  afterAll(async () => {
    await app.close();
    rmSync(folder, { recursive: true });
    await Promise.all(servers.map((server) => server.stop()));
  });

  it('answers a retry with the first response, and saves one payment', async () => {
    const url = `${await app.getUrl()}/payments`;
    const pay = (key: string) => call(url, { headers: { 'Idempotency-Key': key }, body: { amount: 7 } });
    const first = await pay('payment-1');
    const retry = await pay('payment-1');
    expect([first.status, first.text]).toEqual([201, '{"amount":7,"id":1}']);
    expect([retry.status, retry.text]).toEqual([first.status, first.text]);
    expect(retry.headers['idempotent-replayed']).toBe('true');
    expect((await pay('payment-2')).text).toBe('{"amount":7,"id":2}');
  });

  it('refuses a payment without a key', async () => {
    expect((await call(`${await app.getUrl()}/payments`, { body: { amount: 7 } })).status).toBe(400);
  });
});
