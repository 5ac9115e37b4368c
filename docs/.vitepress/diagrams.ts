import { renderMermaidSVG } from 'beautiful-mermaid';
import type { MarkdownOptions } from 'vitepress';

type MarkdownIt = Parameters<NonNullable<MarkdownOptions['config']>>[0];

/** Draws `mermaid` blocks when the site is built, so that its pages load no script and no font for them. */
export function drawDiagrams(markdown: MarkdownIt): void {
  const otherwise = markdown.renderer.rules.fence;
  markdown.renderer.rules.fence = (tokens, index, ...rest) => {
    const token = tokens[index];
    if (token?.info.trim() !== 'mermaid') return otherwise?.(tokens, index, ...rest) ?? '';
    // The style names a font of another host, and Vue allows no style within a page: theme/style.css has its rules.
    const svg = renderMermaidSVG(token.content, { transparent: true }).replace(/<style>.*?<\/style>/s, '');
    // A picture may be wider than a phone: whoever has no pointer scrolls it by the keyboard.
    return `<div class="diagram" role="img" aria-label="${describe(token.content)}" tabindex="0" v-pre>${svg}</div>`;
  };
}

/** What a screen reader says of a diagram: its lines in their order. */
function describe(source: string): string {
  const lines = source
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && line !== 'end');
  return lines.join('; ').replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');
}
