import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { sql } from '../support/database';
import { eventually } from '../support/eventually';
import type { Instance } from './rig/instance';
import { Rig, type Route } from './rig/rig';

type Fault = [name: string, begin: (owner: Instance) => unknown, end: (owner: Instance) => unknown];
const ROUTES = ['reject', 'retry'] as const;

describe('Postgres goes away', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ instances: ['both', 'postgres', 'both'] });
  });
  afterAll(() => rig.stop());
  beforeEach(() => Promise.all(rig.instances.map((one) => rig.sendUntilAnswered(one, randomUUID()))));
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  const FAULTS: readonly Fault[] = [
    ['it is refused', ({ postgres }) => postgres.set('refuse'), ({ postgres }) => postgres.set('pass')],
    ['it is a black hole', ({ postgres }) => postgres.set('black-hole'), ({ postgres }) => postgres.set('pass')],
    ['its replies are lost', ({ postgres }) => postgres.set('drop-replies'), ({ postgres }) => postgres.set('pass')],
    ['it is killed', () => rig.kill(rig.postgres), () => rig.restart(rig.postgres)],
    ['it is shut down', () => rig.kill(rig.postgres, 'SIGINT'), () => rig.restart(rig.postgres)],
  ]; // prettier-ignore
  const CASES = ROUTES.flatMap((route) => FAULTS.map((fault): [Route, ...Fault] => [route, ...fault]));

  it.each(CASES)(
    'between handler and completion (%s, %s): with Redis 201 and replays of it meanwhile, without 503; then the retry gets the first answer',
    async (route, _, begin, end) => {
      for (const [owner, expected] of [
        [rig.instance(0), 201],
        [rig.instance(1), 'outcome-not-recorded'],
      ] as const) {
        const key = randomUUID();
        const first = rig.send(owner, key, { route, hold: true });
        await owner.handling(key);
        await begin(owner);
        owner.finish(key);
        const seen = await first;
        expect(seen.problem ?? seen.status).toBe(expected);
        const meanwhile = await rig.send(owner, key, { route });
        if (expected === 201) expect(meanwhile.nonce).toBe(seen.nonce);
        await end(owner);
        const retry = await rig.sendUntilAnswered(owner, key, { route });
        expect(rig.executions(key).map(({ nonce }) => nonce)).toEqual([retry.nonce]);
      }
    },
  );

  it('for 5 s without a sign (a black hole): its pool is healthy afterwards, the next requests succeed at once', async () => {
    const owner = rig.instance(0);
    await owner.postgres.set('black-hole');
    const before = randomUUID();
    const lost = Array.from({ length: 20 }, (_, i) => rig.send(owner, `${before}-${i}`, { route: 'reject' }));
    await delay(5_000);
    expect(new Set((await Promise.all(lost)).map(({ problem }) => problem))).toEqual(
      new Set(['store-unavailable']),
    );
    await owner.postgres.set('pass');
    const after = randomUUID();
    const next = Array.from({ length: 20 }, (_, i) => rig.send(owner, `${after}-${i}`, { route: 'reject' }));
    expect(new Set((await Promise.all(next)).map(({ status }) => status))).toEqual(new Set([201]));
    await eventually(async () => {
      const sessions = await sql<{ count: number }>(
        rig.databaseUrl,
        `SELECT count(*)::int AS count FROM pg_stat_activity
         WHERE application_name LIKE '%idempotency'`,
      );
      expect(sessions[0]?.count).toBeLessThanOrEqual(3 * 4); // poolSize of each instance: none is left over
    });
  });

  it.each(
    ROUTES.flatMap((route) =>
      ['claim', 'complete', 'release', 'renew'].map((statement): [Route, string] => [route, statement]),
    ),
  )(
    'as an administrator ends all its sessions (%s, before the %s): the client gets its answer as if nothing had been',
    async (route, statement) => {
      for (const owner of [rig.instance(0), rig.instance(1)]) {
        const key = randomUUID();
        await rig.sendUntilAnswered(owner, randomUUID()); // over sessions that have answered before
        const fails = statement === 'release' ? { fails: 500 } : {};
        const at = owner.postgres.watch(statement, 'request', 'hold');
        const first = rig.send(owner, key, { route, ...fails, hold: statement === 'renew' });
        await at.reached;
        await rig.endSessions();
        at.resume();
        owner.finish(key);
        expect((await first).status).toBe(statement === 'release' ? 500 : 201);
        await rig.sendUntilAnswered(rig.instance(2), key, { route });
        expect(rig.executions(key).filter(({ failed }) => !failed)).toHaveLength(1);
      }
    },
  );
});
