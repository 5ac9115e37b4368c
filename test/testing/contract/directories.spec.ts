import type { RecordDirectory, RecordSelection, SelectedRecord } from '../../../lib/core/record-directory';
import { MemoryDirectory } from '../../../lib/store/memory/memory.directory';
import { MemoryStore, type MemoryStoreOptions } from '../../../lib/store/memory/memory.store';
import { failing } from '../../support/failing-contract';

type Change = (right: RecordDirectory, options: MemoryStoreOptions) => Partial<RecordDirectory>;

/** A store whose directory does something in another way. */
function storeWith(change: Change): new (options: MemoryStoreOptions) => MemoryStore {
  return class extends MemoryStore {
    constructor(options: MemoryStoreOptions) {
      super(options);
      const { directory } = this;
      const right: RecordDirectory = {
        list: directory.list.bind(directory),
        find: directory.find.bind(directory),
        walk: directory.walk.bind(directory),
        stats: directory.stats.bind(directory),
      };
      Object.assign(directory, change(right, options));
    }
  };
}

/** One that does not look at a condition. */
const ignoring = (name: keyof RecordSelection): Change => {
  return ({ list }) => ({
    list: (selection, ...more) => list({ ...selection, [name]: undefined }, ...more),
  });
};
/** One that walks through other records. */
const walking =
  (
    change: (records: readonly SelectedRecord[]) => readonly SelectedRecord[],
    selected = (selection: RecordSelection) => selection,
  ): Change =>
  ({ walk }) => ({
    async *walk(selection) {
      for await (const batch of walk(selected(selection))) yield { ...batch, records: change(batch.records) };
    },
  });

const wrong: Record<string, [change: Change, caughtBy: string]> = {
  'has what is expired': [
    (_, { data, now }) => {
      const all = new MemoryDirectory(() => [...data.rows.values()], now);
      return { list: all.list.bind(all), find: all.find.bind(all) };
    },
    'an expired record is neither listed nor shown',
  ],
  'says until when the lease of a completed one was': [
    ({ find }) => ({
      find: async (hash) => {
        const record = await find(hash);
        return record && { ...record, leaseUntil: record.leaseUntil ?? record.createdAt };
      },
    }),
    'the directory shows a claim, and what has become of it',
  ],
  'finds nothing': [
    () => ({ find: () => Promise.resolve(undefined) }),
    'the directory shows a claim, and what has become of it',
  ],
  'does not tell states apart': [ignoring('state'), 'the directory lists those that are orphaned'],
  'does not select by scope': [
    ignoring('scope'),
    'the directory selects by each condition, and by all at once',
  ],
  'does not select by caller': [
    ignoring('principals'),
    'the directory selects by each condition, and by all at once',
  ],
  'does not select by key': [ignoring('key'), 'the directory selects by each condition, and by all at once'],
  'does not select by age': [
    ignoring('olderThan'),
    'the directory selects by each condition, and by all at once',
  ],
  'gives the first page again': [
    ({ list }) => ({ list: (selection, limit) => list(selection, limit) }),
    'the directory gives each once over all pages, the one that expires last first',
  ],
  'has one page': [
    ({ list }) => ({ list: async (...args) => ({ ...(await list(...args)), cursor: undefined }) }),
    'the directory gives each once over all pages, the one that expires last first',
  ],
  'has larger pages than it was asked for': [
    ({ list }) => ({ list: (selection, limit, cursor) => list(selection, limit + 1, cursor) }),
    'the directory gives each once over all pages, the one that expires last first',
  ],
  'takes any cursor': [
    ({ list }) => ({ list: (...args) => list(...args).catch(() => ({ records: [], cursor: undefined })) }),
    'the directory refuses a cursor that no page has given',
  ],
  'walks past claims whose owners are alive': [
    walking((records) => records.filter(({ inFlight }) => !inFlight)),
    'the directory walks through all claims, as forget takes them',
  ],
  'says of no claim that its owner is alive': [
    walking((records) => records.map((record) => ({ ...record, inFlight: false }))),
    'the directory walks through all claims, as forget takes them',
  ],
  'walks with claims that forget does not take': [
    walking((records) =>
      records.map(({ claim, ...record }) => ({ ...record, claim: { ...claim, fence: 0 } })),
    ),
    'the directory walks through all claims, as forget takes them',
  ],
  'walks through all callers': [
    walking(
      (records) => records,
      (selection) => ({ ...selection, principals: undefined }),
    ),
    'the directory walks through the selected ones alone',
  ],
  'reads what is completed first, and what is not in a second step': [
    ({ walk }) => ({
      async *walk(selection) {
        for (const state of ['completed', 'unstorable', 'orphaned', 'in_flight'] as const)
          yield* walk({ ...selection, state });
      },
    }),
    'the directory walks through one that ends meanwhile as well',
  ],
  'counts no orphans': [
    ({ stats }) => ({
      stats: async () => {
        const counts = await stats();
        return { ...counts, byState: { ...counts.byState, orphaned: 0 } };
      },
    }),
    'the directory counts the records by state and by route',
  ],
};

describe('the directory, in the contract of a store', () => {
  it.each(Object.entries(wrong))('is not kept by one that %s', async (_, [change, caughtBy]) => {
    expect(await failing(storeWith(change))).toContain(caughtBy);
  });
});
