import type { MarkdownOptions } from 'vitepress';

type MarkdownIt = Parameters<NonNullable<MarkdownOptions['config']>>[0];

/** The head of a table may have an empty corner: a plain cell, as a header without a name says nothing. */
export function nameHeaders(markdown: MarkdownIt): void {
  markdown.core.ruler.push('empty-headers', ({ tokens }) => {
    tokens.forEach((token, index) => {
      if (token.type !== 'th_open' || tokens[index + 1]?.content !== '') return;
      const close = tokens[index + 2];
      token.tag = 'td';
      if (close) close.tag = 'td';
    });
  });
}
