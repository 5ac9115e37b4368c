import { mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Browser, Frame, Page } from 'playwright-core';
import { eventually } from '../support/eventually';
import { launchSample, type Sample } from '../support/sample';
import { launchChromium, problemsOf } from './chromium';

const PICTURES = join(__dirname, '../../.cache/story');
const PHONE = { width: 360, height: 740 };
const DESKTOP = { width: 1280, height: 900 };

describe('the story of the sample application', () => {
  let browser: Browser;
  let sample: Sample;
  let base = '';
  let page: Page;
  let hostile: Server | undefined;
  /** What no page of ours may do: scripts that fail, files that its policy blocks, requests to other hosts. */
  let complaints: string[] = [];

  beforeAll(async () => {
    mkdirSync(PICTURES, { recursive: true });
    sample = launchSample();
    [base, browser] = await Promise.all([sample.listening(), launchChromium()]);
  });
  afterAll(async () => {
    await browser.close();
    hostile?.close();
    sample.child.kill('SIGKILL');
    await sample.exits();
  });
  beforeEach(async () => {
    complaints = [];
    page = await browser.newPage({ viewport: DESKTOP });
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => {
      if (!request.url().startsWith(base)) complaints.push(`asks ${request.url()}`);
    });
    page.on('console', (message) => {
      // Chromium writes a line for each answer from 400 on; no step of the page gets one.
      if (message.type() === 'error') complaints.push(message.text());
    });
    await page.goto(base);
    await done();
  });
  afterEach(() => page.close());

  const done = (): Promise<void> => page.locator('main[aria-busy="false"]').waitFor();
  const said = (): Promise<string | null> => page.locator('#said').textContent();
  const store = (name: 'redis' | 'postgres'): Promise<string | null> =>
    page.locator(`#${name}`).textContent();
  const leads = (): Promise<number> => page.locator('#leads tr').count();
  const latest = () => page.locator('#answers > li').first();
  const metrics = async (): Promise<string> =>
    (await page.locator('#metrics tr').allTextContents()).join('\n');
  /** Presses a button of a step, also one that says why it does nothing, and waits until the step is done. */
  const press = async (step: string, button: string): Promise<string | null> => {
    const title = page.getByRole('heading', { name: step, exact: true });
    await page
      .locator('.story li', { has: title })
      .getByRole('button', { name: button })
      .click({ force: true });
    await done();
    return said();
  };

  it('is played from top to bottom', async () => {
    expect(await press('A webhook arrives', 'Send a webhook')).toBe('201, from the handler');
    expect(await leads()).toBe(1);
    expect(await metrics()).toMatch(/idempotency_misses\s*0\s*1/);

    expect(await press('It is sent again', 'Send it again')).toMatch(/^201, from (Redis|Postgres)$/);
    expect(await latest().textContent()).toContain('same bytes as the first');
    await latest().locator('summary').click();
    expect(await latest().locator('pre').textContent()).toMatch(/^Idempotent-Replayed: true$/m);
    expect(await leads()).toBe(1);

    expect(await press('Ten arrive at once', 'Send ten at once')).toMatch(
      /^1 × 201, from the handler; 9 × 201, from [\w ]+$/,
    );
    expect(await leads()).toBe(2);

    await press('Redis is killed', 'Kill Redis');
    expect(await store('redis')).toBe('down');
    expect(await press('Redis is killed', 'Send it again')).toBe('201, from Postgres');
    expect(await metrics()).toMatch(/idempotency_db_hits/);
    expect(await latest().textContent()).toContain('same bytes as the first');

    const again = () => press('Redis starts again, empty', 'Send it again');
    await press('Redis starts again, empty', 'Start Redis');
    expect(await store('redis')).toBe('up');
    expect(await again()).toBe('201, from Postgres');
    await eventually(async () => expect(await again()).toBe('201, from Redis'));

    await press('Postgres is frozen', 'Freeze Postgres');
    expect(await store('postgres')).toBe('frozen');
    expect(await press('Postgres is frozen', 'Send it again')).toBe('201, from Redis');
    expect(await press('Postgres is frozen', 'Send a webhook')).toBe('503, refused');
    await latest().locator('summary').click();
    expect(await latest().locator('pre').textContent()).toMatch(/^Retry-After: \d+$/m);
    await page.screenshot({ path: join(PICTURES, 'frozen.png'), fullPage: true });

    await page.reload();
    await eventually(async () => expect(await store('postgres')).toBe('frozen'));
    expect(await press('Postgres thaws', 'Send it again')).toBe('Send a webhook first.');
    await press('Postgres thaws', 'Thaw Postgres');
    expect(await store('postgres')).toBe('up');
    expect(await leads()).toBe(2);
    await press('A webhook arrives', 'Send a webhook');
    expect(await leads()).toBe(3);

    const killed = 'An instance is killed in its handler';
    expect(await press(killed, 'Kill an instance')).toBe('no answer');
    expect(await leads()).toBe(3);
    expect(await press(killed, 'Send it again')).toBe('201, from the handler');
    expect(await leads()).toBe(4);
    expect(await page.locator('#leads-count').textContent()).toContain('No webhook of this page has two');
    expect(complaints).toEqual([]);
  });

  it('runs the handler of a refused webhook once Postgres thaws', async () => {
    await press('Postgres is frozen', 'Freeze Postgres');
    expect(await press('Postgres is frozen', 'Send a webhook')).toBe('503, refused');
    await press('Postgres thaws', 'Thaw Postgres');
    expect(await press('Postgres thaws', 'Send it again')).toBe('201, from the handler');
    expect(await press('Postgres thaws', 'Send it again')).toMatch(/^201, from (Redis|Postgres)$/);
  });

  it('can be read and played by keyboard, in light and dark, on a desk and a phone', async () => {
    await page.keyboard.press('Tab');
    const [board] = await Promise.all([page.waitForEvent('popup'), page.keyboard.press('Enter')]);
    await board.getByRole('heading', { name: 'Overview' }).waitFor();
    await board.close();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await eventually(async () => expect(await said()).toBe('201, from the handler'));
    await done();
    await latest().locator('summary').click();
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const [name, viewport] of Object.entries({ DESKTOP, PHONE })) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize(viewport);
        expect(await problemsOf(page)).toEqual([]);
        await page.screenshot({ path: join(PICTURES, `${name.toLowerCase()}-${colorScheme}.png`) });
      }
    }
    expect(complaints).toEqual([]);
  });

  it('obeys no page of another site', async () => {
    const steps = ['redis/kill', 'postgres/freeze'];
    const urls = steps.map((step) => `${base}/story/${step}`);
    hostile = createServer((_, response) => {
      response.setHeader('content-type', 'text/html');
      response.end(`<iframe name="frame"></iframe><iframe src="${base}"></iframe>
        ${urls.map((url) => `<form method="post" target="frame" action="${url}"></form>`).join('')}
        <script>
          for (const form of document.forms) form.submit();
          const call = (url, options) => fetch(url, { method: 'POST', ...options }).then(({ type }) => type, () => 'blocked');
          const headers = { authorization: 'Bearer dev-token' };
          var tried = Promise.all(
            ${JSON.stringify(urls)}.flatMap((url) => [call(url, { headers }), call(url, { mode: 'no-cors' })]),
          );
        </script>`);
    });
    await new Promise<void>((resolve) => hostile!.listen(0, '127.0.0.1', resolve));
    const other = await browser.newPage();
    const statuses: number[] = [];
    other.on('response', (response) => {
      if (response.url().includes('/story/')) statuses.push(response.status());
    });
    await other.goto(`http://localhost:${(hostile.address() as AddressInfo).port}`);
    const tried = await other.evaluate<string[]>('tried');
    expect(tried.filter((type) => type !== 'blocked' && type !== 'opaque')).toEqual([]);
    await eventually(() => expect(statuses.length).toBeGreaterThan(0));
    expect(statuses.filter((status) => ![401, 403, 404].includes(status))).toEqual([]);
    // One frame has the refusal of a form, and one the browser's own words; the page itself is shown in none.
    const title = (shown: Page | Frame) =>
      shown.getByRole('heading', { name: 'One webhook, one lead' }).count();
    expect(await title(page)).toBe(1);
    for (const frame of other.frames()) expect(await title(frame)).toBe(0);
    await other.close();
    await page.reload();
    await eventually(async () =>
      expect([await store('redis'), await store('postgres')]).toEqual(['up', 'up']),
    );
  });
});
