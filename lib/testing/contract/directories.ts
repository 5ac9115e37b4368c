import { randomUUID } from 'node:crypto';
import { plainDigest } from '../../core/digest';
import { recordId, type Claim, type Outcome, type RecordId } from '../../core/record';
import type {
  RecordDirectory,
  RecordSelection,
  RecordState,
  RecordSummary,
  SelectedRecord,
} from '../../core/record-directory';
import { created, inProgress, SHORT_LEASE, until, won, type DefineTest, type Trial } from './trial';

/** Records of one route, which no other test has. */
interface Shelf extends Trial {
  readonly directory: RecordDirectory;
  readonly route: string;
  readonly newId: (caller?: string) => RecordId;
  /** One record in this state. */
  readonly put: (state: RecordState, id?: RecordId) => Promise<Claim>;
}

const OUTCOMES: Partial<Record<RecordState, Outcome>> = {
  completed: created,
  unstorable: { kind: 'tombstone', status: 200, reason: 'too_large' },
};
const STATES: readonly RecordState[] = ['in_flight', 'orphaned', 'completed', 'unstorable'];
const PAGE = 2;

/** Tests of what a store may leave out. */
function onDirectory(test: DefineTest): (title: string, body: (shelf: Shelf) => Promise<void>) => void {
  return (title, body) =>
    test(title, async (trial) => {
      const { directory } = trial.another;
      if (directory) await body({ ...trial, ...shelfOf(trial), directory });
    });
}

function shelfOf({ store, request }: Trial): Omit<Shelf, keyof Trial | 'directory'> {
  const route = `POST /${randomUUID()}/leads`;
  const newId = (caller = 'user.id:s:u1'): RecordId =>
    recordId(`${route} ${caller}`, randomUUID(), plainDigest);
  const put = async (state: RecordState, id = newId()): Promise<Claim> => {
    const lapses = state === 'orphaned';
    const claim = won(await store.claim(request({ id, ...(lapses ? { lease: SHORT_LEASE } : {}) })));
    const outcome = OUTCOMES[state];
    if (outcome) await store.complete(claim, outcome);
    if (lapses)
      await until('the lease has lapsed', async () => inProgress(await store.find(id)).leaseRemaining <= 0);
    return claim;
  };
  return { route, newId, put };
}

export function directories(define: DefineTest): void {
  const test = onDirectory(define);

  test('shows a claim, and what has become of it', async ({ store, directory, route, put, expect }) => {
    const claim = await put('in_flight');
    const { hash, scope, key } = claim.id;
    const begun = await directory.find(hash);
    const what = { hash, scope, route, principal: 'user.id:s:u1', key, attempt: 1 };
    expect(begun).toMatchObject({ ...what, state: 'in_flight', bytes: 0 });
    expect(begun?.status).toBeUndefined();
    expect(begun?.completedAt).toBeUndefined();
    expect(isBefore(begun?.createdAt, begun?.leaseUntil)).toBe(true);
    await store.complete(claim, created);
    const completed = await directory.find(hash);
    expect(completed).toMatchObject({
      ...what,
      state: 'completed',
      status: 201,
    });
    expect(completed?.bytes).toBeGreaterThan(created.body.length - 1);
    expect(completed?.leaseUntil).toBeUndefined();
    expect(isBefore(completed?.createdAt, completed?.completedAt)).toBe(true);
    expect(isBefore(completed?.completedAt, completed?.expiresAt)).toBe(true);
    expect((await directory.list({ key }, PAGE)).records).toMatchObject([{ ...what, state: 'completed' }]);
    await store.forget(claim);
    expect(await directory.find(hash)).toBeUndefined();
  });

  for (const state of STATES)
    test(`lists those that are ${state}`, async ({ directory, route, put, expect }) => {
      const ids = new Map<RecordState, string>();
      for (const each of STATES) ids.set(each, (await put(each)).id.hash);
      const { records } = await directory.list({ route: `^${route}(?: |$)`, state }, 10);
      expect(records.map(({ hash }) => hash)).toEqual([ids.get(state)]);
      expect(records).toMatchObject([{ state }]);
    });

  test('selects by each condition, and by all at once', async ({ directory, route, newId, put, expect }) => {
    const [mine, other] = [newId('user.id:s:u1'), newId('user.id:s:u2')];
    for (const id of [mine, other]) await put('completed', id);
    const pattern = `^${route}(?: |$)`;
    const found = async (selection: RecordSelection): Promise<Set<string>> =>
      new Set((await directory.list(selection, 10)).records.map(({ hash }) => hash));
    expect(await found({ route: pattern })).toEqual(new Set([mine.hash, other.hash]));
    for (const only of [
      { scope: mine.scope },
      { key: mine.key },
      { route: pattern, principals: ['user.id:s:u1'] },
    ])
      expect(await found(only)).toEqual(new Set([mine.hash]));
    expect(await found({ route: pattern, olderThan: 0 })).toEqual(new Set([mine.hash, other.hash]));
    expect(await found({ route: pattern, olderThan: 3_600_000 })).toEqual(new Set());
    expect(await found({ scope: mine.scope, key: other.key })).toEqual(new Set());
  });

  test('gives each once over all pages, the one that expires last first', async ({
    directory,
    route,
    put,
    expect,
  }) => {
    const hashes = new Set<string>();
    for (let i = 0; i < 2 * PAGE; i++) hashes.add((await put('completed')).id.hash);
    const listed: RecordSummary[] = [];
    let cursor: string | undefined;
    do {
      const page = await directory.list({ route: `^${route}(?: |$)` }, PAGE, cursor);
      expect(page.records.length).toBeLessThanOrEqual(PAGE);
      listed.push(...page.records);
      ({ cursor } = page);
    } while (cursor !== undefined && listed.length <= hashes.size);
    expect(listed).toHaveLength(hashes.size);
    expect(new Set(listed.map(({ hash }) => hash))).toEqual(hashes);
    const times = listed.map(({ expiresAt }) => expiresAt.getTime());
    expect(times).toEqual(times.toSorted((one, other) => other - one));
  });

  test('refuses a cursor that no page has given', async ({ directory, expect }) => {
    const refusal = await directory.list({}, PAGE, 'no cursor').catch((error: unknown) => error);
    expect(refusal).toMatchObject({ name: 'InvalidOptionsError' });
  });

  test('walks through all claims, as forget takes them', async ({ store, directory, route, put, expect }) => {
    const claims = new Map<RecordState, Claim>();
    for (const state of STATES) claims.set(state, await put(state));
    const walked = await walkedBy(directory, { route: `^${route}(?: |$)` });
    expect(new Map(walked.map(({ claim, inFlight }) => [claim.token, inFlight]))).toEqual(
      new Map(STATES.map((state) => [claims.get(state)?.token, state === 'in_flight'])),
    );
    for (const { claim, inFlight } of walked) expect(await store.forget(claim)).toBe(!inFlight);
  });

  test('walks through one that ends meanwhile as well', async ({ store, directory, route, put, expect }) => {
    await put('completed');
    const ends = await put('in_flight');
    const walked = await walkedBy(directory, { route: `^${route}(?: |$)` }, () =>
      store.complete(ends, created),
    );
    expect(walked.map(({ claim }) => claim.token).includes(ends.token)).toBe(true);
  });

  test('walks through the selected ones alone', async ({ directory, route, newId, put, expect }) => {
    const mine = await put('completed', newId('user.id:s:u1'));
    await put('completed', newId('user.id:s:u2'));
    const selection = { route: `^${route}(?: |$)`, principals: ['user.id:s:u1'] };
    const walked = await walkedBy(directory, selection);
    expect(walked.map(({ claim }) => claim.token)).toEqual([mine.token]);
  });

  test('counts the records by state and by route', async ({ directory, put, expect }) => {
    const before = await directory.stats();
    for (const state of STATES) await put(state);
    const after = await directory.stats();
    expect(after.byRoute.length).toBeGreaterThan(0);
    expect(after.oldestOrphan).toBeGreaterThan(0);
    if (before.estimated || after.estimated) return;
    expect(after.rows).toBeGreaterThan(before.rows + STATES.length - 1);
    for (const state of STATES) expect(after.byState[state]).toBeGreaterThan(before.byState[state]);
  });
}

/** On a store whose records expire soon. */
export function expiredInDirectory(define: DefineTest): void {
  onDirectory(define)('is neither listed nor shown', async ({ store, directory, put, expect }) => {
    const { id } = await put('completed');
    await until('the record has expired', async () => (await store.find(id)) === undefined);
    expect((await directory.list({ key: id.key }, PAGE)).records).toEqual([]);
    expect(await directory.find(id.hash)).toBeUndefined();
  });
}

/** @param meanwhile done once, after the first batch */
async function walkedBy(
  directory: RecordDirectory,
  selection: RecordSelection,
  meanwhile?: () => Promise<unknown>,
): Promise<SelectedRecord[]> {
  const walked = new Map<string, SelectedRecord>();
  let isFirst = true;
  for await (const { records } of directory.walk(selection)) {
    for (const record of records) walked.set(record.claim.token, record);
    if (isFirst) await meanwhile?.();
    isFirst = false;
  }
  return [...walked.values()];
}

function isBefore(one: Date | undefined, other: Date | undefined): boolean {
  return one instanceof Date && other instanceof Date && one <= other;
}
