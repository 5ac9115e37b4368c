import type { Duration } from '../../../lib';
import { randomUUID } from 'node:crypto';
import { startPgBouncer, type RunningServer } from '../../../servers';
import { eventually } from '../../support/eventually';
import { Rig } from '../rig/rig';
import { recordsInPostgres } from '../rig/stores';
import { clean } from './clean';

/** Enough for all of them to queue for two connections on a busy machine. */
const PATIENT = '10s';

describe('behind pgbouncer in transaction mode', () => {
  let rig: Rig;
  let pgbouncer: RunningServer;
  const start = async (timeout: Duration): Promise<void> => {
    rig = await Rig.start({ options: { postgres: { timeout } } });
    // Far fewer than the twelve and more that three processes open.
    pgbouncer = await startPgBouncer(rig.postgres.port, { poolSize: 2 });
    for (const { postgres } of rig.instances) postgres.redirect(pgbouncer.port);
  };
  afterEach(async () => {
    await rig.stop();
    await pgbouncer.stop();
  });

  const send = (count: number, keyOf: (index: number) => string, takes: number) =>
    Promise.all(
      Array.from({ length: count }, (_, index) => rig.send(rig.instance(index % 3), keyOf(index), { takes })),
    );

  it('200 duplicates of one key over three processes run the handler once', async () => {
    await start(PATIENT);
    const key = randomUUID();
    const seen = await send(200, () => key, 100);
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(seen.map(({ nonce }) => nonce)).size).toBe(1);
    expect(rig.executions(key)).toHaveLength(1);
    expect(clean(await rig.verdict())).toMatchObject({ keys: 1, executions: 1 });
  });

  it('50 keys at once over two connections each run once', async () => {
    await start(PATIENT);
    const keys = Array.from({ length: 50 }, () => randomUUID());
    const seen = await send(150, (index) => keys[index % 50] ?? '', 50);
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
    expect(clean(await rig.verdict())).toMatchObject({ keys: 50, executions: 50 });
  });

  it.each(['SIGSTOP', 'SIGKILL'] as const)(
    'a %s of it between claim and completion costs no outcome and no second execution',
    async (signal) => {
      await start('1s');
      const key = randomUUID();
      const owner = rig.instance(0);
      const first = rig.send(owner, key, { hold: true });
      await owner.handling(key);
      rig.faults.begin('postgres pooler gone');
      pgbouncer.kill(signal);
      owner.finish(key);
      const { status, nonce } = await first;
      expect(status).toBe(201);
      const meanwhile = await rig.send(rig.instance(1), key); // what Redis alone has
      expect(meanwhile).toMatchObject({ status: 201, nonce });

      if (signal === 'SIGSTOP') pgbouncer.kill('SIGCONT');
      else await pgbouncer.restart();
      rig.faults.end('postgres pooler gone');
      await eventually(async () => {
        const recorded = await recordsInPostgres(rig.databaseUrl);
        expect(recorded.map((record) => record.nonce)).toEqual([nonce]);
      });
      expect(clean(await rig.verdict())).toMatchObject({ keys: 1, executions: 1 });
    },
  );
});
