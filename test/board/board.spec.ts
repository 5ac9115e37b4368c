import { Controller, Header, Post, Res } from '@nestjs/common';
import { randomBytes, randomUUID } from 'node:crypto';
import { register } from 'prom-client';
import { IdempotencyBoardModule, type BoardOptions } from 'nestjs-idempotency/board';
import {
  Idempotent,
  IdempotencyAdmin,
  type AuditEvent,
  type IdempotencyModuleOptions,
  type RecordSummary,
} from '../../lib';
import { startApp, type Platform, type TestApp } from '../support/app';
import { BoardVisitor, linksIn, tokenIn } from '../support/board-visitor';
import { bothStores } from '../support/both-stores';
import { eventually } from '../support/eventually';
import { isReplay, type Answer } from '../support/http';
import { sql } from '../support/postgres-store';

interface FromUser {
  readonly headers: Record<string, string>;
}

/** What a hostile client would like the operator's browser to run. */
const SCRIPT = `'"><script>alert(1)</script><img src=x onerror=alert(1)>\u202e`;

@Controller('orders')
class OrdersController {
  @Post()
  @Idempotent({ onOrphan: 'reject' })
  create(): unknown {
    return { made: 'a secret' };
  }

  @Post(['large', 'large/:name'])
  @Idempotent()
  large(@Res({ passthrough: true }) response: { setHeader(name: string, value: string): void }): string {
    for (let index = 0; index < 12; index += 1) response.setHeader(`X-Large-${index}`, '"'.repeat(600));
    for (let index = 12; index < 80; index += 1) response.setHeader(`X-Large-${index}`, '&'.repeat(60));
    return "'".repeat(20_000);
  }

  @Post('hostile/:name')
  @Idempotent()
  @Header('Content-Type', 'text/html')
  @Header('X-Upstream-Token', 'credential of the upstream')
  hostile(@Res({ passthrough: true }) response: { setHeader(name: string, value: string): void }): string {
    response.setHeader('X-Note', `"><script>alert(2)</script>`);
    return SCRIPT;
  }
}

const scope: IdempotencyModuleOptions['scope'] = (context) =>
  context.switchToHttp().getRequest<FromUser>().headers['x-user'] ?? 'u7';

describe('the board', () => {
  const stores = bothStores();
  const events: AuditEvent[] = [];
  let databaseUrl: string;
  let app: TestApp;
  let board: BoardVisitor;

  const start = async (
    options: Partial<BoardOptions> = {},
    module: IdempotencyModuleOptions = {},
    platform: Platform = 'express',
  ): Promise<TestApp> => {
    const started = await startApp({
      platform,
      databaseUrl,
      redisUrl: stores.redis.url,
      controllers: [OrdersController],
      imports: [IdempotencyBoardModule.forRoot({ access: () => 'full', ...options })],
      options: { scope, audit: (event) => void events.push(event), ...module },
    });
    stores.apps.push(started);
    return started;
  };
  const boardOf = ({ url }: TestApp): BoardVisitor => new BoardVisitor(`${url}/idempotency`);
  beforeEach(async () => {
    events.length = 0;
    databaseUrl = await stores.postgres.createDatabase();
    await open('express');
  });
  const open = async (platform: Platform): Promise<void> => {
    app = await start({ actor: () => 'ann' }, {}, platform);
    board = boardOf(app);
  };

  const send = (key: string, path = '/orders'): Promise<Answer> =>
    app.call(path, { headers: { 'idempotency-key': key } });
  const records = async (): Promise<readonly RecordSummary[]> =>
    (await app.app.get(IdempotencyAdmin).list({ limit: 1_000 })).records;
  /** Its owner was lost before it recorded what it had done. */
  const orphan = async (key: string, scopeOfWork?: string): Promise<string> => {
    if (scopeOfWork === undefined) expect((await send(key)).status).toBe(201);
    else await app.service.execute(key, () => 0, { scope: scopeOfWork });
    const { hash } = (await records()).find((each) => each.key === key)!;
    await eventually(async () =>
      expect(await app.app.get(IdempotencyAdmin).show(hash)).toMatchObject({ copy: 'completed' }),
    );
    await sql(
      databaseUrl,
      `UPDATE idempotency_cache SET state = 'in_progress', lease_until = now() - interval '1 second',
         completed_at = NULL, status = NULL, headers = NULL, body = NULL WHERE key = $1`,
      [key],
    );
    await stores.client.flushall();
    return hash;
  };

  it.each<Platform>(['express', 'fastify'])(
    'shows what there is, by links from page to page: on %s',
    async (platform) => {
      if (platform !== 'express') await open(platform);
      const keys = Array.from({ length: 30 }, (_, index) => `key-${index}`);
      for (const key of keys) await send(key);
      expect(isReplay(await send('key-0'))).toBe(true);

      const overview = await board.get();
      expect(overview.status).toBe(200);
      expect(overview.text).toMatch(/Redis <span class="good">up<.*Postgres <span class="good">up</s);
      expect(overview.text).toMatch(/<dt>completed<\/dt><dd><a [^>]+>30</);
      expect(overview.text).toMatch(/<td><code>executed<\/code><\/td><td>[1-9]/);
      expect(overview.text).toContain('POST /orders');

      const [list] = linksIn(overview).filter((target) => target === '?view=records');
      const [first, seen] = [await board.get(list), new Set<string>()];
      const note = ({ text }: Answer): void => {
        for (const [, key] of text.matchAll(/<code>(key-\d+)<\/code>/g)) {
          expect(seen).not.toContain(key);
          seen.add(key!);
        }
      };
      note(first);
      expect(seen.size).toBe(25);
      const [next] = linksIn(first).filter((target) => target.includes('cursor='));
      note(await board.get(next));
      expect([...seen].sort()).toEqual(keys.sort());

      const found = await board.get(
        '?view=records&state=completed&route=POST+/orders&principal=u7&key=key-7&olderThan=0s',
      );
      const [record] = linksIn(found).filter((target) => target.startsWith('?view=record&'));
      const shown = await board.get(record);
      expect(shown.status).toBe(200);
      for (const text of [
        'key-7',
        'POST /orders',
        'scope:s:u7',
        'completed',
        'application/json; charset=utf-8',
      ])
        expect(shown.text).toContain(text);
      expect(shown.text).toContain('Bodies are not shown');
      expect(shown.text).not.toContain('a secret');
      for (const page of [overview, first, shown]) expect(page.body.length).toBeLessThan(20_000);
    },
  );

  it('counts the requests of each key in this process', async () => {
    await send('hot');
    await send('hot');
    await send('cold');
    const page = await board.get('?view=keys');
    expect(page.text).toMatch(/<td>POST \/orders<\/td><td>2<\/td><td>1<\/td><td>1<\/td><td>0<\/td>/);
    const targets = linksIn(page).filter((target) => target.startsWith('?view=record&'));
    expect(targets).toHaveLength(1);
    expect((await board.get(targets[0])).text).toContain('<code>hot</code>');
  });

  it('says what is wrong with a filter or a link, and finds no record that is not there', async () => {
    for (const wrong of ['cursor=made-up', 'route=orders', 'olderThan=soon', 'state=lost']) {
      const answer = await board.get(`?view=records&${wrong}`);
      expect(answer.status).toBe(400);
      expect(answer.text).toMatch(/role="alert">IdempotencyAdmin\.list: option/);
    }
    expect((await board.get('?view=records&principal=user.id:s:u8&key=%00')).text).toContain(
      'There are no such records',
    );
    expect((await board.get('?view=orphans&cursor=made-up')).status).toBe(400);
    for (const missing of [
      `record&hash=${'0'.repeat(64)}`,
      'record&hash=%00',
      'record',
      'toString',
      'nothing',
    ])
      expect((await board.get(`?view=${missing}`)).status).toBe(404);
  });

  it.each<Platform>(['express', 'fastify'])(
    'settles an orphan: the retry gets the response, and the audit says who and why: on %s',
    async (platform) => {
      if (platform !== 'express') await open(platform);
      const key = randomUUID();
      const page = `?view=record&hash=${await orphan(key)}`;
      expect(linksIn(await board.get('?view=orphans'))).toContain(page);
      const answer = {
        status: '201',
        headers: 'Content-Type: application/json\r\nX-By: hand',
        body: '{"id":\r\n7}',
      };
      const refused = await board.submit(page, 'resolve', {
        ...answer,
        status: '99',
        reason: 'TICKET "42"',
      });
      expect(refused.status).toBe(400);
      for (const kept of ['cannot be sent', 'value="99"', 'TICKET &#34;42&#34;', 'X-By: hand'])
        expect(refused.text).toContain(kept);
      for (const wrong of [{ reason: ' ' }, { reason: 'x', headers: 'no header' }])
        expect((await board.submit(page, 'resolve', { ...answer, ...wrong })).status).toBe(400);
      expect(events).toEqual([]);

      const done = await board.submit(page, 'resolve', { ...answer, reason: 'found the order' });
      expect(done).toMatchObject({
        status: 303,
        headers: { location: expect.stringContaining(`${page}&done=resolve`) },
      });
      expect((await board.get(done.headers.location)).text).toContain('Resolved');
      const retried = await send(key);
      expect(retried).toMatchObject({ status: 201, text: '{"id":\n7}', headers: { 'x-by': 'hand' } });
      expect(isReplay(retried)).toBe(true);
      expect(events).toMatchObject([
        {
          action: 'resolve',
          by: 'ann',
          reason: 'found the order',
          result: 'done',
          record: { route: 'POST /orders' },
        },
      ]);
    },
  );

  it('releases a key, settles work that is no request, and forgets', async () => {
    const reason = 'looked';
    const [retried, job, late] = [await orphan('a'), await orphan('b', 'nightly job'), await orphan('c')].map(
      (hash) => `?view=record&hash=${hash}`,
    );
    expect(await board.submit(retried!, 'retry', { reason })).toMatchObject({
      status: 303,
      headers: { location: expect.stringContaining('?view=orphans&done=retry') },
    });
    expect((await send('a')).text).toBe('{"made":"a secret"}');

    expect((await board.submit(job!, 'resolve', { value: '{', reason })).text).toContain(
      'the value is not JSON',
    );
    await board.submit(job!, 'resolve', { value: '{"rows":3}', reason });
    await expect(app.service.execute('b', () => 0, { scope: 'nightly job' })).resolves.toEqual({ rows: 3 });

    await board.submit(late!, 'resolve', { status: '201', headers: '', body: 'done', reason });
    const token = tokenIn(await board.get(late), 'forget');
    const tooLate = await board.post(late!, { token, action: 'retry', reason });
    expect((await board.get(tooLate.headers.location)).text).toContain('Nothing was changed');
    await board.submit(late!, 'forget', { reason });
    expect((await board.get(late)).status).toBe(404);
    expect(events.map(({ action }) => action)).toEqual(['retry', 'resolve', 'resolve', 'forget']);
  });

  it('shows to readers all but the forms', async () => {
    const reader = boardOf(await start({ access: () => 'read' }));
    const page = `?view=record&hash=${await orphan('a')}`;
    const shown = await reader.get(page);
    expect(shown.text).toContain('orphaned');
    expect(shown.text).not.toContain('<form method="post"');
    expect(shown.headers['set-cookie']).toBeUndefined();
    const fields = { action: 'forget', reason: 'x', token: 'x'.repeat(43) };
    const forged = await reader.post(page, fields, { cookie: `idempotency-board=${fields.token}` });
    expect(forged).toMatchObject({ status: 403 });
    expect(await records()).toHaveLength(1);
  });

  it('sends no markup of a client, and no credential of a response', async () => {
    const opened = boardOf(await start({ showBodies: true }));
    await send(
      `"${SCRIPT.slice(0, -1).replaceAll('"', '\\"')}"`,
      `/orders/hostile/${encodeURIComponent('<script>alert(3)</script>')}`,
    );
    await orphan(SCRIPT, `POST /orders/<script>alert(4)</script> scope:s:<script>alert(5)</script>`);
    const pages = [
      await opened.get(),
      await opened.get('?view=records'),
      await opened.get('?view=orphans'),
      ...(await Promise.all((await records()).map(({ hash }) => opened.get(`?view=record&hash=${hash}`)))),
      await opened.get(`?view=records&key=${encodeURIComponent(SCRIPT)}&state=${encodeURIComponent(SCRIPT)}`),
      await opened.get(`?view=${encodeURIComponent(SCRIPT)}&done=${encodeURIComponent(SCRIPT)}`),
      await opened.get('?view=orphans&done=__proto__'),
      await opened.get('?view=orphans&done=toString'),
    ];
    expect(pages.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 400, 404, 200, 200]);
    expect(pages.map(({ text }) => text).join()).not.toContain('native code');
    for (const { text } of pages) {
      expect(text).not.toMatch(/<script|<img/);
      // What the reader looks for stays in its field as it is.
      expect(text.replaceAll(/value="[^"]*"/g, '')).not.toContain('\u202e');
      expect(text).not.toMatch(/(?:href|src|action)="(?!\?view=|#content)/);
    }
    const all = pages.map(({ text }) => text).join('');
    for (const shown of [1, 2, 4]) expect(all).toContain(`&#60;script&#62;alert(${shown})`);
    expect(all).toContain('X-Upstream-Token');
    expect(all).toContain('(hidden)');
    expect(all).not.toContain('credential of the upstream');
  });

  it('stays below 60 kB with the longest keys and bodies', async () => {
    const opened = boardOf(await start({ showBodies: true }));
    for (let index = 0; index < 26; index += 1)
      expect((await send(`${index}${"'".repeat(250)}`, `/orders/hostile/${'%27'.repeat(90)}`)).status).toBe(
        201,
      );
    const list = await opened.get('?view=records');
    const [last] = await records();
    const record = await opened.get(`?view=record&hash=${last!.hash}`);
    expect(list.text.match(/view=record&#38;/g)).toHaveLength(25);
    for (const { body } of [list, record]) expect(body.length).toBeLessThan(60_000);
  });

  it('stays below 60 kB with many large headers and a body of characters that take more room', async () => {
    const opened = boardOf(await start({ showBodies: true }));
    expect((await send('a', '/orders/large')).status).toBe(201);
    const [large] = await records();
    const page = await opened.get(`?view=record&hash=${large!.hash}`);
    expect(page.body.length).toBeLessThan(60_000);
    expect(page.text).toContain('X-Large-0');
    expect(page.text).toMatch(/\(\d+ more are not shown\)/);
  });

  it('stays below 60 kB with keys, routes and callers that are long, of characters that take the most room', async () => {
    const opened = boardOf(await start({ showBodies: true }));
    const long = (length: number): string => '\u{10ffff}'.repeat(length);
    const twice = async (index: number): Promise<void> => {
      const [key, scope] = [`${index}${long(120)}`, `POST /${index}${long(1_000)} scope:s:${long(1_000)}`];
      for (const work of [1, 2]) await app.service.execute(key, () => work, { scope });
    };
    await Promise.all(Array.from({ length: 90 }, (_, index) => twice(index)));
    const [last] = await records();
    expect(
      linksIn(await opened.get('?view=keys')).filter((at) => at.startsWith('?view=record&')),
    ).toHaveLength(25);
    const pages = ['?view=overview', '?view=records', '?view=keys', `?view=record&hash=${last!.hash}`];
    for (const at of pages) {
      const { status, body } = await opened.get(at);
      expect(status).toBe(200);
      expect(body.length).toBeLessThan(60_000);
    }
  });

  it('stays below 60 kB with a record of which all is large, and says how long what it cuts off is', async () => {
    const opened = boardOf(await start({ showBodies: true }));
    const [key, long] = ["'".repeat(255), "'".repeat(4_000)];
    const headers = { 'idempotency-key': key, 'x-user': long };
    expect((await app.call(`/orders/large/${long}`, { headers })).status).toBe(201);
    const [large] = await records();
    const page = await opened.get(`?view=record&hash=${large!.hash}`);
    expect(page.body.length).toBeLessThan(60_000);
    expect(page.text).toContain(`… (${large!.scope.length} characters)</code>`);
  });

  it('stays below 60 kB with very many headers', async () => {
    const page = `?view=record&hash=${await orphan('a')}`;
    const headers = Array.from({ length: 2_000 }, (_, index) => `x${index}:1`).join('\n');
    await board.submit(page, 'resolve', { status: '201', headers, body: '', reason: 'looked' });
    const { text, body } = await board.get(page);
    expect(text).toMatch(/\(\d+ more are not shown\)/);
    expect(body.length).toBeLessThan(60_000);
  });

  it('tells of a change to the browser that made it alone', async () => {
    const page = `?view=record&hash=${await orphan('a')}`;
    const told = 'Resolved: retries get this response';
    await board.get(page);
    expect((await board.get(`${page}&done=resolve`)).text).not.toContain(told);
    const reason = 'looked';
    const done = await board.submit(page, 'resolve', { status: '201', headers: '', body: '', reason });
    const { location } = done.headers;
    expect((await board.get(location)).text).toContain(told);
    expect((await boardOf(app).get(location)).text).not.toContain(told);
    const other = `?view=record&hash=${await orphan('b')}`;
    expect((await board.get(location!.replace(page, other))).text).not.toContain(told);
  });

  it('shows what redact leaves, and nothing where redact fails', async () => {
    await send('a');
    const [{ hash } = { hash: '' }] = await records();
    const page = `?view=record&hash=${hash}`;
    const body = Buffer.from('redacted');
    const redacting = await start({
      showBodies: true,
      redact: (record) => ({
        ...record,
        key: 'no key',
        outcome: record.outcome?.kind === 'response' ? { ...record.outcome, body } : record.outcome,
      }),
    });
    const shown = await boardOf(redacting).get(page);
    expect(shown.text).toMatch(/no key.*<pre[^>]*>redacted</s);
    expect(shown.text).not.toContain('a secret');
    const failing = await start({
      showBodies: true,
      redact: () => {
        throw new Error('no');
      },
    });
    const hidden = await boardOf(failing).get(page);
    expect(hidden).toMatchObject({ status: 200 });
    expect(hidden.text).toContain('The option redact failed');
    expect(hidden.text).not.toMatch(/a secret|application\/json/);
  });

  it('says of a response that it is encrypted with another key', async () => {
    const key = (): string => randomBytes(32).toString('base64');
    const sealed = await start({}, { encryption: { keys: [key()] } });
    await sealed.call('/orders', { headers: { 'idempotency-key': 'a' } });
    const other = await start({ showBodies: true }, { encryption: { keys: [key()] } });
    const [{ hash } = { hash: '' }] = await records();
    const shown = await boardOf(other).get(`?view=record&hash=${hash}`);
    expect(shown.status).toBe(200);
    expect(shown.text).toContain('it cannot be read here');
  });

  it('shows which store is down, and what it still knows', async () => {
    const slow = boardOf(await start({}, { postgres: { timeout: '1s' } }));
    const tiers = async (view = ''): Promise<unknown> => {
      const { status, text } = await slow.get(view);
      const state = (tier: string): string | undefined =>
        new RegExp(`${tier} <span class="\\w+">(\\w+)<`).exec(text)?.[1];
      return { status, redis: state('Redis'), postgres: state('Postgres') };
    };
    try {
      stores.redis.kill('SIGSTOP');
      expect(await tiers()).toEqual({ status: 200, redis: 'down', postgres: 'up' });
      expect(await tiers('?view=records')).toEqual({ status: 200, redis: 'down', postgres: 'up' });
      stores.postgres.kill('SIGSTOP');
      expect(await tiers()).toEqual({ status: 200, redis: 'down', postgres: 'down' });
      expect(await tiers('?view=records')).toEqual({ status: 503, redis: 'down', postgres: 'down' });
    } finally {
      for (const store of [stores.postgres, stores.redis]) store.kill('SIGCONT');
    }
    await eventually(async () =>
      expect(await tiers('?view=orphans')).toEqual({ status: 200, redis: 'up', postgres: 'up' }),
    );
  });

  it('shows on the overview what is known without prom-client', async () => {
    await send('counted');
    await send('counted');
    const single = jest.spyOn(register, 'getSingleMetric').mockReturnValue(undefined);
    const { status, text } = await board.get().finally(() => single.mockRestore());
    expect(status).toBe(200);
    expect(text).toContain('More is counted with @willsoto/nestjs-prometheus and prom-client');
    for (const [name, value] of [
      ['completed', /about 1|>1</],
      ['requests executed', /^1$/],
      ['requests replayed', /^1$/],
      ['hit rate', /^50\.0 %$/],
    ] as const)
      expect(new RegExp(`<dt>${name}</dt>\\s*<dd>(.*?)</dd>`).exec(text)?.[1]).toMatch(value);
    expect(text).not.toContain('replays from Redis');
  });

  it.each<Platform>(['express', 'fastify'])(
    'says of no change that it is done as Postgres stops before its form comes, on %s',
    async (platform) => {
      const slow = boardOf(await start({ actor: () => 'ann' }, { postgres: { timeout: '1s' } }, platform));
      const query = `?view=record&hash=${await orphan('stopped')}`;
      const token = tokenIn(await slow.get(query), 'resolve');
      const form = { token, action: 'resolve', status: '201', headers: '', body: 'done', reason: 'found it' };
      stores.postgres.kill('SIGSTOP');
      try {
        const { status, text, headers } = await slow.post(query, form);
        expect(status).toBe(503);
        expect(headers.location).toBeUndefined();
        expect(text).toContain('Whether the change was made is unknown: look at the record again.');
        expect(text).not.toContain('Resolved');
      } finally {
        stores.postgres.kill('SIGCONT');
      }
      expect(events.filter(({ result }) => result === 'done')).toEqual([]);
      await eventually(async () => expect((await slow.get(query)).status).toBe(200));
    },
  );
});
