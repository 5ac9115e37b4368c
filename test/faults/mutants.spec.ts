import { randomUUID } from 'node:crypto';
import type { Mutation } from './rig/instance';
import type { Sighting } from './rig/oracle';
import { Rig, type RigOptions } from './rig/rig';

/*
 * Positive controls: what this module is not, and what becomes of it. The sixth one, a write to Redis without rank,
 * needs more requests than a scenario shows: the model finds it (`npm run test:model`).
 */
describe('the rig finds out', () => {
  let rig: Rig | undefined;
  afterEach(() => rig?.stop());

  const start = async (mutation: Mutation, options: RigOptions = {}): Promise<Rig> => {
    rig = await Rig.start({ ...options, mutation });
    return rig;
  };
  const broken = async (): Promise<string[]> => [
    ...new Set((await rig!.verdict()).violations.map(({ promise }) => promise)),
  ];

  it('a naive fallback (ask, run, then write both): duplicates run the handler more than once', async () => {
    await start({
      file: 'lib/store/tiered-claims.ts',
      from: 'result = await arbiter.claim(request);',
      to: `const found = await arbiter.find(request.id);
        result = found ? { claimed: false, record: found } : { claimed: true, claim: { ...request, fence: 1, attempt: 1 } };`,
    });
    const key = randomUUID();
    await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        rig!.send(rig!.instance(i % 3), key, { route: 'reject', takes: 100 }),
      ),
    );
    expect(await broken()).toContain('a handler runs once');
  });

  it('a completion without a fence: a frozen owner overwrites the one that took over', async () => {
    await start({
      file: 'lib/store/postgres/schema/statements.ts',
      from: "id = $1::bytea AND token = $2::uuid AND fence = $3::bigint AND state = 'in_progress'`",
      to: "id = $1::bytea AND ($2::uuid, $3::bigint) IS NOT NULL AND state = 'in_progress'`",
    });
    const key = randomUUID();
    const [owner, other] = [rig!.instance(0), rig!.instance(1)];
    const first = rig!.send(owner, key, { hold: true });
    await owner.handling(key);
    owner.freeze();
    const second = rig!.send(other, key, { hold: true });
    await other.handling(key);
    owner.finish(key);
    owner.thaw();
    await first;
    other.finish(key);
    await second;
    expect(await broken()).toContain('every answer is the same');
  });

  it('a claim that does not know its own token: a lost reply makes the key one of unknown outcome', async () => {
    await start({
      file: 'lib/store/postgres/postgres.store.ts',
      from: '    if (record.token === request.token.toLowerCase()) return this.resume(run, request, record);\n',
      to: '',
    });
    const owner = rig!.instance(0);
    await rig!.send(owner, randomUUID()); // a connection that has answered before is worth another try
    const key = randomUUID();
    const lost = owner.postgres.watch('claim', 'reply', 'reset');
    const seen = await rig!.send(owner, key, { route: 'reject' });
    await lost.reached;
    expect(seen.problem).toBe('outcome-unknown');
    expect(rig!.executions(key)).toEqual([]);
  });

  it('a lease by the clock of the application: another process takes a living owner\u2019s key', async () => {
    await start(
      {
        file: 'lib/store/postgres/schema/statements.ts',
        from: "SELECT $1::bytea, $2::uuid, $3::bytea, 'in_progress', 1, now() + ${milliseconds('$4')}, now(),",
        to: "SELECT $1::bytea, $2::uuid, $3::bytea, 'in_progress', 1, to_timestamp(${Date.now()} / 1000.0) + ${milliseconds('$4')}, now(),",
      },
      { clockSkew: [0, 0, -3_600_000] },
    );
    const key = randomUUID();
    const behind = rig!.instance(2);
    const first = rig!.send(behind, key, { takes: 500 });
    await behind.handling(key);
    await rig!.send(rig!.instance(1), key);
    await first;
    expect(await broken()).toContain('a handler runs once');
  });

  it.each([
    ['retry', 'every answer is the same'],
    ['reject', 'an answer is not taken back'],
  ] as const)(
    'a completion after the response (%s): a client has seen what no retry will get',
    async (route, promise) => {
      await start({
        file: 'lib/core/claimed-executions.ts',
        from: 'const completion = await this.store.complete(claim, outcome, heldUntil).catch((error: unknown) => {',
        to: `void this.store.complete(claim, outcome, heldUntil).catch(() => undefined);
        return { kind: 'executed', outcome, recorded: true };
        const completion = await this.store.complete(claim, outcome, heldUntil).catch((error: unknown) => {`,
      });
      const key = randomUUID();
      const owner = rig!.instance(0);
      const held = owner.postgres.watch('complete', 'request', 'hold');
      const first: Sighting = await rig!.send(owner, key, { route });
      expect(first.status).toBe(201);
      await held.reached;
      owner.kill();
      expect(await broken()).toContain(promise);
    },
  );
});
