import { releases, renewals } from './claim-ends';
import { claims, lapsedLeases } from './claims';
import { completions } from './completions';
import { directories, expiredInDirectory } from './directories';
import { expiredForgotten, manyForgotten } from './many-forgotten';
import { races } from './races';
import { expiry, findAndForget } from './records';
import type { ContractFactory, ContractRunner, ContractSubject } from './runner';
import { LONG_RETENTION, SHORT_RETENTION, trialOn, type DefineTest } from './trial';

/**
 * Defines the tests of the promises that `IdempotencyStore` makes, for any store:
 * `storeContract({ describe, it, expect }, async ({ retention }) => ({ store, another, close }))`.
 * @param runner with `beforeAll` and `afterAll`, all tests share two pairs of stores; without, each test makes its own
 * @param factory two instances over the same data
 */
export function storeContract(runner: ContractRunner, factory: ContractFactory): void {
  const { describe } = runner;
  describe('the contract of a store', () => {
    const test = testsOn(runner, () => factory({ retention: LONG_RETENTION }));
    describe('claim', () => claims(test));
    describe('a lapsed lease', () => lapsedLeases(test));
    describe('complete', () => completions(test));
    describe('release', () => releases(test));
    describe('renew', () => renewals(test));
    describe('find and forget', () => findAndForget(test));
    describe('forgetAll', () => manyForgotten(test));
    describe('the directory', () => directories(test));
    describe('each verb is one step, which', () => races(test));
    describe('an expired record', () => {
      const soon = testsOn(runner, () => factory({ retention: SHORT_RETENTION }));
      expiry(soon);
      expiredForgotten(soon);
      expiredInDirectory(soon);
    });
  });
}

function testsOn(runner: ContractRunner, open: () => Promise<ContractSubject>): DefineTest {
  const { it, beforeAll, afterAll } = runner;
  if (!beforeAll || !afterAll)
    return (title, test) =>
      it(title, async () => {
        const own = await open();
        try {
          await test(trialOn(own, runner));
        } finally {
          await own.close();
        }
      });
  let shared: ContractSubject | undefined;
  beforeAll(async () => void (shared = await open()));
  afterAll(async () => shared?.close());
  return (title, test) =>
    it(title, async () => {
      if (!shared) throw new Error('the stores have not been opened');
      await test(trialOn(shared, runner));
    });
}
