import { visible } from '../core/visible';
import { markup, type Markup, type Part } from './markup';

/**
 * Links are queries, as all pages have one path: they hold behind any prefix, proxy and version, and with a slash at
 * the end.
 */
export function link(view: string, parameters: Readonly<Record<string, string | undefined>> = {}): string {
  const query = new URLSearchParams({ view });
  for (const [name, value] of Object.entries(parameters)) if (value) query.set(name, value);
  return `?${query.toString()}`;
}

/** What a client has sent, in a list: shortened, and without characters that are not seen, or turn others around. */
export function brief(text: string, length = 64): string {
  const characters = Array.from(text);
  return visible(characters.length > length ? `${characters.slice(0, length).join('')}…` : text);
}

export function time(date: Date): Markup {
  const iso = date.toISOString();
  return markup`<time datetime="${iso}">${iso.replace('T', ' ').replace(/\.\d+Z$/, ' UTC')}</time>`;
}

export function notice(content: Part, role: 'alert' | 'status' = 'status'): Markup {
  return markup`<p class="note" role="${role}">${content}</p>`;
}

/** Scrolls on a narrow screen, also by the keyboard. */
export function table(caption: string, head: readonly Part[], rows: readonly (readonly Part[])[]): Markup {
  return markup`<div class="wide" role="region" aria-label="${caption}" tabindex="0">
<table><caption>${caption}</caption>
<thead><tr>${head.map((cell) => markup`<th scope="col">${cell}</th>`)}</tr></thead>
<tbody>
${rows.map((row) => markup`<tr>${row.map((cell) => markup`<td>${cell}</td>`)}</tr>\n`)}</tbody></table></div>`;
}

/** What is missing has no line. */
export function definitions(
  entries: readonly (readonly [term: string, value: Part])[],
  kind: 'lines' | 'figures' = 'lines',
): Markup {
  return markup`<dl class="${kind}">
${entries
  .filter(([, value]) => value !== undefined)
  .map(([term, value]) => markup`<div><dt>${term}</dt><dd>${value}</dd></div>\n`)}</dl>`;
}
