export interface Page {
  readonly text: string;
  /** Below `docs/`, without `.md`. */
  readonly page: string;
}

export interface Room {
  readonly text: string;
  readonly pages: readonly Page[];
}

const page = (text: string, path: string): Page => ({ text, page: path });

/** Where each page stands. A page that is missing here fails the build, and test/docs/site.spec.ts. */
export const menu: readonly Room[] = [
  {
    text: 'Guide',
    pages: [
      page('Introduction', 'guide/introduction'),
      page('Quick start', 'guide/quick-start'),
      page('How it works', 'guide/how-it-works'),
      page('Keys and callers', 'guide/keys-and-callers'),
      page('Recorded and replayed', 'guide/recorded-and-replayed'),
      page('The transaction mode', 'guide/transactions'),
      page('Webhooks and jobs', 'guide/webhooks-and-jobs'),
      page('For the callers of your API', 'guide/api-clients'),
      page('Bring your own clients', 'guide/clients'),
      page('Test your application', 'guide/testing'),
      page('Coming from another system', 'guide/migrating'),
      page('Glossary', 'guide/glossary'),
    ],
  },
  {
    text: 'Operate',
    pages: [
      page('Run it', 'operate/running'),
      page('Look, settle, erase', 'operate/operating'),
      page('The board', 'operate/board'),
      page('Redis', 'operate/redis'),
      page('Postgres and poolers', 'operate/postgres'),
      page('Metrics and alerts', 'operate/metrics'),
      page('Traces and events', 'operate/signals'),
      page('Encryption', 'operate/encryption'),
      page('Privacy', 'operate/privacy'),
      page('Scaling', 'operate/scaling'),
      page('Troubleshooting', 'operate/troubleshooting'),
    ],
  },
  {
    text: 'Guarantees',
    pages: [
      page('Promises and failures', 'guarantees/failures'),
      page('Limits', 'guarantees/limits'),
      page('Responses', 'guarantees/responses'),
      page('Comparison', 'guarantees/comparison'),
    ],
  },
  {
    text: 'Reference',
    pages: [
      page('Options', 'reference/options'),
      page('API', 'reference/api/index'),
      page('API of the board', 'reference/api/board'),
      page('API for tests', 'reference/api/testing'),
      page('Problems', 'reference/problems'),
      page('Compatibility', 'reference/compatibility'),
      page('The IETF draft', 'reference/ietf'),
    ],
  },
  {
    text: 'Internals',
    pages: [
      page('Architecture', 'internals/architecture'),
      page('Protocol', 'internals/protocol'),
      page('The Postgres store', 'internals/postgres-store'),
      page('The Redis store', 'internals/redis-store'),
      page('Model', 'internals/model'),
      page('Fault rig', 'internals/rig'),
      page('Your own store', 'internals/own-store'),
      page('Performance', 'internals/performance'),
      page('Findings', 'internals/findings'),
      page('Releasing', 'internals/releasing'),
      page('Decisions', 'internals/decisions/index'),
    ],
  },
];

/** Pages that the menu does not lead to. The decisions have a menu of their own, which is their index. */
export function unreached(pages: readonly string[]): string[] {
  const reached = new Set([
    'index.md',
    ...menu.flatMap((room) => room.pages.map(({ page }) => `${page}.md`)),
  ]);
  return pages.filter((path) => !reached.has(path) && !path.startsWith('internals/decisions/'));
}
