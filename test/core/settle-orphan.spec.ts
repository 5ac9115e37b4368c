import type { Claim } from '../../lib/core/record';
import { settleOrphan } from '../../lib/core/settle-orphan';
import { freshDatabases } from '../support/fresh-databases';
import { claimed, claimRequest } from '../support/postgres-store';
import { startProxy } from '../support/proxy';

describe('settling an orphan', () => {
  const databases = freshDatabases();

  it('says that the key of an orphan was freed, although the connection broke before the reply', async () => {
    const proxy = await startProxy(Number(new URL(databases.url).port));
    const { store } = await databases.open({ poolSize: 1 }, proxy.through(databases.url));
    const { id } = claimed(await store.claim(claimRequest('orphan', { lease: 0 })));
    const release = (claim: Claim): Promise<boolean> => {
      proxy.resetOnNextReply();
      return store.release(claim);
    };
    const orphan = await store.find(id);
    const over = {
      claimInArbiter: store.claim.bind(store),
      complete: store.complete.bind(store),
      release,
    };
    expect(orphan && (await settleOrphan(over, orphan, undefined))).toBe(true);
    expect(await store.find(id)).toBeUndefined();
    await proxy.close();
  });
});
