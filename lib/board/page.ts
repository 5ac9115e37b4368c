import { createHash } from 'node:crypto';
import type { HealthReport } from '../observability/health';
import { link } from './elements';
import { Markup, markup, type Part } from './markup';
import { STYLE } from './style';

/** What the menu leads to. */
export const MENU = {
  overview: 'Overview',
  records: 'Records',
  orphans: 'Orphans',
  keys: 'Hot keys',
} as const;

/** One page, without its frame. */
export interface View {
  readonly title: string;
  readonly content: Markup;
  /** @default 200 */
  readonly status?: number;
}

/**
 * @param current where the menu says that the reader is
 * @param health undefined where it was not asked for
 */
export function page({ title, content }: View, current: string, health: HealthReport | undefined): string {
  const items = Object.entries(MENU).map(
    ([view, text]) =>
      markup`<li><a href="${link(view)}"${view === current && new Markup(' aria-current="page"')}>${text}</a></li>\n`,
  );
  return markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} – Idempotency</title>
<style>${new Markup(STYLE)}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<p><strong>Idempotency</strong></p>
<nav aria-label="Board"><ul>
${items}</ul></nav>
${health && markup`<p>${tiers(health)}</p>`}
</header>
<main id="content" tabindex="-1">
<h1>${title}</h1>
${content}
</main>
</body>
</html>
`.source;
}

const TIERS: Readonly<Record<keyof HealthReport, string>> = {
  redis: 'Redis',
  postgres: 'Postgres',
  store: 'The application’s store',
};
const LOOKS = { up: 'good', down: 'bad', disabled: 'dim' } as const;

function tiers(health: HealthReport): Part {
  const states = (['redis', 'postgres', 'store'] as const).flatMap((tier) => {
    const state = health[tier];
    return state ? [markup`${TIERS[tier]} <span class="${LOOKS[state]}">${state}</span>`] : [];
  });
  return states.map((state, index) => [index > 0 && ' · ', state]);
}

/** No script, no other host, no frame around it, no copy in a cache. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': 'text/html; charset=utf-8',
  'Cache-Control': 'no-store',
  'Content-Security-Policy': [
    "default-src 'none'",
    `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  // With no-referrer, browsers hide the origin of the board's own forms.
  'Referrer-Policy': 'same-origin',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'X-Robots-Tag': 'noindex',
};
