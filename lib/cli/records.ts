import type {
  IdempotencyAdmin,
  PurgeProgress,
  RecordFilter,
  RecordReference,
} from '../admin/idempotency-admin';
import { age, bytes, WITHOUT_RESPONSE } from '../admin/readable';
import { leftBy } from '../admin/record-admin';
import { callersCalled } from '../admin/selection';
import { StoreError } from '../core/errors';
import { recordId } from '../core/record';
import type { RecordPage, RecordState, RecordSummary } from '../core/record-directory';
import type { Duration } from '../options/duration';
import { EXIT, UsageError, type ExitCode } from './exit';
import { assertForm, outcomeIn, type OutcomeOptions } from './outcome-arguments';
import { lines, table } from './output';
import {
  assertOwnKeys,
  changeOf,
  withChanges,
  withSession,
  type ChangeOptions,
  type Session,
} from './session';
import type { CommonOptions } from './settings';
import { untilStopped } from './signals';
import { terminal } from './terminal';

export interface FilterOptions {
  readonly scope?: string;
  readonly route?: string;
  readonly principal?: string;
  readonly principalText?: string;
  readonly key?: string;
  readonly olderThan?: string;
}

interface ReferenceOptions extends CommonOptions {
  readonly scope?: string;
}

export interface ListCommand extends CommonOptions, FilterOptions {
  readonly state?: RecordState;
  readonly limit: string;
  readonly cursor?: string;
}

export async function list(options: ListCommand): Promise<ExitCode> {
  return withSession(options, async ({ admin }) => {
    const { state, limit, cursor, json } = options;
    const page = await admin.list({
      ...filterOf(options),
      ...(state === undefined ? {} : { state }),
      ...(cursor === undefined ? {} : { cursor }),
      limit: Number(limit),
    });
    if (json) terminal.printJson(page);
    else {
      terminal.print(table(HEAD, page.records.map(cellsOf)));
      if (page.cursor) terminal.note(`${moreOf(page, Number(limit))}: --cursor ${page.cursor}`);
    }
    return EXIT.done;
  });
}

/** A page ends early where most of the table belongs to other namespaces. */
function moreOf({ records }: RecordPage, limit: number): string {
  return records.length < limit
    ? `${records.length} found so far among many records of other namespaces. To look on`
    : 'There are more';
}

export interface ShowCommand extends ReferenceOptions {
  readonly headers?: boolean;
  readonly body?: boolean;
}

export async function show(reference: string, options: ShowCommand): Promise<ExitCode> {
  return withSession(options, async (session) => {
    const record = await find(session, reference, options);
    const details = record && (await session.admin.show(record.hash));
    if (!details) return notFound(reference);
    const { outcome, ...rest } = details;
    const response = outcome?.kind === 'response' ? outcome : undefined;
    const withoutResponse = outcome?.kind === 'tombstone' ? outcome.reason : undefined;
    const headers = options.headers && response ? { headers: response.headers } : {};
    if (options.json) {
      const body = options.body && response ? { body: response.body.toString('base64') } : {};
      terminal.printJson({ ...rest, withoutResponse, ...headers, ...body });
      return EXIT.done;
    }
    terminal.print(
      lines({ ...rest, response: withoutResponse && WITHOUT_RESPONSE[withoutResponse], ...headers }),
    );
    if (options.body && response)
      terminal.printBytes(Buffer.concat([Buffer.from('\n'), response.body, Buffer.from('\n')]));
    return EXIT.done;
  });
}

export interface ResolveCommand extends ReferenceOptions, ChangeOptions, OutcomeOptions {}

export async function resolve(reference: string, options: ResolveCommand): Promise<ExitCode> {
  const outcome = await outcomeIn(options);
  const settle = (admin: IdempotencyAdmin, record: RecordReference): Promise<boolean> =>
    admin.resolve(record, outcome, changeOf(options));
  const check = async (session: Session, { route }: RecordSummary): Promise<void> => {
    assertForm(route, outcome);
    await assertOwnKeys(session);
  };
  return change(reference, options, 'Settle', settle, check);
}

/** What goes to Redis before this read is there once it is answered; the command then closes its connection. */
async function untilCopied({ store }: Session, { hash, scope, key }: RecordSummary): Promise<void> {
  await store.findInCache({ hash, scope, key }).catch((error: unknown) => {
    if (!(error instanceof StoreError)) throw error;
  });
}

type ChangeCommand = ReferenceOptions & ChangeOptions;

export function retry(reference: string, options: ChangeCommand): Promise<ExitCode> {
  return change(reference, options, 'Let the next request run the handler of', (admin, record) =>
    admin.retry(record, changeOf(options)),
  );
}

export function forget(reference: string, options: ChangeCommand): Promise<ExitCode> {
  return change(reference, options, 'Forget', (admin, record) => admin.forget(record, changeOf(options)));
}

export type PurgeCommand = CommonOptions & FilterOptions & ChangeOptions;

export async function purge(options: PurgeCommand): Promise<ExitCode> {
  const filter = filterOf(options);
  return withChanges(options, async ({ admin }) => {
    await terminal.confirm(`Delete all records with ${JSON.stringify(filter)}, in both stores?`, options.yes);
    const progress = ({ read, purged }: PurgeProgress): void =>
      terminal.progress(`${Math.round(100 * read)} % read, ${purged} records purged`);
    const report = await untilStopped('the purge ends after what it is at', (signal) =>
      admin.purge(filter, changeOf(options), progress, signal),
    );
    terminal.progress('');
    if (options.json) terminal.printJson(report);
    else {
      const { unreachable, ...rest } = report;
      terminal.print(
        lines({
          ...rest,
          'left, as Redis was unreachable': unreachable.redis,
          'left, as far as is known: Postgres did not answer': unreachable.arbiter,
        }),
      );
    }
    const { complete, unreachable, inFlight, changed, purged } = report;
    const unreached = unreachable.redis + unreachable.arbiter;
    if (unreached > 0)
      terminal.note(
        `${unreached} records could not be reached in both stores, and were left. Purge again once these answer.`,
      );
    if (inFlight > 0)
      terminal.note(`${inFlight} records are in flight, and were left. Purge again once they have ended.`);
    if (changed > 0)
      terminal.note(`${changed} records were changed by others meanwhile. Purge again to be sure of them.`);
    if (!complete || leftBy(report) > 0) return EXIT.unfinished;
    return purged > 0 ? EXIT.done : EXIT.nothing;
  });
}

async function change(
  reference: string,
  options: ChangeCommand,
  verb: string,
  make: (admin: IdempotencyAdmin, record: RecordReference) => Promise<boolean>,
  check?: (session: Session, record: RecordSummary) => Promise<void>,
): Promise<ExitCode> {
  return withChanges(options, async (session) => {
    const record = await find(session, reference, options);
    if (!record) return notFound(reference);
    await check?.(session, record);
    const { route = 'no HTTP route', key, state, hash } = record;
    await terminal.confirm(
      `${verb} ${route}, key ${JSON.stringify(key)} (${state}, attempt ${record.attempt})?`,
      options.yes,
    );
    const changed = await untilStopped('the change goes on to its end', async () => {
      const made = await make(session.admin, hash);
      await untilCopied(session, record);
      return made;
    });
    const now = changed ? undefined : await session.directory.find(hash);
    if (options.json) terminal.printJson({ changed, hash, ...(now && { state: now.state }) });
    else terminal.print(changed ? `Done: ${hash}` : whyNothing(record, now));
    return changed ? EXIT.done : EXIT.nothing;
  });
}

/** @param now the record after a change that was not made */
function whyNothing({ state }: RecordSummary, now: RecordSummary | undefined): string {
  if (!now) return 'Nothing was changed: the record is not there any more.';
  if (state === 'orphaned' && (now.state === 'completed' || now.state === 'unstorable'))
    return (
      `Nothing had to be settled: the record is ${now.state} now. Redis still had its outcome, which was recorded, or ` +
      'another has settled it. Retries get it. To run the handler again, `forget` the record.'
    );
  return `Nothing was changed: the record is ${now.state}.`;
}

/** A hash, a key with `--scope`, or a key that one record has: a key may look like a hash. */
async function find(
  { directory, admin, digest }: Session,
  reference: string,
  { scope }: ReferenceOptions,
): Promise<RecordSummary | undefined> {
  if (scope !== undefined) return directory.find(recordId(scope, reference, digest).hash);
  const named = /^[0-9a-f]{64}$/i.test(reference) ? await directory.find(reference.toLowerCase()) : undefined;
  if (named) return named;
  const records: RecordSummary[] = [];
  let cursor: string | undefined;
  do {
    const page = await admin.list({ key: reference, limit: 20, ...(cursor === undefined ? {} : { cursor }) });
    records.push(...page.records);
    ({ cursor } = page);
  } while (cursor !== undefined && records.length < 2);
  if (records.length < 2) return records[0];
  throw new UsageError(
    `Several records have this key. Name one by its hash, or pass --scope:\n${table(HEAD, records.map(cellsOf))}`,
  );
}

function notFound(reference: string): ExitCode {
  terminal.note(`There is no record ${JSON.stringify(reference)}.`);
  return EXIT.nothing;
}

const HEAD = ['STATE', 'AGE', 'STATUS', 'SIZE', 'ROUTE', 'PRINCIPAL', 'KEY', 'HASH'];

function cellsOf({
  state,
  createdAt,
  status,
  bytes: size,
  route,
  scope,
  principal,
  key,
  hash,
}: RecordSummary): string[] {
  return [
    state,
    age(createdAt),
    String(status ?? ''),
    bytes(size),
    route ?? scope,
    principal ?? '',
    key,
    hash,
  ];
}

export function filterOf(options: FilterOptions): RecordFilter {
  const { scope, route, principal, principalText, key, olderThan } = options;
  if (principal !== undefined && principalText !== undefined)
    throw new UsageError('Pass one of --principal and --principal-text.');
  return {
    ...(scope === undefined ? {} : { scope }),
    ...(route === undefined ? {} : { route }),
    ...(principal === undefined ? {} : { principal: { text: callersCalled(principal) } }),
    ...(principalText === undefined ? {} : { principal: { text: principalText } }),
    ...(key === undefined ? {} : { key }),
    ...(olderThan === undefined ? {} : { olderThan: olderThan as Duration }),
  };
}
