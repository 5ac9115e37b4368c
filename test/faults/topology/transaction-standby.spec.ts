import { randomUUID } from 'node:crypto';
import { startSynchronousStandby, type RunningPostgres, type RunningStandby } from '../../../servers';
import { sql } from '../../support/database';
import { eventually } from '../../support/eventually';
import { Rig } from '../rig/rig';
import { clean } from './clean';
import { Traffic } from './traffic';

const ROUTE = { route: 'transaction' } as const;

describe('transactions on a Postgres with a synchronous standby', () => {
  let rig: Rig;
  let primary: RunningPostgres;
  let standby: RunningStandby;
  beforeEach(async () => {
    rig = await Rig.start();
    primary = rig.postgres;
    standby = await startSynchronousStandby(primary);
  });
  afterEach(async () => {
    await rig.stop();
    await Promise.all([primary.stop(), standby.stop()]);
  });

  it('lose no effect that was answered when the primary dies under load, and double none', async () => {
    const held = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, held, { ...ROUTE, hold: true });
    await owner.handling(held);
    const traffic = new Traffic(rig, ROUTE);
    await traffic.goesOn();

    await rig.kill(primary);
    rig.failOverPostgres(standby);
    await standby.promote();
    await traffic.goesOn();
    await traffic.stop();
    owner.finish(held);
    expect((await first).status).toBe(503);

    const { effects } = clean(await rig.verdict());
    expect(effects).toMatchObject({ doubled: 0, lost: 0 });
    expect(effects.keys).toBeGreaterThan(20);
    expect(effects.effects).toBe(effects.keys);
  });

  it('answer nothing that the standby has not confirmed: it may be lost, and the handler run again', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { ...ROUTE, hold: true });
    await owner.handling(key);
    rig.freeze(standby);
    // What waits in its socket would reach it yet: so nothing more is sent to it.
    await sql(primary.url, 'SELECT pg_terminate_backend(pid) FROM pg_stat_replication');
    owner.finish(key);
    expect((await first).status).toBe(503);
    // Its wait for the standby was given up, so it is committed here, and can be read.
    await eventually(async () => expect(await rig.effects(key)).toHaveLength(1));
    expect(await rig.send(rig.instance(1), key, ROUTE)).toMatchObject({ status: 503 });

    owner.kill();
    await rig.kill(primary);
    rig.thaw(standby);
    rig.failOverPostgres(standby);
    await standby.promote();
    const { effects } = clean(await rig.verdict());
    expect(effects).toEqual({ keys: 1, effects: 1, doubled: 0, lost: 0 });
  });
});
