import { randomUUID } from 'node:crypto';
import { httpScope, IdempotencyAdmin, type ListOptions } from '../../../lib';
import { IdempotencyTesting } from '../../../lib/testing';
import { startApp, type TestApp } from '../../support/app';

const CHANGE = { by: 'ann', reason: 'ticket 42' };
const LEADS = (user: string, id = '7'): string => httpScope('POST', `/leads/${id}`, { scope: user });

describe('IdempotencyAdmin over records in memory', () => {
  let app: TestApp;
  let admin: IdempotencyAdmin;
  let testing: IdempotencyTesting;
  beforeAll(async () => {
    app = await startApp({ inMemory: true });
    admin = app.app.get(IdempotencyAdmin);
    testing = IdempotencyTesting.of(app.app);
  });
  afterAll(() => app.close());
  beforeEach(() => testing.reset());

  const record = (key: string, scope: string, value: unknown = 'done'): Promise<unknown> =>
    app.service.execute(key, () => value, { scope });
  const orphan = async (key: string, scope: string): Promise<void> => {
    testing.next('owner crashed');
    await app.service.execute(key, () => undefined, { scope }).catch(() => undefined);
  };
  const keysOf = async (options: ListOptions): Promise<string[]> =>
    (await admin.list(options)).records.map(({ key }) => key).sort();

  it('finds records by what is asked of them', async () => {
    await record('one', LEADS('u1'));
    await record('two', LEADS('u2', '8'));
    await record('large', LEADS('u2'), 'x'.repeat(2_000_000)).catch(() => undefined);
    await record('job', 'nightly');
    await orphan('lost', LEADS('u1'));
    let end!: () => void;
    const running = app.service.execute('runs', () => new Promise<void>((resolve) => (end = resolve)), {
      scope: LEADS('u3'),
    });

    expect(await keysOf({})).toEqual(['job', 'large', 'lost', 'one', 'runs', 'two']);
    expect(await keysOf({ state: 'completed' })).toEqual(['job', 'one', 'two']);
    expect(await keysOf({ state: 'orphaned' })).toEqual(['lost']);
    expect(await keysOf({ state: 'in_flight' })).toEqual(['runs']);
    expect(await keysOf({ state: 'unstorable' })).toEqual(['large']);
    expect(await keysOf({ principal: 'u1' })).toEqual(['lost', 'one']);
    expect(await keysOf({ route: 'POST /leads/:id', state: 'completed' })).toEqual(['one', 'two']);
    expect(await keysOf({ route: '/leads/8' })).toEqual(['two']);
    expect(await keysOf({ scope: 'nightly' })).toEqual(['job']);
    expect(await keysOf({ key: 'two' })).toEqual(['two']);
    expect(await keysOf({ olderThan: '1h' })).toEqual([]);
    expect(await admin.stats()).toMatchObject({
      rows: 6,
      byState: { in_flight: 1, orphaned: 1, completed: 3, unstorable: 1 },
      byRoute: [
        { route: 'POST /leads/:id', rows: 5 },
        { route: 'no HTTP route', rows: 1 },
      ],
      estimated: false,
      oldestOrphan: expect.any(Number) as number,
    });
    end();
    await running;
  });

  it('gives pages, the record that expires last first, and refuses a cursor that no page has given', async () => {
    const keys = Array.from({ length: 7 }, () => randomUUID());
    for (const key of keys) await record(key, 'paged');
    const found: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await admin.list({ limit: 3, ...(cursor === undefined ? {} : { cursor }) });
      expect(page.records.length).toBeLessThanOrEqual(3);
      found.push(...page.records.map(({ key }) => key));
      cursor = page.cursor;
    } while (cursor !== undefined);
    expect(found).toEqual([...keys].reverse());
    await expect(admin.list({ cursor: 'made up' })).rejects.toThrow('cursor');
  });

  it('shows a record with its times and its value, by its key or its hash', async () => {
    const before = Date.now();
    await record('shown', LEADS('u1'));
    const shown = await admin.show({ key: 'shown', scope: LEADS('u1') });
    expect(shown).toMatchObject({
      route: 'POST /leads/7',
      principal: 'scope:s:u1',
      state: 'completed',
      attempt: 1,
      copy: undefined,
      leaseUntil: undefined,
    });
    for (const time of [shown!.createdAt, shown!.completedAt!])
      expect(Math.abs(time.getTime() - before)).toBeLessThan(5_000);
    expect(await admin.show(shown!.hash)).toMatchObject({ key: 'shown' });
    expect(await admin.show('0'.repeat(64))).toBeUndefined();
  });

  it('settles, forgets and purges, after which the key runs again', async () => {
    await orphan('settled later', LEADS('u1'));
    expect(
      await admin.resolve({ key: 'settled later', scope: LEADS('u1') }, { value: 'settled' }, CHANGE),
    ).toBe(true);
    expect(await record('settled later', LEADS('u1'))).toBe('settled');
    expect(await admin.forget({ key: 'settled later', scope: LEADS('u1') }, CHANGE)).toBe(true);
    expect(await record('settled later', LEADS('u1'), 'anew')).toBe('anew');
    await record('other', LEADS('u2'));
    expect(await admin.purge({ principal: 'u1' }, CHANGE)).toMatchObject({ purged: 1, complete: true });
    expect(await keysOf({})).toEqual(['other']);
  });
});
