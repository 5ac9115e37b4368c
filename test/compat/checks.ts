import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Client } from 'pg';
import { eventually } from '../support/eventually';
import { call, comparable, isReplay, type Answer } from '../support/http';
import type { Application } from './application';
import type { Row } from './rows';

/** What the checks of a row have to hand. */
export interface Subject {
  readonly row: Row;
  readonly application: Application;
  /** The Redis and the database that the application uses. */
  readonly redis: Redis;
  readonly database: Client;
}

export type Check = (subject: Subject) => Promise<void>;

const SHUTDOWN_TIMEOUT = 8_000;
const DUPLICATES = 50;

/** By name, in the order in which they are run: the application ends in the last one. */
export const CHECKS: Readonly<Record<string, Check>> = {
  'a retry is answered from Redis, byte for byte, and from Postgres once Redis is empty': async (subject) => {
    const { redis, application } = subject;
    const key = randomUUID();
    const first = await post(subject, 'leads', key, { name: key });
    equal(first.status, 201);
    match(first.text, /"attempt":1/);
    ok(!isReplay(first));
    // The response goes to Redis while the client has it already.
    await eventually(async () => {
      const before = await counter(application, 'idempotency_redis_hits');
      assertReplay(await post(subject, 'leads', key, { name: key }), first);
      equal(await counter(application, 'idempotency_redis_hits'), before + 1);
    });
    await redis.flushall();
    const before = await counter(application, 'idempotency_db_hits');
    assertReplay(await post(subject, 'leads', key, { name: key }), first);
    equal(await counter(application, 'idempotency_db_hits'), before + 1);
    equal(await executions(subject, key), 1);
  },

  'another body under the same key is 422': async (subject) => {
    const key = randomUUID();
    await post(subject, 'leads', key, { name: key });
    assertProblem(await post(subject, 'leads', key, { name: 'another' }), 422);
  },

  'a request without a key is 400 where one is required': async (subject) => {
    assertProblem(await post(subject, 'leads', undefined, { name: 'nobody' }), 400);
  },

  'fifty duplicates in flight run the handler once and get one response': async (subject) => {
    const key = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: DUPLICATES }, () =>
        post(subject, 'leads', key, { name: key, together: DUPLICATES }),
      ),
    );
    equal(await executions(subject, key), 1);
    equal(answers.filter((answer) => !isReplay(answer)).length, 1);
    for (const answer of answers) deepEqual(comparable(answer), comparable(answers[0]!));
    equal(answers[0]!.status, 201);
  },

  'a controller that Nest makes for each request is protected': async (subject) => {
    const first = await assertRepeats(subject, 'scoped', 201);
    match(first.text, /"attempt":1/);
  },

  'a StreamableFile is replayed': async (subject) => {
    const first = await assertRepeats(subject, 'file', 201);
    equal(first.body.length, 140_000);
    match(first.headers['content-disposition'] ?? '', /lead\.bin/);
  },

  'a response that the handler writes itself is replayed': async (subject) => {
    const first = await assertRepeats(subject, 'own-response', 202);
    ok(first.headers['x-lead']);
  },

  'an exception is replayed': async (subject) => {
    await assertRepeats(subject, 'refused', 409);
  },

  'IdempotencyService is injected by its class and runs a job once': async (subject) => {
    const path = `jobs/${randomUUID()}`;
    const first = await post(subject, path, undefined, undefined);
    equal(first.status, 200);
    equal((await post(subject, path, undefined, undefined)).text, first.text);
  },

  'the OpenAPI document names the key, the replay and the problems, where @nestjs/swagger is installed':
    async ({ row, application: { operation } }) => {
      equal(operation !== undefined, row.swagger === 'with');
      if (!operation) return;
      const headers = operation.parameters.filter((parameter) => parameter.in === 'header');
      deepEqual(
        headers.map(({ name, required }) => [name, required]),
        [['Idempotency-Key', true]],
      );
      deepEqual(Object.keys(operation.responses), ['201', '400', '409', '422', '503']);
      const { 201: success, ...problems } = operation.responses;
      deepEqual(Object.keys(success?.headers ?? {}), ['Idempotent-Replayed']);
      for (const { content } of Object.values(problems))
        deepEqual(Object.keys(content ?? {}), ['application/problem+json']);
    },

  'a request in flight is recorded at SIGTERM, and the process ends in time without a warning': async (
    subject,
  ) => {
    const { application, database } = subject;
    const key = randomUUID();
    const answer = post(subject, 'leads', key, { name: key, untilShutdown: true });
    await Promise.race([answer, eventually(async () => equal(await executions(subject, key), 1))]);
    application.terminate();
    equal((await answer).status, 201);
    await assertEnds(application);
    const { rows } = await database.query('SELECT state FROM idempotency_cache WHERE key = $1', [key]);
    deepEqual(rows, [{ state: 'completed' }]);
    equal(application.output, '');
  },
};

/** How an application can have an interceptor around all its routes. */
export const INTERCEPTORS = ['APP_INTERCEPTOR', 'request-scoped APP_INTERCEPTOR', 'useGlobalInterceptors'];

/** An interceptor around all routes runs for each first request, and what it adds is replayed. */
export const checkIntercepted: Check = async (subject) => {
  for (const path of ['leads', 'scoped', 'own-response']) {
    const first = await assertRepeats(subject, path, path === 'own-response' ? 202 : 201);
    ok(first.headers['x-signature'], `no interceptor around ${path}`);
  }
};

/** An application that was told to end does so in time. */
export async function assertEnds({ exited }: Application): Promise<void> {
  const ended = await Promise.race([exited, delay(SHUTDOWN_TIMEOUT, 'nothing', { ref: false })]);
  equal(ended, 'SIGTERM', `${ended} instead of an end by SIGTERM within ${SHUTDOWN_TIMEOUT} ms`);
}

function post(
  { application }: Subject,
  path: string,
  key: string | undefined,
  body: unknown,
): Promise<Answer> {
  return call(`${application.url}/${path}`, {
    headers: { authorization: 'somebody', ...(key ? { 'idempotency-key': key } : {}) },
    body,
    signal: AbortSignal.timeout(20_000),
  });
}

/** Sends a request twice. The first answer. */
async function assertRepeats(subject: Subject, path: string, status: number): Promise<Answer> {
  const key = randomUUID();
  const body = { name: key };
  const first = await post(subject, path, key, body);
  equal(first.status, status, first.text);
  ok(!isReplay(first));
  assertReplay(await post(subject, path, key, body), first);
  return first;
}

function assertReplay(answer: Answer, first: Answer): void {
  ok(isReplay(answer), `not a replay: ${answer.status}`);
  deepEqual(comparable(answer), comparable(first));
}

function assertProblem(answer: Answer, status: number): void {
  equal(answer.status, status, answer.text);
  match(answer.headers['content-type'] ?? '', /^application\/problem\+json/);
}

async function executions({ database }: Subject, name: string): Promise<number> {
  const { rows } = await database.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM leads WHERE name = $1',
    [name],
  );
  return rows[0]!.count;
}

async function counter({ url }: Application, name: string): Promise<number> {
  const { text } = await call(`${url}/metrics`, { method: 'GET' });
  const [, value] = new RegExp(`^${name} (\\d+)$`, 'm').exec(text) ?? [];
  ok(value, `no ${name} in /metrics`);
  return Number(value);
}
