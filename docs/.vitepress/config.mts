import { defineConfig } from 'vitepress';
import { drawDiagrams } from './diagrams.js';
import { menu, unreached } from './menu.js';
import { nameHeaders } from './tables.js';

const link = (page: string): string => `/${page.replace(/(^|\/)index$/, '$1')}`;

export default defineConfig({
  title: 'nestjs-idempotency',
  description: 'Retried requests run once, and get the first response back.',
  lang: 'en',
  cleanUrls: false,
  srcExclude: ['reference/api/README.md'],
  markdown: {
    config: (markdown) => {
      drawDiagrams(markdown);
      nameHeaders(markdown);
    },
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: menu.map(({ text, pages: [first] }) => ({
      text,
      link: link(first?.page ?? ''),
      activeMatch: `^/${text.toLowerCase()}/`,
    })),
    sidebar: menu.map(({ text, pages }) => ({
      text,
      items: pages.map((each) => ({ text: each.text, link: link(each.page) })),
    })),
  },
  buildEnd: ({ pages }) => {
    const lost = unreached(pages);
    if (lost.length > 0) throw new Error(`No menu leads to ${lost.join(', ')}: docs/.vitepress/menu.ts`);
  },
});
