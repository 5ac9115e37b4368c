import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { call, comparable, isReplay, type Answer } from '../support/http';
import type { Application } from './application';
import { assertEnds } from './checks';
import { optionalPeers } from './project';

/** An application that has some of the optional peers, and does without the others. */
export interface Setup {
  /** Of its root module in `setups/`. */
  readonly name: string;
  /** Optional peers that it installs. */
  readonly installs: readonly string[];
  /** What `IdempotencyHealth` says of it. */
  readonly health: Readonly<Record<string, string>>;
  /** All that it prints. */
  readonly prints?: RegExp;
}

const PROMETHEUS = ['@willsoto/nestjs-prometheus', 'prom-client'];
const REDIS = ['@nestjs-modules/ioredis', 'ioredis'];
const POSTGRES = ['@nestjs/typeorm', 'typeorm', 'pg'];

export const SETUPS: readonly Setup[] = [
  {
    name: 'redis-only',
    installs: [...REDIS, ...PROMETHEUS],
    health: { redis: 'up', postgres: 'disabled' },
  },
  {
    name: 'postgres-only',
    installs: [...POSTGRES, ...PROMETHEUS],
    health: { redis: 'disabled', postgres: 'up' },
  },
  {
    name: 'without-prometheus',
    installs: [...REDIS, ...POSTGRES],
    health: { redis: 'up', postgres: 'up' },
  },
  { name: 'client-only', installs: ['ioredis'], health: { redis: 'up', postgres: 'disabled' } },
  { name: 'pool-only', installs: ['pg'], health: { redis: 'disabled', postgres: 'up' } },
  { name: 'own-clients', installs: ['ioredis', 'pg'], health: { redis: 'up', postgres: 'up' } },
  {
    name: 'memory-only',
    installs: [],
    health: { redis: 'disabled', postgres: 'disabled', store: 'up' },
    prints: /^[^\n]*store: 'memory'[^\n]*\n$/,
  },
];

/** Optional peers that are installed although the application does without them. */
export function uninvited(folder: string, { installs }: Setup): string[] {
  return optionalPeers().filter(
    (name) => !installs.includes(name) && existsSync(join(folder, 'node_modules', name)),
  );
}

/** Runs the application of a set-up through what it is there for; it ends in the last step. */
export async function checkSetup(
  application: Application,
  { installs, health, prints = /^$/ }: Setup,
): Promise<void> {
  const key = randomUUID();
  const post = (name: string): Promise<Answer> =>
    call(`${application.url}/leads`, {
      headers: { 'idempotency-key': key },
      body: { name },
    });
  const answers = await Promise.all(Array.from({ length: 10 }, () => post('lead')));
  const [first] = answers.filter((answer) => !isReplay(answer));
  ok(first);
  equal(first.status, 201, first.text);
  for (const answer of answers) deepEqual(comparable(answer), comparable(first));
  equal(answers.filter(isReplay).length, answers.length - 1);
  equal((await post('another')).status, 422);

  const report = await call(`${application.url}/health`, { method: 'GET' });
  deepEqual(JSON.parse(report.text), health);
  const metrics = await call(`${application.url}/metrics`, { method: 'GET' });
  if (installs.includes('prom-client')) match(metrics.text, /^idempotency_misses 1$/m);
  else equal(metrics.status, 404);

  application.terminate();
  await assertEnds(application);
  match(application.output, prints);
}
