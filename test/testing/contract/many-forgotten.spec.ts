import type { Claim } from '../../../lib/core/record';
import type { ForgottenRecords } from '../../../lib/core/store';
import { MemoryStore, type MemoryStoreOptions } from '../../../lib/store/memory/memory.store';
import { failing } from '../../support/failing-contract';

/** Which has the verb that the store in memory leaves out. */
class ForgettingStore extends MemoryStore {
  async forgetAll(claims: readonly Claim[]): Promise<ForgottenRecords> {
    const tokens = new Set<string>();
    for (const claim of claims) if (await this.forget(claim)) tokens.add(claim.token);
    return { deleted: tokens.size, tokens };
  }

  /** Deletes the records of these claims that are as said. */
  protected deleteIf(
    claims: readonly Claim[],
    isSo: (claim: Claim, standing: Claim, isAlive: boolean) => boolean,
  ): ForgottenRecords {
    const { data, now } = this.options;
    const deleted = claims.filter((claim) => {
      const row = data.rows.get(claim.id.hash);
      const isAlive = row !== undefined && !row.outcome && row.leaseUntil > now();
      return row && isSo(claim, row.claim, isAlive) && data.rows.delete(claim.id.hash);
    });
    return { deleted: deleted.length, tokens: new Set(deleted.map(({ token }) => token)) };
  }
}

const wrong: Record<string, [Store: new (options: MemoryStoreOptions) => MemoryStore, caughtBy: string]> = {
  'forgets claims whose owners are alive': [
    class extends ForgettingStore {
      override async forgetAll(claims: readonly Claim[]): Promise<ForgottenRecords> {
        return this.deleteIf(claims, ({ token, fence }, row) => token === row.token && fence === row.fence);
      }
    },
    'forgetAll leaves a claim whose owner is alive',
  ],
  'goes by keys alone': [
    class extends ForgettingStore {
      override async forgetAll(claims: readonly Claim[]): Promise<ForgottenRecords> {
        return this.deleteIf(claims, (_claim, _row, isAlive) => !isAlive);
      }
    },
    'forgetAll leaves what is another claim than the one it was told of',
  ],
  'names all that it was asked for': [
    class extends ForgettingStore {
      override async forgetAll(claims: readonly Claim[]): Promise<ForgottenRecords> {
        const { deleted } = await super.forgetAll(claims);
        return { deleted, tokens: new Set(claims.map(({ token }) => token)) };
      }
    },
    'an expired record is not named among those that are forgotten',
  ],
  'names none': [
    class extends ForgettingStore {
      override async forgetAll(claims: readonly Claim[]): Promise<ForgottenRecords> {
        return { ...(await super.forgetAll(claims)), tokens: new Set() };
      }
    },
    'forgetAll deletes outcomes and orphans, and says which',
  ],
  'leaves orphans': [
    class extends ForgettingStore {
      override forgetAll(claims: readonly Claim[]): Promise<ForgottenRecords> {
        const { rows } = this.options.data;
        return super.forgetAll(claims.filter(({ id }) => rows.get(id.hash)?.outcome));
      }
    },
    'forgetAll deletes outcomes and orphans, and says which',
  ],
  'takes no empty list': [
    class extends ForgettingStore {
      override async forgetAll(claims: readonly Claim[]): Promise<ForgottenRecords> {
        if (claims.length === 0) throw new Error('there is nothing in IN ()');
        return super.forgetAll(claims);
      }
    },
    'forgetAll has nothing to do without claims',
  ],
};

describe('forgetAll, in the contract of a store', () => {
  it('is kept by forgetting one after another', async () => {
    expect(await failing(ForgettingStore)).toEqual([]);
  });

  it.each(Object.entries(wrong))('is not kept by one that %s', async (_, [Store, caughtBy]) => {
    expect(await failing(Store)).toContain(caughtBy);
  });
});
