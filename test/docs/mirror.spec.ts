import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import ts from 'typescript';

const ROOT = join(__dirname, '../..');

/** What lies in `test` beside the mirror of `lib`. */
const BESIDE = [
  'bench',
  'browser',
  'compat',
  'contract',
  'docs',
  'e2e',
  'faults',
  'fixtures',
  'model',
  'monitoring',
  'package',
  'servers',
  'support',
];

/** Parts, and whole rooms, that mean something only together with others: what holds them, and why. */
const ELSEWHERE: Readonly<Record<string, readonly [spec: string, reason: string]>> = {
  transaction: [
    'transaction',
    'its parts act on one open transaction; its specs are by what becomes of that',
  ],
  'core/in-flight-requests.ts': ['core/protocol.spec.ts', 'requests follow each other by it'],
  'core/executions.ts': ['e2e/transactions.spec.ts', 'it chooses between two modes'],
  'core/transactional-executions.ts': ['e2e/transactions.spec.ts', 'it needs a transaction of Postgres'],
  'http/handler/transactional-handler.ts': ['e2e/transactions.spec.ts', 'it needs a transaction of Postgres'],
  'http/request/option-function.ts': ['e2e/option-functions.spec.ts', 'it runs what applications give'],
  'http/routes/idempotent.decorator.ts': ['e2e/mistakes.spec.ts', 'what it decides is what it refuses'],
  'options/async-options.ts': ['e2e/mistakes.spec.ts', 'Nest makes the options by it'],
  'options/factory-provider.ts': ['e2e/mistakes.spec.ts', 'Nest makes the options by it'],
  'http/handler/context-bound.ts': ['transaction/responses.spec.ts', 'what it is for shows in a transaction'],
  'http/idempotency.interceptor.ts': ['e2e/webhook.spec.ts', 'it joins all parts of a request'],
  'http/handler/handler-run.ts': [
    'e2e/responses/client-gone.spec.ts',
    'it acts for Nest once a client has left',
  ],
  'http/handler/handler-watch.ts': ['e2e/timeouts.spec.ts', 'it is told what Nest makes of a handler'],
  'http/handler/handler-interceptors.ts': ['e2e/timeouts.spec.ts', 'they watch what Nest makes of a handler'],
  'observability/metric-providers.ts': ['package/loading.spec.ts', 'it depends on what is installed'],
  'observability/channels.ts': ['e2e/signals.spec.ts', 'it is what subscribers of an application are told'],
  'observability/tracing.ts': ['e2e/signals.spec.ts', 'it acts on the spans of an application'],
  'observability/observers.ts': ['e2e/signals.spec.ts', 'it joins those that listen'],
  'store/tiered-store.service.ts': ['contract/tiered.store.spec.ts', 'it is a store, as the contract says'],
  'protocol.service.ts': ['idempotency.service.spec.ts', 'it is the service that applications inject'],
  'options/own-store.ts': ['options/resolve.spec.ts', 'it says what one option takes'],
  'testing/faulty-store.ts': ['testing/idempotency-testing.spec.ts', 'tests reach it by the testing face'],
  'testing/once': ['testing/once/expect-once.spec.ts', 'its parts act on one request'],
  'testing/route-places.ts': ['testing/expect-protected.spec.ts', 'it says where those routes are'],
  'testing/test-transaction.ts': [
    'testing/idempotency-testing.spec.ts',
    'tests reach it by the testing face',
  ],
  'testing/test-transactions.ts': [
    'testing/idempotency-testing.spec.ts',
    'tests reach it by the testing face',
  ],
  'testing/contract': ['contract/memory.store.spec.ts', 'it is a suite, for stores'],
  board: ['board/board.spec.ts', 'its specs ask it over HTTP, as browsers do'],
  cli: ['cli/program.spec.ts', 'its specs run the command, as operators do'],
  'admin/audit-log.ts': ['admin/record-admin.spec.ts', 'an admin writes it'],
  'store/tiers.ts': ['contract/tiered.store.spec.ts', 'the tiered store opens them'],
  'store/memory/memory.store.ts': ['contract/memory.store.spec.ts', 'it is a store, as the contract says'],
  'store/postgres/batch-statements.ts': ['store/postgres/batches.spec.ts', 'batches send them'],
  'store/postgres/schema/directory-statements.ts': ['store/postgres/directory.spec.ts', 'it sends them'],
  'store/postgres/claims-in-progress.ts': [
    'store/postgres/orphans.spec.ts',
    'the watch and the directory read by it',
  ],
  'store/postgres/postgres-source.ts': ['e2e/own-clients.spec.ts', 'it is what an application brings'],
  'store/postgres/postgres.provider.ts': ['idempotency.module.spec.ts', 'it is wiring'],
  'store/postgres/connection/attempt.ts': [
    'store/postgres/connection/postgres.connection.spec.ts',
    'it is one try of the connection',
  ],
  'store/postgres/connection/pool.ts': [
    'store/postgres/connection/postgres.connection.spec.ts',
    'the connection is asked for what the pool has',
  ],
  'store/redis/redis.provider.ts': ['idempotency.module.spec.ts', 'it is wiring'],
  'store/redis/connection/fail-fast.client.ts': [
    'store/redis/connection/redis.connection.spec.ts',
    'its settings show in how the connection fails',
  ],
};

/** Fewer decisions are glue: what they do shows where they are used. */
const LOGIC = 3;

const DECISIONS = new Set([
  ts.SyntaxKind.IfStatement,
  ts.SyntaxKind.ConditionalExpression,
  ts.SyntaxKind.ForStatement,
  ts.SyntaxKind.ForInStatement,
  ts.SyntaxKind.ForOfStatement,
  ts.SyntaxKind.WhileStatement,
  ts.SyntaxKind.DoStatement,
  ts.SyntaxKind.SwitchStatement,
  ts.SyntaxKind.TryStatement,
  ts.SyntaxKind.AmpersandAmpersandToken,
  ts.SyntaxKind.BarBarToken,
  ts.SyntaxKind.QuestionQuestionToken,
  ts.SyntaxKind.QuestionQuestionEqualsToken,
]);

function decisionsIn(file: string): number {
  const text = readFileSync(join(ROOT, 'lib', file), 'utf8');
  let count = 0;
  const visit = (node: ts.Node): void => {
    if (DECISIONS.has(node.kind)) count += 1;
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true));
  return count;
}

const filesIn = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  );

const parts = filesIn('lib');
const mirror = filesIn('test').filter((file) => !BESIDE.includes(file.split('/')[0]!));

/** `a/b.ts` for `a/b.spec.ts`, and for `a/b.outage.spec.ts`, which has one aspect of it. */
const partsOf = (spec: string): string[] => {
  const name = basename(spec, '.spec.ts').split('.');
  return name.map((_, i) => join(dirname(spec), `${name.slice(0, name.length - i).join('.')}.ts`));
};
const specified = new Set(mirror.flatMap(partsOf));

const isIn = (place: string, file: string): boolean => file === place || file.startsWith(`${place}/`);
const isElsewhere = (file: string): boolean => Object.keys(ELSEWHERE).some((place) => isIn(place, file));

describe('the tests of lib', () => {
  it('lie where the path of what they test says', () => {
    const strays = mirror.filter((file) => !partsOf(file).some((part) => parts.includes(part)));
    expect(strays.filter((file) => !isElsewhere(file))).toEqual([]);
  });

  it('are there for each part that decides something', () => {
    const without = parts.filter(
      (file) => !specified.has(file) && !isElsewhere(file) && decisionsIn(file) >= LOGIC,
    );
    expect(parts.length).toBeGreaterThan(100);
    expect(without).toEqual([]);
  });

  it('are elsewhere only for parts that decide something and have none of their own', () => {
    const needed = (place: string): boolean =>
      parts.some((file) => isIn(place, file) && !specified.has(file) && decisionsIn(file) >= LOGIC);
    const wrong = Object.entries(ELSEWHERE).filter(
      ([place, [spec]]) => !needed(place) || !existsSync(join(ROOT, 'test', spec)),
    );
    expect(wrong).toEqual([]);
  });
});
