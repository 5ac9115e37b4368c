import type { MemoryStore } from '../../lib/store/memory/memory.store';
import { MemoryData, type MemoryStoreOptions } from '../../lib/store/memory/memory.store';
import { storeContract } from '../../lib/testing';

/** The titles of the tests that fail on such a store. */
export async function failing(Store: new (options: MemoryStoreOptions) => MemoryStore): Promise<string[]> {
  const tests: { title: string; test: () => Promise<void> }[] = [];
  const names: string[] = [];
  const run = {
    describe: (name: string, define: () => void) => {
      names.push(name);
      define();
      names.pop();
    },
    it: (title: string, test: () => Promise<void>) =>
      tests.push({ title: [...names.slice(1), title].join(' '), test }),
    expect,
  };
  storeContract(run, async ({ retention }) => {
    const options = { data: new MemoryData(), retention, now: () => performance.now() };
    return { store: new Store(options), another: new Store(options), close: async () => undefined };
  });
  const results = await Promise.all(
    tests.map(({ title, test }) =>
      test().then(
        () => [],
        () => [title],
      ),
    ),
  );
  return results.flat();
}
