import { randomUUID } from 'node:crypto';
import { Body, Controller, Post, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { register } from 'prom-client';
import { Idempotent, IdempotencyClaim, type IdempotencyContext } from '../../lib';
import type { RunningPostgres } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';
import { comparable, isReplay, type Answer } from '../support/http';
import { RawClient, type RawAnswer } from '../support/raw-client';

const DOCUMENTATION = 'https://api.example.com/docs/idempotency';
const DOCUMENTATION_LINK = `<${DOCUMENTATION}>; rel="describedby"; type="text/html"`;

let runs: string[] = [];
let held: Gate | undefined;

@Controller()
class PaymentsController {
  @Post('payments')
  @Idempotent({ required: true })
  async create(@Body() body: unknown, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    runs.push(claim.key);
    await held?.pass();
    return { nonce: randomUUID(), body };
  }

  @Post('plain')
  plain(): number {
    return runs.push('plain');
  }

  @Post('optional')
  @Idempotent()
  optional(@IdempotencyClaim() claim?: IdempotencyContext): number {
    return runs.push(claim?.key ?? 'unprotected');
  }

  @Post('strict')
  @Idempotent({ required: true, inFlight: 'reject', bareKeys: false })
  strict(@Body() body: unknown, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.create(body, claim);
  }

  @Post('expiring')
  @Idempotent()
  expiring(@Body() body: unknown, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.create(body, claim);
  }

  @Post('selected')
  @Idempotent({
    fingerprint: (context) =>
      String(context.switchToHttp().getRequest<{ body: { amount: number } }>().body.amount),
  })
  selected(@Body() body: unknown, @IdempotencyClaim() claim: IdempotencyContext): Promise<unknown> {
    return this.create(body, claim);
  }
}

/** Names the caller, as an application's own guard does. */
class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: unknown }>();
    if (request.headers['x-user']) request.user = { id: request.headers['x-user'] };
    return true;
  }
}

/** How often a store was asked for a key; the writes of earlier requests may still be under way. */
async function lookups(): Promise<number> {
  const { values } = (await register.getSingleMetric('idempotency_store_duration_seconds')!.get()) as {
    values: { metricName?: string; labels: { operation?: string }; value: number }[];
  };
  return values
    .filter(({ metricName }) => metricName?.endsWith('_count'))
    .filter(({ labels }) => labels.operation === 'find' || labels.operation === 'claim')
    .reduce((sum, { value }) => sum + value, 0);
}

describe.each<Platform>(['express', 'fastify'])('Idempotency-Key (IETF draft -07) on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let id: string;

  const servers = appOnServers({
    platform,
    controllers: [PaymentsController],
    providers: [{ provide: APP_GUARD, useClass: UserGuard }],
    options: { documentation: DOCUMENTATION },
  });
  beforeAll(() => ({ app, postgres } = servers));
  beforeEach(() => {
    id = randomUUID();
    runs = [];
    held = undefined;
  });

  const send = (key?: string | string[], body: unknown = {}, path = '/payments'): Promise<Answer> =>
    app.call(path, { body, headers: key === undefined ? {} : { 'idempotency-key': key } });
  const raw = (...lines: string[]): Promise<RawAnswer> =>
    RawClient.ask(app.url, {
      target: '/payments',
      headers: [['Content-Type', 'application/json']],
      lines,
      body: '{}',
    });

  /** Two forms of one key: the second request gets the first one's response. */
  const sameKey = async (one: readonly string[], other: readonly string[]): Promise<void> => {
    const [first, second] = [await raw(...one), await raw(...other)];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect([first.replayed, second.replayed]).toEqual([false, true]);
    expect(second.text).toBe(first.text);
    expect(runs).toHaveLength(1);
  };
  /** Two keys: each runs the handler. */
  const differentKeys = async (one: readonly string[], other: readonly string[]): Promise<void> => {
    const [first, second] = [await raw(...one), await raw(...other)];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(new Set(runs).size).toBe(2);
  };
  const line = (value: string): string[] => [`Idempotency-Key: ${value}`];

  // First, so that no lookup of an accepted request can be counted late.
  describe('refuses with 400, before any store is asked,', () => {
    it.each<[string, (key: string) => string[]]>([
      ['an empty value', () => ['Idempotency-Key:']],
      ['blanks only', () => ['Idempotency-Key:  \t ']],
      ['an empty string', () => line('""')],
      ['256 characters', () => line('k'.repeat(256))],
      ['256 characters in quotes', () => line(`"${'k'.repeat(256)}"`)],
      ['a lone quote', () => line('"')],
      ['a string without an end', (key) => line(`"${key}`)],
      ['a quote inside of a bare key', (key) => line(`${key}"`)],
      ['a backslash in a bare key', (key) => line(`${key}\\`)],
      ['an escape that there is not', (key) => line(`"${key}\\n"`)],
      ['an escape without an end', (key) => line(`"${key}\\`)],
      ['something behind the string', (key) => line(`"${key}" x`)],
      ['a parameter without a name', (key) => line(`"${key}";`)],
      ['a list of strings', (key) => line(`"${key}", "${key}"`)],
      ['a list of bare keys', (key) => line(`${key}, ${key}`)],
      ['an inner list of strings', (key) => line(`("${key}" "b")`)],
      ['a display string', (key) => line(`%"${key}"`)],
      ['two different values', (key) => [...line(key), ...line(`${key}2`)]],
      ['two names that disagree', (key) => [...line(key), `X-Idempotency-Key: ${key}2`]],
      ['a name that is empty beside one that is not', (key) => [...line(key), 'X-Idempotency-Key:']],
      ['UTF-8', (key) => line(Buffer.from(`schlüssel-${key}`).toString('latin1'))],
      ['UTF-8 in quotes', (key) => line(`"${Buffer.from(`schlüssel-${key}`).toString('latin1')}"`)],
      ['a no-break space behind the key', (key) => line(`${key}\xa0`)],
      ['a tab inside of a bare key', (key) => line(`a\t${key}`)],
      ['a tab inside of a string', (key) => line(`"a\t${key}"`)],
    ])('what is not a key: %s', async (_, lines) => {
      const before = await lookups();
      const answer = await raw(...lines(id));
      expect(answer.status).toBe(400);
      expect(answer.headers).toContainEqual(['Content-Type', 'application/problem+json; charset=utf-8']);
      expect(answer.text).toContain('urn:problem-type:nestjs-idempotency:key-invalid');
      expect(answer.text).not.toContain(id);
      expect(await lookups()).toBe(before);
      expect(runs).toEqual([]);
    });

    it.each(['\0', '\x01', '\x0b', '\x1b', '\x7f', '\n', '\r'])(
      'the control character %j, which Node or the module refuses',
      async (control) => {
        const before = await lookups();
        expect((await raw(...line(`a${control}${id}`))).status).toBe(400);
        expect((await raw(...line(`"a${control}${id}"`))).status).toBe(400);
        expect(await lookups()).toBe(before);
        expect(runs).toEqual([]);
      },
    );

    it('a missing key where it is required', async () => {
      const before = await lookups();
      const answer = await send();
      expect(answer.status).toBe(400);
      expect(answer.headers.link).toBe(DOCUMENTATION_LINK);
      expect(answer.text).toContain('key-missing');
      expect(await lookups()).toBe(before);
      expect(runs).toEqual([]);
    });

    it('which a valid key is not: Postgres is asked for it, and Redis for its retry', async () => {
      const before = await lookups();
      await raw(...line(id));
      await eventually(async () => expect(await lookups()).toBe(before + 1));
      await raw(...line(id));
      await eventually(async () => expect(await lookups()).toBeGreaterThan(before + 1));
    });
  });

  describe('reads the key', () => {
    it('from a structured-field string: its characters, without the quotes', async () => {
      expect((await send(`"${id}"`)).status).toBe(201);
      expect(runs).toEqual([id]);
    });

    it('with its escapes undone', async () => {
      expect((await send(`"${id} \\"a\\" \\\\ b"`)).status).toBe(201);
      expect(runs).toEqual([`${id} "a" \\ b`]);
    });

    it('without quotes as it is, also where it would be a structured field of another type', async () => {
      const values = [
        id,
        `t-${id}`,
        '4711',
        '01',
        '1.0',
        ':YWJj:',
        '?1',
        '@1700000000',
        '(a b)',
        `${id};a=1`,
      ];
      for (const value of values) expect((await send(value, {}, `/payments?${id}`)).status).toBe(201);
      expect(runs).toEqual(values);
    });

    it('from the body or from anywhere else never by itself', async () => {
      const answer = await send(undefined, { 'idempotency-key': id }, `/payments?idempotency-key=${id}`);
      expect(answer.status).toBe(400);
    });
  });

  it('does not heed a key on a route that promises nothing', async () => {
    await send(id, {}, '/plain');
    expect(isReplay(await send(id, {}, '/plain'))).toBe(false);
    expect(runs).toEqual(['plain', 'plain']);
  });

  it('heeds a key where none is required, and does without one', async () => {
    await send(id, {}, '/optional');
    expect(isReplay(await send(id, {}, '/optional'))).toBe(true);
    await send(undefined, {}, '/optional');
    expect(runs).toEqual([id, 'unprotected']);
  });

  it.each([
    "x'; DROP TABLE idempotency_cache; --",
    '*',
    'a*?[^b]',
    '{tag}',
    '%',
    '%s',
    '$(id)',
    '../../etc',
    '<b>',
  ])('takes what would be an injection elsewhere for a key like any other: %j', async (key) => {
    const first = await send(key, { id });
    expect(first.status).toBe(201);
    expect(comparable(await send(key, { id }))).toEqual(comparable(first));
    expect(isReplay(await send(`${key}2`, { id }))).toBe(false);
    expect(runs).toEqual([key, `${key}2`]);
  });

  describe('takes for the same key', () => {
    it('"abc" and abc', () => sameKey(line(`"${id}"`), line(id)));
    it('"abc" and "abc";a=1, as the draft defines no parameters', () =>
      sameKey(line(`"${id}"`), line(`"${id}";a=1;b="x, y"`)));
    it('"abc;a=1" and abc;a=1', () => sameKey(line(`"${id};a=1"`), line(`${id};a=1`)));
    it('a value with blanks and tabs around it and one without', () =>
      sameKey([`Idempotency-Key: \t ${id} \t `], [`Idempotency-Key:${id}`]));
    it('header names in upper and lower case', () =>
      sameKey([`IDEMPOTENCY-KEY: ${id}`], [`idempotency-key: ${id}`]));
    it('a field and the same field repeated with an equal value', () =>
      sameKey(line(id), [...line(id), ...line(`"${id}"`), ...line(`"${id}";a=1`)]));
    it('Idempotency-Key, X-Idempotency-Key and both of them where they agree', () =>
      sameKey([`X-Idempotency-Key: ${id}`], [...line(`"${id}"`), `X-Idempotency-Key: ${id}`]));
  });

  describe('never takes for the same key', () => {
    it.each<[string, (key: string) => string, (key: string) => string]>([
      ['"abc" and abc;a=1', (key) => `"${key}"`, (key) => `${key};a=1`],
      ['"abc;a=1" and "abc";a=1', (key) => `"${key};a=1"`, (key) => `"${key}";a=1`],
      ['upper and lower case', (key) => `${key}-A`, (key) => `${key}-a`],
      ['a quoted blank and none', (key) => `" ${key}"`, (key) => `"${key}"`],
      ['one blank inside and two', (key) => `a ${key}`, (key) => `a  ${key}`],
      [
        'a byte sequence and the string that it encodes',
        (key) => `"${key}"`,
        (key) => `:${Buffer.from(key).toString('base64')}:`,
      ],
      ['1 and 01', (key) => `1${key.length}`, (key) => `01${key.length}`],
      ['an escaped quote and none', (key) => `"${key}\\""`, (key) => `"${key}"`],
    ])('two keys that look alike: %s', (_, one, other) => differentKeys(line(one(id)), line(other(id))));
  });

  it('reads the longest key: 255 characters, with or without quotes, escapes counted as one', async () => {
    const key = `\\"${id}`.padEnd(256, 'k');
    expect((await send(`"${key}"`)).status).toBe(201);
    expect((await send('k'.repeat(255), {}, `/payments?${id}`)).status).toBe(201);
    expect(runs.map((each) => each.length)).toEqual([255, 255]);
  });

  describe('where `bareKeys` is false', () => {
    it('accepts one structured-field string', async () => {
      const first = await send(`"${id}"`, {}, '/strict');
      expect(first.status).toBe(201);
      expect(comparable(await send(`"${id}";a=1`, {}, '/strict'))).toEqual(comparable(first));
      expect(runs).toEqual([id]);
    });

    it.each<[string, (key: string) => string | string[]]>([
      ['a bare key', (key) => key],
      ['a token', (key) => `t${key}`],
      ['a number', () => '4711'],
      ['a byte sequence', () => ':YWJj:'],
      ['a boolean', () => '?1'],
      ['a date', () => '@1700000000'],
      ['a display string', (key) => `%"${key}"`],
      ['an inner list', (key) => `("${key}")`],
      ['a list', (key) => `"${key}", "${key}"`],
      ['a repeated field, equal or not', (key) => [`"${key}"`, `"${key}"`]],
      ['nothing', () => ''],
    ])('refuses %s with 400', async (_, value) => {
      const answer = await send(value(id), {}, '/strict');
      expect(answer.status).toBe(400);
      expect(answer.text).toContain('key-invalid');
      expect(runs).toEqual([]);
    });
  });

  describe('enforces idempotency', () => {
    it('by running a first request normally', async () => {
      const answer = await send(`"${id}"`, { amount: 1 });
      expect(answer.status).toBe(201);
      expect(JSON.parse(answer.text)).toMatchObject({ body: { amount: 1 } });
      expect(isReplay(answer)).toBe(false);
    });

    it('by answering a retry with the result of the first request', async () => {
      const first = await send(`"${id}"`, { amount: 1 });
      const retry = await send(`"${id}"`, { amount: 1 });
      expect(comparable(retry)).toEqual(comparable(first));
      expect(isReplay(retry)).toBe(true);
      expect(runs).toEqual([id]);
    });

    it('by answering another payload under the same key with 422, a link, and the first result untouched', async () => {
      const first = await send(`"${id}"`, { amount: 1 });
      const other = await send(`"${id}"`, { amount: 2 });
      expect(other.status).toBe(422);
      expect(other.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(other.headers.link).toBe(DOCUMENTATION_LINK);
      expect(comparable(await send(`"${id}"`, { amount: 1 }))).toEqual(comparable(first));
      expect(runs).toEqual([id]);
    });

    it('by failing a request that was not corrected as often as it is retried', async () => {
      await send(`"${id}"`, { amount: 1 });
      for (let i = 0; i < 3; i++) {
        expect((await send(undefined, { amount: 1 })).status).toBe(400);
        expect((await send(`"${id}`, { amount: 1 })).status).toBe(400);
        expect((await send(`"${id}"`, { amount: 2 })).status).toBe(422);
      }
      expect(runs).toEqual([id]);
    });

    it('by comparing what the `fingerprint` option selects of the payload', async () => {
      const first = await send(`"${id}"`, { amount: 1, note: 'a' }, '/selected');
      expect(comparable(await send(`"${id}"`, { amount: 1, note: 'b' }, '/selected'))).toEqual(
        comparable(first),
      );
      expect((await send(`"${id}"`, { amount: 2, note: 'a' }, '/selected')).status).toBe(422);
    });

    it('by answering a concurrent request with 409, a link and Retry-After where `inFlight` is reject', async () => {
      held = gate();
      const first = send(`"${id}"`, {}, '/strict');
      await held.reached();
      const second = await send(`"${id}"`, {}, '/strict');
      expect(second.status).toBe(409);
      expect(second.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(second.headers.link).toBe(DOCUMENTATION_LINK);
      expect(Number(second.headers['retry-after'])).toBeGreaterThan(0);
      held.open();
      expect((await first).status).toBe(201);
      const third = await send(`"${id}"`, {}, '/strict');
      expect(comparable(third)).toEqual(comparable(await first));
      expect(runs).toEqual([id]);
    });

    it('by giving a concurrent request the first result by default, once it is there', async () => {
      held = gate();
      const first = send(`"${id}"`);
      await held.reached();
      const second = send(`"${id}"`);
      held.open();
      expect(comparable(await second)).toEqual(comparable(await first));
      expect(runs).toEqual([id]);
    });

    it('by looking up a key together with its caller, method and path', async () => {
      const as = (user: string): Promise<Answer> =>
        app.call('/payments', { body: {}, headers: { 'idempotency-key': id, 'x-user': user } });
      const ann = await as('ann');
      const bob = await as('bob');
      expect(isReplay(bob)).toBe(false);
      expect(bob.text).not.toBe(ann.text);
      expect(isReplay(await as('ann'))).toBe(true);
    });

    it('by treating an expired key as a new one', async () => {
      const brief = await startApp({
        platform,
        databaseUrl: postgres.url,
        controllers: [PaymentsController],
        options: { lease: '1s', postgres: { retention: '2s' } },
      });
      const post = (): Promise<Answer> =>
        brief.call('/expiring', { body: {}, headers: { 'idempotency-key': id } });
      const first = await post();
      expect(isReplay(await post())).toBe(true);
      await eventually(async () => expect((await post()).text).not.toBe(first.text));
      expect(runs).toEqual([id, id]);
      await brief.close();
    });
  });
});
