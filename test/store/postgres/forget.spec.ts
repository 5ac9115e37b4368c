import type { Claim } from '../../../lib/core/record';
import { freshDatabases } from '../../support/fresh-databases';
import { claimed, claimRequest, response } from '../../support/postgres-store';
import { startProxy } from '../../support/proxy';

describe('forgetting records', () => {
  const databases = freshDatabases();

  it('says of every record that was deleted that it was, although the connection broke before the reply', async () => {
    const proxy = await startProxy(Number(new URL(databases.url).port));
    const { store } = await databases.open({ poolSize: 1 }, proxy.through(databases.url));
    const record = async (key: string): Promise<Claim> => {
      const claim = claimed(await store.claim(claimRequest(key)));
      await store.complete(claim, response('done'));
      return claim;
    };
    const [one, other, another] = [await record('one'), await record('other'), await record('another')];
    proxy.resetOnNextReply();
    expect(await store.forget(one)).toBe(true);
    const inFlight = claimed(await store.claim(claimRequest('in flight')));
    proxy.resetOnNextReply();
    expect(await store.forgetAll([other, inFlight, another, one])).toEqual({
      deleted: 3,
      tokens: new Set([one, other, another].map(({ token }) => token)),
    });
    expect(await store.find(inFlight.id)).toMatchObject({ state: 'in_progress' });
    proxy.resetOnNextReply();
    expect(await store.forget(inFlight)).toBe(false);
    await proxy.close();
  });
});
