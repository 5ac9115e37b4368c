/** HTML that is safe to send as it is. */
export class Markup {
  constructor(readonly source: string) {}
}

export type Part = Markup | string | number | false | undefined | readonly Part[];

/** Makes HTML of a template. Each text in it is escaped, for elements and for attributes in double quotes. */
export function markup(texts: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(texts.map((text, index) => text + sourceOf(parts[index])).join(''));
}

function sourceOf(part: Part): string {
  if (part instanceof Markup) return part.source;
  if (part === undefined || part === false) return '';
  if (typeof part === 'object') return part.map(sourceOf).join('');
  return String(part).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
