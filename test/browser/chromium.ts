import { source as axe } from 'axe-core';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

/** Starts the browser that CHROMIUM names, or the first of PATH. @throws Error that says how to get one */
export function launchChromium(): Promise<Browser> {
  // Its sandbox does not start for root, nor in most containers. It shows pages of these tests alone.
  return chromium.launch({
    executablePath: executable(),
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}

function executable(): string {
  const { CHROMIUM, PATH = '' } = process.env;
  const candidates = CHROMIUM
    ? [CHROMIUM]
    : PATH.split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  const found = candidates.find(isExecutable);
  if (found) return found;
  throw new Error(
    `${CHROMIUM ? `CHROMIUM is ${CHROMIUM}, which cannot be run` : 'There is no Chromium on PATH'}. ` +
      'Install it (Debian: apt-get install chromium), or set CHROMIUM to the path of one.',
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

interface Violation {
  readonly id: string;
  readonly nodes: readonly { readonly target: readonly string[]; readonly failureSummary: string }[];
}

/** What axe finds on a page, and whether it is wider than the screen. */
export async function problemsOf(page: Page): Promise<string[]> {
  // Over the debugger, so that the page's own policy for scripts does not keep it out.
  await page.evaluate(axe);
  const violations = await page.evaluate<Violation[]>('axe.run().then(({ violations }) => violations)');
  const found = violations.map(
    ({ id, nodes }) =>
      `axe: ${id} at ${nodes[0]?.target.join(' ')} (${nodes.length}): ${nodes[0]?.failureSummary}`,
  );
  const overflow = await page.evaluate<number>(
    'document.documentElement.scrollWidth - document.documentElement.clientWidth',
  );
  return overflow > 0 ? [...found, `${overflow} pixels wider than the screen`] : found;
}
