import { createReadStream, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import type { Browser } from 'playwright-core';
import { launchChromium, problemsOf } from '../../browser/chromium';

/*
 * Looks at the built site in Chromium: what axe finds on each page, errors of its scripts, requests to other hosts, and
 * pages that are wider than a phone. Takes pictures of some pages, for people.
 *
 *   npm run docs:check        after `npm run docs:build`; CHROMIUM names the browser, `chromium` of PATH by default
 */
const ROOT = join(__dirname, '../../..');
const SITE = join(ROOT, 'docs/.vitepress/dist');
const PICTURES = join(ROOT, '.cache/site');

const SCREENS = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
const PICTURED = [
  'index.html',
  'guide/how-it-works.html',
  'operate/troubleshooting.html',
  'reference/options.html',
  'internals/performance.html',
];
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
};

function serve(): Promise<Server> {
  const server = createServer(({ url = '/' }, response) => {
    const path = join(SITE, decodeURIComponent(new URL(url, 'http://site').pathname));
    const file = path.endsWith('/') ? join(path, 'index.html') : path;
    if (!existsSync(file)) return void response.writeHead(404).end();
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

async function look(browser: Browser, base: string, screen: keyof typeof SCREENS, scheme: 'light' | 'dark') {
  const context = await browser.newContext({ viewport: SCREENS[screen], colorScheme: scheme });
  const page = await context.newPage();
  let [at, count] = ['', 0];
  const report = (problem: string): void => {
    console.error(`${at}, ${screen}, ${scheme}: ${problem}`);
    count += 1;
  };
  page.on('pageerror', (error) => report(error.message));
  page.on('request', (request) => {
    if (!request.url().startsWith(base) && !request.url().startsWith('data:'))
      report(`asks ${request.url()}`);
  });
  const files = readdirSync(SITE, { recursive: true, encoding: 'utf8' });
  for (at of files.filter((file) => file.endsWith('.html') && file !== '404.html')) {
    await page.goto(`${base}/${at}`, { waitUntil: 'load' });
    for (const problem of await problemsOf(page)) report(problem);
    if (PICTURED.includes(at))
      await page.screenshot({
        path: join(PICTURES, `${at.replaceAll('/', '-').replace('.html', '')}-${screen}-${scheme}.png`),
      });
  }
  await context.close();
  return count;
}

async function main(): Promise<void> {
  if (!existsSync(SITE)) throw new Error('Run `npm run docs:build` first.');
  mkdirSync(PICTURES, { recursive: true });
  const server = await serve();
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const browser = await launchChromium();
  try {
    let count = 0;
    for (const screen of Object.keys(SCREENS) as (keyof typeof SCREENS)[])
      for (const scheme of ['light', 'dark'] as const) count += await look(browser, base, screen, scheme);
    console.log(`${count} problems; pictures are in ${PICTURES}`);
    if (count > 0) process.exitCode = 1;
  } finally {
    await browser.close();
    server.close();
  }
}

void main();
