import { randomUUID } from 'node:crypto';
import { eventually } from '../support/eventually';
import { Rig, type Route } from './rig/rig';

const CLIENTS = 12;
const BETWEEN_CRASHES = 150;
/** The commit of an effect would flush the claims before it as well. */
const BARE = { effect: 'none' } as const;

/** `fsync` and `synchronous_commit` are on, as they are by default. */
describe('Postgres under traffic', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ instances: ['both', 'postgres', 'both'] });
  });
  afterAll(() => rig.stop());

  it.each<[string, NodeJS.Signals, readonly Route[]]>([
    ['is killed, all its processes', 'SIGKILL', ['reject', 'retry', 'fast']],
    ['is shut down in order', 'SIGINT', ['reject', 'retry', 'fast']],
  ])(
    '%s, three times: nothing that was acknowledged is lost, no handler runs twice',
    async (_, signal, routes) => {
      let crashed = false;
      const answered = (): number => rig.sightings.filter(({ nonce }) => nonce !== undefined).length;
      const clients = Array.from({ length: CLIENTS }, async (__, client) => {
        const route = routes[client % routes.length];
        for (let count = 0; !crashed; count++) {
          const key = randomUUID();
          const asked = rig.send(rig.instance(count % 3), key, { route, ...BARE, takes: count % 40 });
          const again = rig.send(rig.instance((count + 1) % 3), key, { route, ...BARE });
          await Promise.all([asked, again]);
        }
      });
      for (let crash = 0; crash < 3; crash++) {
        const enough = answered() + BETWEEN_CRASHES;
        await eventually(() => expect(answered()).toBeGreaterThan(enough));
        await rig.kill(rig.postgres, signal);
        await rig.restart(rig.postgres);
      }
      crashed = true;
      await Promise.all(clients);
      const { violations, losses } = await rig.verdict();
      expect(violations).toEqual([]);
      console.log(`${answered()} answers; forgotten under "fast": ${losses.length}`);
    },
  );
});

/** With a WAL writer this slow, only commits that wait for it are on disk. */
describe('Postgres is killed while a handler runs, long before its WAL is written unasked', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({
      instances: ['postgres', 'postgres', 'postgres'],
      postgresSettings: { wal_writer_delay: '10s' },
      forgets: 30_000,
    });
  });
  afterAll(() => rig.stop());

  it.each<[Route, number]>([
    ['reject', 1],
    ['retry', 1],
    ['fast', 2],
  ])(
    'durability: under "%s" the handler has run %s times in the end, with one answer',
    async (route, times) => {
      const key = randomUUID();
      const owner = rig.instance(0);
      const first = rig.send(owner, key, { route, ...BARE, hold: true });
      await owner.handling(key);
      await rig.kill(rig.postgres);
      await rig.restart(rig.postgres);
      const duplicate = rig.send(rig.instance(1), key, { route, ...BARE });
      if (times > 1) await rig.instance(1).handling(key);
      owner.finish(key);
      expect((await first).nonce ?? 'none').toBe((await duplicate).nonce);
      expect(rig.executions(key)).toHaveLength(times);
      const { violations, losses } = await rig.verdict();
      expect([violations, losses.length]).toEqual([[], times - 1]);
    },
  );
});
