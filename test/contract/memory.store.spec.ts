import { MemoryData, MemoryStore } from '../../lib/store/memory/memory.store';
import { storeContract } from '../../lib/testing';

const factory = async ({ retention }: { readonly retention: number }) => {
  const options = { data: new MemoryData(), retention, now: () => performance.now() };
  return {
    store: new MemoryStore(options),
    another: new MemoryStore(options),
    close: async () => undefined,
  };
};

describe('Store in memory', () => {
  storeContract({ describe, it, expect }, factory);
});

describe('Store in memory, shared by all tests', () => {
  storeContract({ describe, it, expect, beforeAll, afterAll }, factory);
});
