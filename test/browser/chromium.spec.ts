import type { Browser } from 'playwright-core';
import { launchChromium, problemsOf } from './chromium';

describe('the browser of these tests', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launchChromium();
  });
  afterAll(() => browser.close());

  const problemsOfBody = async (body: string): Promise<string[]> => {
    const page = await browser.newPage();
    await page.setContent(
      `<!doctype html><html lang="en"><title>Page</title><main><h1>Page</h1>${body}</main></html>`,
    );
    const problems = await problemsOf(page);
    await page.close();
    return problems;
  };

  it('finds what a reader cannot see or reach, and nothing else', async () => {
    expect(await problemsOfBody('<p>Text</p>')).toEqual([]);
    expect(await problemsOfBody('<input>')).toEqual([expect.stringMatching(/^axe: label at input/)]);
    expect(await problemsOfBody('<p style="width: 3000px">Text</p>')).toEqual([
      expect.stringMatching(/^\d+ pixels wider than the screen$/),
    ]);
  });

  it('says how to get one where there is none', () => {
    const { CHROMIUM, PATH } = process.env;
    try {
      process.env.CHROMIUM = '/nowhere/chromium';
      expect(launchChromium).toThrow(/CHROMIUM is \/nowhere\/chromium, which cannot be run. Install it/);
      delete process.env.CHROMIUM;
      process.env.PATH = '/nowhere';
      expect(launchChromium).toThrow(/no Chromium on PATH. Install it \(Debian: apt-get install chromium\)/);
    } finally {
      Object.assign(process.env, { PATH }, CHROMIUM === undefined ? {} : { CHROMIUM });
    }
  });
});
