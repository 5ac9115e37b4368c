import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(__dirname, '../..');
const text = readFileSync(join(ROOT, 'docs/guide/transactions.md'), 'utf8');

/** Code that the page shows: where it comes from, and what it shows of it. */
const shown = [...text.matchAll(/<!-- (\S+) -->\n\n```ts\n(.*?)```/gs)].map(([, file, code]) => [
  file!,
  code!,
]);

describe('docs/guide/transactions.md', () => {
  it('shows code that is tested', () => {
    expect(shown.map(([file]) => file)).toEqual([
      'test/fixtures/outbox/outbox-message.entity.ts',
      'test/fixtures/outbox/leads.controller.ts',
      'test/fixtures/outbox/outbox.relay.ts',
    ]);
  });

  it.each(shown)('shows %s as it is', (file, code) => {
    expect(code).toBe(readFileSync(join(ROOT, file), 'utf8'));
  });
});
