import { randomUUID } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { IdempotencyBoardModule } from 'nestjs-idempotency/board';
import { IdempotencyAdmin, type AuditEvent } from '../../lib';
import { startApp, type TestApp } from '../support/app';
import { bothStores } from '../support/both-stores';
import { eventually } from '../support/eventually';
import { isReplay, type Answer } from '../support/http';
import { lapse, sql } from '../support/postgres-store';
import { startProcess, type AppProcess } from '../support/processes';
import { launchChromium, problemsOf } from './chromium';

const PICTURES = join(__dirname, '../../.cache/board');
const SCREENS: readonly BrowserContextOptions[] = [
  { viewport: { width: 1200, height: 760 }, colorScheme: 'light' },
  { viewport: { width: 1200, height: 760 }, colorScheme: 'dark' },
  { viewport: { width: 390, height: 844 }, colorScheme: 'light' },
];

describe('the board in Chromium', () => {
  const stores = bothStores();
  const events: AuditEvent[] = [];
  let browser: Browser;
  let app: TestApp;
  let board: string;
  beforeAll(async () => {
    [browser] = await Promise.all([launchChromium(), mkdir(PICTURES, { recursive: true })]);
    app = await startApp({
      databaseUrl: stores.postgres.url,
      redisUrl: stores.redis.url,
      imports: [
        IdempotencyBoardModule.forRoot({ access: () => 'full', actor: () => 'ann', showBodies: true }),
      ],
      options: { audit: (event) => void events.push(event) },
    });
    board = `${app.url}/idempotency`;
  });
  afterAll(async () => {
    await browser.close();
    await app.close();
  });
  beforeEach(() =>
    sql(stores.postgres.url, "DELETE FROM idempotency_cache WHERE expires_at < now() + interval '1 year'"),
  );

  /** A page whose errors, and requests to other hosts, are kept. */
  const open = async (options: BrowserContextOptions = {}): Promise<{ page: Page; faults: string[] }> => {
    const page = await (await browser.newContext(options)).newPage();
    const faults: string[] = [];
    page.on('pageerror', ({ message }) => faults.push(message));
    page.on('console', (said) => said.type() === 'error' && faults.push(said.text()));
    page.on('dialog', (dialog) => {
      faults.push(`a script says ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(board)) faults.push(`asks ${request.url()}`);
    });
    return { page, faults };
  };
  const done = (scope: string, key: string, value: unknown): Promise<unknown> =>
    app.service.execute(key, () => value, { scope });
  const orphan = async (scope: string, key: string): Promise<void> => {
    const never = new Promise(() => undefined);
    void app.service.execute(key, () => never, { scope, lease: '1h' }).catch(() => undefined);
    await eventually(async () => expect(await app.service.find(key, { scope })).toBeDefined());
    await lapse(stores.postgres.url, key);
  };
  const hashOf = async (key: string): Promise<string> =>
    (await app.app.get(IdempotencyAdmin).list({ key })).records[0]!.hash;

  it('settles what a killed process has left: the retry gets it, and the audit has who and why', async () => {
    const { url } = stores.postgres;
    await sql(url, 'CREATE TABLE leads (id serial PRIMARY KEY, name text)');
    const start = (): Promise<AppProcess> =>
      startProcess({
        databaseUrl: url,
        redisUrl: stores.redis.url,
        options: { onOrphan: 'reject', lease: '1s' },
      });
    const [killed, other] = await Promise.all([start(), start()]);
    const [key, name] = [randomUUID(), randomUUID()];
    const send = (process: AppProcess): Promise<Answer> =>
      process.post('/leads', key, { name, takes: 60_000 }, { headers: { authorization: 'Bearer alice' } });
    void send(killed).catch(() => undefined);
    await killed.handling(name);
    await killed.stop();

    const { page, faults } = await open();
    await page.goto(board);
    await page.getByRole('link', { name: 'Orphans' }).click();
    await eventually(async () => {
      await page.reload();
      expect(await page.getByRole('link', { name: key }).count()).toBe(1);
    });
    expect((await send(other)).status).toBe(409);
    await page.getByRole('link', { name: key }).click();
    const form = page.getByRole('form', { name: 'Resolve' });
    await form.getByLabel('Body').fill('{"id":1,"settled":true}');
    await form.getByRole('button').click(); // the browser asks for the reason
    expect(await page.getByText('orphaned').count()).toBe(1);
    await form.getByLabel('Reason').fill('found the lead');
    await form.getByRole('button').click();
    await page.getByRole('status').getByText('Resolved').waitFor();
    expect(await page.getByText('completed').count()).toBeGreaterThan(0);
    await page.getByRole('link', { name: 'Orphans' }).click();
    expect(await page.getByText('There are no orphans').count()).toBe(1);
    expect(faults).toEqual([]);

    const answer = await send(other);
    expect(answer).toMatchObject({ status: 201, text: '{"id":1,"settled":true}' });
    expect(isReplay(answer)).toBe(true);
    expect(await sql(url, 'SELECT FROM leads WHERE name = $1', [name])).toHaveLength(1);
    expect(events).toMatchObject([
      {
        action: 'resolve',
        by: 'ann',
        reason: 'found the lead',
        result: 'done',
        record: { route: 'POST /leads' },
      },
    ]);
    await other.stop();
  });

  it('can be read by all, on any screen, light and dark', async () => {
    const scope = 'POST /api/webhooks/leados user.id:s:acme';
    for (let index = 1; index <= 12; index += 1)
      await done(scope, `evt_3Qk${index}`, { lead: index, name: 'Ada' });
    await done(scope, 'evt_3Qk1', undefined);
    await orphan('POST /api/payments user.id:s:acme', 'pay_81f2');
    const views = {
      overview: '',
      records: '?view=records',
      orphans: '?view=orphans',
      orphan: `?view=record&hash=${await hashOf('pay_81f2')}`,
      record: `?view=record&hash=${await hashOf('evt_3Qk7')}`,
      keys: '?view=keys',
      wrong: '?view=records&olderThan=soon',
    };
    for (const screen of SCREENS) {
      const { page, faults } = await open(screen);
      for (const [name, query] of Object.entries(views)) {
        await page.goto(board + query);
        expect({ name, problems: await problemsOf(page) }).toEqual({ name, problems: [] });
        const file = `${name}-${screen.viewport!.width}-${screen.colorScheme}.png`;
        await page.screenshot({ path: join(PICTURES, file) });
      }
      // The status of a page that says what is wrong is an error to the console.
      expect(faults.filter((fault) => !fault.includes('400 (Bad Request)'))).toEqual([]);
      await page.context().close();
    }
  });

  it('can be used by keyboard', async () => {
    await orphan('POST /orders', 'by-keyboard');
    const { page } = await open();
    await page.goto(`${board}?view=orphans`);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter'); // skips to the content
    const focused = (): Promise<string> => page.evaluate('document.activeElement.textContent');
    await eventually(async () => {
      await page.keyboard.press('Tab');
      expect(await focused()).toBe('by-keyboard');
    });
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Timeline' }).waitFor();
    const retry = page.getByRole('form', { name: 'Retry' });
    await retry.getByLabel('Reason').focus();
    await page.keyboard.type('it was not done');
    await page.keyboard.press('Enter');
    await page.getByText('The key is released').waitFor();
    expect(await app.service.find('by-keyboard', { scope: 'POST /orders' })).toBeUndefined();
  });

  it('runs nothing that clients have sent', async () => {
    const script = '<script>alert(1)</script><img src=x onerror=alert(1)>';
    await done(
      `POST /${script.replaceAll(' ', '/')} user.id:s:"><svg/onload=alert(1)>`,
      `"><svg/onload=alert(1)>${script}`,
      script,
    );
    const { page, faults } = await open();
    for (const query of ['', '?view=records', '?view=orphans']) await page.goto(board + query);
    await page.goto(`${board}?view=records`);
    await page.getByRole('main').getByRole('table').getByRole('link').click();
    expect(await page.getByRole('region', { name: 'Body' }).textContent()).toBe(JSON.stringify(script));
    await page.goto(
      `${board}?view=records&key=${encodeURIComponent(script)}&state=${encodeURIComponent(script)}`,
    );
    expect(faults.filter((fault) => !fault.includes('400 (Bad Request)'))).toEqual([]);
  });

  it('takes no form of another site, and shows itself in no frame', async () => {
    await orphan('POST /orders', 'aimed-at');
    const target = `${board}?view=record&hash=${await hashOf('aimed-at')}`;
    const { page } = await open();
    await page.goto(target); // the browser has the cookie now
    const token = await page.locator('input[name=token]').first().inputValue();
    const hostile = await serve(`<!doctype html><iframe src="${target}"></iframe>
<form method="post" action="${target}"><input name="token" value="${token}"><input name="action" value="retry">
<input name="reason" value="x"><button>Win a prize</button></form>`);
    await page.goto(hostile.url);
    const frame = page.frames().find((each) => each !== page.mainFrame());
    expect(await frame?.locator('form').count()).toBe(0);
    const [answer] = await Promise.all([
      page.waitForResponse((response) => response.request().method() === 'POST'),
      page.getByRole('button').click(),
    ]);
    expect(answer.status()).toBe(403);
    expect(await app.service.find('aimed-at', { scope: 'POST /orders' })).toBeDefined();
    hostile.server.close();
  });

  /** A page of another site. */
  function serve(body: string): Promise<{ url: string; server: Server }> {
    const server = createServer((_, response) => {
      response.setHeader('Content-Type', 'text/html').end(body);
    });
    return new Promise((resolve) =>
      server.listen(0, () =>
        resolve({ server, url: `http://localhost:${(server.address() as AddressInfo).port}` }),
      ),
    );
  }
});
